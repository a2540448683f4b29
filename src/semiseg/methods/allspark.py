"""AllSpark: deep labeled features are reconstructed from unlabeled channels; otherwise plain self-training."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from semiseg.arguments import checked
from semiseg.data.batch import SemiBatch, Views, ViewSpec
from semiseg.errors import InputError
from semiseg.methods.base import Parts, SemiMethod, StepOutput
from semiseg.methods.networks import in_mode
from semiseg.models.allspark import BridgedSegmentor, ChannelAttentionBridge, SemanticMemory
from semiseg.models.segmentor import Segmentor
from semiseg.ops.pseudo import PseudoLabels, probabilities, pseudo_label
from semiseg.ops.ranges import Count, Share, ShareBelowOne

VIEWS = {
    "labeled": ViewSpec(labeled_strong=True),
    "unlabeled": ViewSpec(strong=1),
    "none": ViewSpec(),
}


@checked
class AllSpark(SemiMethod):
    """Labeled maps query channels of unlabeled images, stored by class; the student pseudo-labels the unlabeled images.

    No teacher, no confidence threshold, no mixing, no weights: every pixel of an unlabeled crop is used.

    Source: Wang et al. 2024 (AllSpark, CVPR, arXiv 2403.01818), sections 2 to 6 of the released code: pseudo-labels in
        eval mode, jointly for the images of one process; color augmentation of labeled images; one pass of labeled and
        unlabeled images in train mode; channels grouped by logits, where the paper uses soft predictions; padded pixels
        count.
    Differs from the released code: the warm-up in epochs is a fraction of the run (5 of 80 on VOC and 15 of 240 on
        Cityscapes, both 0.0625), also for COCO, where the code has none. Validation scores every image separately.
        A labeled crop without labels has loss 0, not NaN. Labeled and unlabeled batches may differ in size, and crops
        need not be square. Any encoder works; the paper uses MiT-B5, and finds no gain with a ResNet (73.7 vs.
        UniMatch's 77.2 on VOC 183). Its checkpoints cannot be loaded by name; see :class:`ChannelAttentionBridge`.

    Args:
        memory_warmup: fraction of the run after which labeled maps read the memory instead of the unlabeled maps of
            their batch; the memory is filled from the first step.
        unsup_warmup: fraction of the run over which the weight of the unlabeled term rises linearly to 1; ours. 0, as
            in the code: the weight is 1 from the first step, when labels are still random.
        strong_on: which images get color jitter and blur in training; ``labeled`` as in the code.
        scores: scores that group channels by class: ``logits`` (code) or their ``softmax`` (paper).
        pseudo_label_per_image: pseudo-label each image separately, as in validation.
        heads, dropout, use_memory, grouping, memory_sync, memory_at_eval: see :class:`ChannelAttentionBridge`.
        use_bridge: False: the same training without the block, the paper's baseline.

    Raises:
        InputError: for conflicting arguments, or parts without a crop size.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        memory_warmup: Share = 0.0625,
        unsup_warmup: Share = 0.0,
        strong_on: Literal["labeled", "unlabeled", "none"] = "labeled",
        scores: Literal["logits", "softmax"] = "logits",
        pseudo_label_per_image: bool = False,
        heads: Count = 2,
        dropout: ShareBelowOne = 0.1,
        use_bridge: bool = True,
        use_memory: bool = True,
        grouping: Literal["score", "random"] = "score",
        memory_sync: Literal["rank0", "gather", "local"] = "rank0",
        memory_at_eval: bool = False,
    ) -> None:
        if memory_at_eval and not (use_bridge and use_memory):
            raise InputError("method.memory_at_eval=true: there is no memory; set use_bridge=true and use_memory=true")
        if min(parts.crop_size) < 1:
            raise InputError(f"crop_size={parts.crop_size}: the memory needs the size of the training crops")

        def network() -> Segmentor:
            plain = parts.network()
            if not use_bridge:
                return plain
            bridge = ChannelAttentionBridge(
                plain.encoder.channels[-1],
                len(parts.classes),
                plain.map_size(*parts.crop_size),
                heads=heads,
                dropout=dropout,
                use_memory=use_memory,
                grouping=grouping,
                memory_sync=memory_sync,
                memory_at_eval=memory_at_eval,
            )
            return BridgedSegmentor(plain, bridge)

        super().__init__(dataclasses.replace(parts, network=network))
        self.view_spec, self.strong_on = VIEWS[strong_on], strong_on
        self.unsup_warmup = unsup_warmup
        self.memory_warmup, self.scores, self.joint = memory_warmup, scores, not pseudo_label_per_image
        # The memory synchronizes itself; DDP would broadcast rank 0's before every forward pass.
        self._ddp_params_and_buffers_to_ignore = [n for n, _ in self.named_buffers() if ".memory." in n]

    def step(self, batch: SemiBatch) -> StepOutput:
        """Loss = (CE(labeled) + weight * CE(unlabeled, own labels)) / 2; the weight is 1 after ``unsup_warmup``."""
        u, n_l = batch.unlabeled, len(batch.labeled)
        pseudo, scores = self.pseudo_labels(u)

        x_u = u.strong[0] if self.strong_on == "unlabeled" else u.weak
        features = self.student.features(torch.cat([batch.labeled, x_u]))
        read_memory = self.memory is not None and self.progress >= self.memory_warmup
        decoded = self.decode(features, n_labeled=n_l, scores=scores, read_memory=read_memory)
        logits_l, logits_u = self.student.classify(decoded, u.weak.shape[-2:]).split([n_l, len(x_u)])

        loss_sup = self.sup_loss(logits_l, batch.labels)
        loss_unsup = F.cross_entropy(logits_u, pseudo.labels, reduction="none").mean()
        terms = {"loss_sup": loss_sup, "loss_unsup": loss_unsup}
        if self.memory is not None:
            terms["memory_filled"] = self.memory.filled_ratio()
        in_image = ~u.padded  # only for the diagnostics: the loss counts every pixel
        weight = min(1.0, self.progress / self.unsup_warmup) if self.unsup_warmup else 1.0
        return StepOutput(loss=(loss_sup + weight * loss_unsup) / 2, terms=terms, pseudo=pseudo, keep=in_image)

    @torch.no_grad()
    def pseudo_labels(self, u: Views) -> tuple[PseudoLabels, Tensor]:
        """Pseudo-labels of the weak views by the student in eval mode, and class scores at the deepest map's size."""
        with in_mode(self.student, train=False):
            features = self.student.features(u.weak)
            decoded = self.decode(features, read_memory=False, joint=self.joint)
            logits = self.student.classify(decoded, u.weak.shape[-2:])
        prob = probabilities(logits)
        scores = logits.float() if self.scores == "logits" else prob
        scores = F.interpolate(scores, features[-1].shape[-2:], mode="bilinear", align_corners=False)
        return pseudo_label(prob, u.padded), scores

    @property
    def memory(self) -> SemanticMemory | None:
        """The memory of the block, if there is one."""
        return self.student.bridge.memory if isinstance(self.student, BridgedSegmentor) else None

    def decode(self, features: list[Tensor], **how: Any) -> Tensor:
        """The decoder's map, through the block if there is one; ``how``: see :class:`ChannelAttentionBridge`."""
        if isinstance(self.student, BridgedSegmentor):
            return self.student.decode(features, **how)
        return self.student.decode(features)
