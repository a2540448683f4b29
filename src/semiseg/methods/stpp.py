"""ST++: self-training in three stages, stable images first, as one run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Self, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from semiseg.arguments import checked
from semiseg.data.batch import IGNORE, SemiBatch, Views, ViewSpec
from semiseg.inference import TestTimeAugmentation, Whole, most_probable
from semiseg.methods.base import Parts, StepOutput
from semiseg.methods.networks import frozen_copy
from semiseg.methods.stages import StagedMethod, copy_to_all
from semiseg.ops.distributed import total
from semiseg.ops.losses import cross_entropy
from semiseg.ops.mixing import box_mask
from semiseg.ops.pseudo import PseudoLabels, pseudo_label
from semiseg.ops.ranges import Positive, Share
from semiseg.ops.self_training import erased, most_stable, stability


@checked
class STPlusPlus(StagedMethod):
    """A model trained on labeled images labels the stable half of the others, the next model labels the rest.

    Stage 1 learns only the labeled images. Before stage 2 the unlabeled images are ranked by how well the predictions
    after 1/3 and 2/3 of stage 1 agree with the final ones; stage 2 also learns the more stable half, stage 3 all
    images. Each stage starts from a new network, without momentum, at the full learning rate, with a schedule that ends
    with the stage.

    Source: Yang et al. 2022 (CVPR, arXiv 2106.05095), values of the released code.
    Differs from the released code: a frozen network labels the crops of each step, while the code labels whole images
        once and stores the labels; stage 1 passes on its last network, not the best on the validation set; a batch has
        fixed numbers of labeled and unlabeled images, and in stage 2 images of the other half are not learned but take
        part in BatchNorm; CutOut boxes are drawn as in UniMatch.

    Args:
        stages: fractions of the run at which stages 1 and 2 end.
        label_scales: a crop is labeled at these multiples of its size; [1.0] takes an eighth of the time.
        label_flip: also label a flipped copy at every scale.
    """

    view_spec = ViewSpec(strong=1)

    def __init__(
        self,
        parts: Parts,
        *,
        stages: tuple[Share, Share] = (0.3333, 0.6667),
        label_scales: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.5, 0.75, 1.0, 1.5, 2.0),
        label_flip: bool = True,
    ) -> None:
        super().__init__(parts, ends=stages)
        self.labeling = TestTimeAugmentation(Whole(), label_scales, label_flip)
        # Stage 1 after 1/3, 2/3 and 3/3; once images are ranked, the first is replaced by the model of stage 2.
        self.snapshots = nn.ModuleList(frozen_copy(self.student) for _ in range(3))
        self.reliable: frozenset[str] = frozenset()

    def step(self, batch: SemiBatch) -> StepOutput:
        """Loss = joint CE over labeled and pseudo-labeled images."""
        u, size, stage = batch.unlabeled, batch.labels.shape[-2:], self.stage_at(self.steps_done)
        if stage == 0:
            loss = self.sup_loss(self.student(batch.labeled), batch.labels)
            return StepOutput(loss=loss, terms={"loss_sup": loss, "loss_unsup": torch.zeros_like(loss)})
        pseudo = self.labeled_by_snapshots(u)
        learned = torch.tensor([stage == 2 or i in self.reliable for i in u.ids])
        keep = ~u.padded & learned.to(u.padded.device, non_blocking=True)[:, None, None]

        cut = box_mask(u.boxes[0], *size)
        target = pseudo.labels.masked_fill(cut | ~keep, IGNORE)
        logits_l, logits_u = self.student_logits(batch.labeled, erased(u.strong[0], cut))
        loss = self.sup_loss(torch.cat([logits_l, logits_u]), torch.cat([batch.labels, target]))
        terms = {
            "loss_sup": cross_entropy(logits_l.detach(), batch.labels),
            "loss_unsup": cross_entropy(logits_u.detach(), target),
        }
        return StepOutput(loss=loss, terms=terms, pseudo=pseudo, keep=keep)

    def labeled_by_snapshots(self, u: Views) -> PseudoLabels:
        """Pseudo-labels of the weak views: stable images by the model of stage 1, the others by that of stage 2."""
        stable, other = self.snapshots[2], self.snapshots[0 if self.stage_at(self.steps_done) == 2 else 2]
        networks = [stable if image_id in self.reliable else other for image_id in u.ids]
        prob: dict[int, Tensor] = {}
        for network in dict.fromkeys(networks):  # one pass for all images of a network
            places = [place for place, its in enumerate(networks) if its is network]
            found = self.labeling(network, torch.stack([u.weak[place] for place in places]))
            prob.update(zip(places, found))
        return pseudo_label(torch.stack([prob[place] for place in range(len(networks))]), u.padded)

    # -- between the stages -----------------------------------------------------------------------------------

    def work(self) -> list[tuple[int, Callable[[], None]]]:
        """The snapshots of stage 1, and the two stage transitions."""
        first, second, _ = self.ends
        snapshots = [(round(first * share / 3), partial(self.keep_student, share - 1)) for share in (1, 2)]
        return [*snapshots, (first, self.begin_second_stage), (second, self.begin_third_stage)]

    def keep_student(self, place: int) -> None:
        """Copy the student into a snapshot."""
        copy_to_all(self.student, self.snapshots[place])

    def begin_second_stage(self) -> None:
        """Rank the unlabeled images, and restart from new weights."""
        self.keep_student(2)
        self.reliable = self.stable_half()
        self.start_anew()

    def begin_third_stage(self) -> None:
        """Keep the model of stage 2, and restart from new weights."""
        self.keep_student(0)
        self.start_anew()

    def stable_half(self) -> frozenset[str]:
        """Ids of the more stable half of the unlabeled images."""
        datamodule: Any = cast(Any, self.trainer).datamodule
        places = {image_id: place for place, image_id in enumerate(datamodule.unlabeled)}
        scores = torch.zeros(len(places), device=self.device)
        for group in datamodule.whole_unlabeled(self.device):
            *earlier, final = (most_probable(self.inference(net, group.images)) for net in self.snapshots)
            scores[[places[i] for i in group.ids]] = stability(earlier, final, self.num_classes)
        return frozenset(datamodule.unlabeled[place] for place in most_stable(total(scores)).tolist())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the reliable images; not a buffer, as their number is unknown when the method is built."""
        checkpoint["reliable"] = sorted(self.reliable)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the reliable images."""
        self.reliable = frozenset(checkpoint["reliable"])

    def train(self, mode: bool = True) -> Self:
        """Snapshots stay in eval mode."""
        super().train(mode)
        self.snapshots.eval()
        return self
