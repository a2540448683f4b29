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
    """A model of the labeled images labels the stable half of the others, the model of these the rest; then all learn.

    Stage 1 learns labeled images alone. Ahead of stage 2 the unlabeled images are ranked by how well its predictions
    after 1/3 and 2/3 agree with its last ones; stage 2 learns the more stable half too, stage 3 all images. Each stage
    starts from a new network, without momentum, at the full learning rate, whose schedule ends with the stage.

    Source: Yang et al. 2022 (CVPR, arXiv 2106.05095), numbers of the released code.
    Differs from the released code: a frozen network labels the crop of a step, where the code labels whole images once
        and stores them; stage 1 hands on its last network, not the best on the validation set; a batch has fixed
        numbers of labeled and unlabeled images, those of the other half are not learned in stage 2 but take part in
        BatchNorm; CutOut boxes are drawn by the law of UniMatch.

    Args:
        stages: shares of the run at which stages 1 and 2 end.
        label_scales: a crop is labeled at these multiples of its size; [1.0] takes an eighth of the time.
        label_flip: and mirrored as well.
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
        # Stage 1 after 1/3, 2/3 and all of it; once images are ranked, the first gives its place to stage 2.
        self.snapshots = nn.ModuleList(frozen_copy(self.student) for _ in range(3))
        self.reliable: frozenset[str] = frozenset()

    def step(self, batch: SemiBatch) -> StepOutput:
        """Loss = CE over the labeled and the pseudo-labeled images together."""
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
        """Labels of the weak views: of stable images by the model of stage 1, of the others by that of stage 2."""
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
        """Snapshots of stage 1, and the two borders."""
        first, second, _ = self.ends
        snapshots = [(round(first * share / 3), partial(self.keep_student, share - 1)) for share in (1, 2)]
        return [*snapshots, (first, self.begin_second_stage), (second, self.begin_third_stage)]

    def keep_student(self, place: int) -> None:
        """Copy the student into a snapshot."""
        copy_to_all(self.student, self.snapshots[place])

    def begin_second_stage(self) -> None:
        """Rank the unlabeled images, and start anew."""
        self.keep_student(2)
        self.reliable = self.stable_half()
        self.start_anew()

    def begin_third_stage(self) -> None:
        """Keep the model of stage 2, and start anew."""
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
        """Which images are reliable; how many there are is not known when a method is built, so it is no buffer."""
        checkpoint["reliable"] = sorted(self.reliable)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        self.reliable = frozenset(checkpoint["reliable"])

    def train(self, mode: bool = True) -> Self:
        """Snapshots stay in eval mode."""
        super().train(mode)
        self.snapshots.eval()
        return self
