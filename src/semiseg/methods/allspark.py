"""AllSpark: deep labeled features are rebuilt from unlabeled channels; otherwise plain self-training."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from semiseg.data.batch import SemiBatch, Views, ViewSpec
from semiseg.methods.base import Parts, SemiMethod, StepOutput, in_mode
from semiseg.models.allspark import ChannelAttentionBridge
from semiseg.ops.pseudo import PseudoLabels, probabilities, pseudo_label

VIEWS = {
    "labeled": ViewSpec(labeled_strong=True),
    "unlabeled": ViewSpec(strong=1),
    "none": ViewSpec(),
}


class AllSpark(SemiMethod):
    """Labeled maps query channels of unlabeled images, kept by class; the student labels its own unlabeled images.

    No teacher, no confidence threshold, no mixing, no weights: every pixel of an unlabeled crop is learned from.

    Source: Wang et al. 2024 (AllSpark, CVPR, arXiv 2403.01818), sections 2 to 6 of the released code: pseudo-labels in
        eval mode, jointly for the images of one process; colors on the labeled side; one pass of labeled and
        unlabeled images in train mode; logits where the paper groups by soft predictions; padded pixels count.
    Differs from the released code: epochs of warm-up are a share of the run (5 of 80 on VOC and 15 of 240 on
        Cityscapes, both 0.0625); COCO, where the code lacks it, gets the same. Validation scores every image alone.
        A labeled crop without labels has loss 0, not NaN. Numbers of images need not be equal, nor crops square.
        Any encoder will do; the paper's is MiT-B5, and finds that a ResNet does not gain (73.7 against UniMatch's 77.2
        on VOC 183). Its checkpoints cannot be loaded by name; see :class:`ChannelAttentionBridge`.

    Args:
        memory_warmup: share of the run, in [0, 1], from which labeled maps read the memory instead of the unlabeled
            maps of their batch; it is filled from the first step on.
        strong_on: which images of the training pass get colors and blur; ``labeled`` is the code's.
        scores: what groups channels by class: ``logits`` (code) or their ``softmax`` (paper).
        pseudo_label_per_image: the pass that labels sees each image alone, as validation does.
        heads, dropout, use_memory, grouping, memory_sync, memory_at_eval: see :class:`ChannelAttentionBridge`.
        use_bridge: False: the same training without the block, the paper's baseline.

    Raises:
        ValueError: for a value that is not allowed, or parts without a crop size.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        memory_warmup: float = 0.0625,
        strong_on: Literal["labeled", "unlabeled", "none"] = "labeled",
        scores: Literal["logits", "softmax"] = "logits",
        pseudo_label_per_image: bool = False,
        heads: int = 2,
        dropout: float = 0.1,
        use_bridge: bool = True,
        use_memory: bool = True,
        grouping: Literal["score", "random"] = "score",
        memory_sync: Literal["rank0", "gather", "local"] = "rank0",
        memory_at_eval: bool = False,
    ) -> None:
        for key, value, valid, allowed in (
            ("memory_warmup", memory_warmup, 0 <= memory_warmup <= 1, "0 to 1"),
            ("strong_on", strong_on, strong_on in VIEWS, ", ".join(VIEWS)),
            ("scores", scores, scores in ("logits", "softmax"), "logits, softmax"),
            ("heads", heads, heads >= 1, "1, 2, ..."),
            ("dropout", dropout, 0 <= dropout < 1, "0 up to but not 1"),
            ("grouping", grouping, grouping in ("score", "random"), "score, random"),
            ("memory_sync", memory_sync, memory_sync in ("rank0", "gather", "local"), "rank0, gather, local"),
            ("memory_at_eval", memory_at_eval, not memory_at_eval or (use_bridge and use_memory), "false: no memory"),
        ):
            if not valid:
                raise ValueError(f"method.{key}={value!r}: allowed are {allowed}")
        if min(parts.crop_size) < 1:
            raise ValueError(f"crop_size={parts.crop_size}: the memory needs the size of the training crops")
        super().__init__(parts)
        self.view_spec = VIEWS[strong_on]
        self.memory_warmup, self.scores, self.joint = memory_warmup, scores, not pseudo_label_per_image
        if use_bridge:
            self.student.bridge = ChannelAttentionBridge(
                self.student.encoder.channels[-1],
                self.num_classes,
                self.student.map_size(*parts.crop_size),
                heads=heads,
                dropout=dropout,
                use_memory=use_memory,
                grouping=grouping,
                memory_sync=memory_sync,
                memory_at_eval=memory_at_eval,
            )
            # The memory synchronises itself; DDP would copy rank 0's ahead of every forward.
            self._ddp_params_and_buffers_to_ignore = [n for n, _ in self.named_buffers() if ".memory." in n]

    def step(self, batch: SemiBatch) -> StepOutput:
        """Loss = (CE(labeled) + CE(unlabeled, own labels)) / 2."""
        u, n_l = batch.unlabeled, len(batch.labeled)
        pseudo, scores = self.pseudo_labels(u)

        x_u = u.strong[0] if self.view_spec.strong else u.weak
        *fine, deepest = self.student.features(torch.cat([batch.labeled, x_u]))
        terms = {}
        if (bridge := self.student.bridge) is not None:
            read_memory = bridge.memory is not None and self.progress >= self.memory_warmup
            deepest = bridge(deepest, n_l, scores, read_memory=read_memory)
            if bridge.memory is not None:
                terms["memory_filled"] = bridge.memory.filled_ratio()
        decoded = self.student.decoder([*fine, deepest])
        logits_l, logits_u = self.student.classify(decoded, u.weak.shape[-2:]).split([n_l, len(x_u)])

        loss_sup = self.sup_loss(logits_l, batch.labels)
        loss_unsup = F.cross_entropy(logits_u, pseudo.labels)
        # For the diagnostics alone, which leave out what lies outside the images.
        return StepOutput(
            loss=(loss_sup + loss_unsup) / 2,
            terms={"loss_sup": loss_sup, "loss_unsup": loss_unsup} | terms,
            pseudo=pseudo,
            keep=~u.padded,
        )

    @torch.no_grad()
    def pseudo_labels(self, u: Views) -> tuple[PseudoLabels, Tensor]:
        """Labels of the weak views by the student in eval mode, and class scores at the size of the deepest map."""
        with in_mode(self.student, train=False):
            *fine, deepest = self.student.features(u.weak)
            size = deepest.shape[-2:]
            if self.student.bridge is not None:
                deepest = self.student.bridge(deepest, read_memory=False, joint=self.joint)
            logits = self.student.classify(self.student.decoder([*fine, deepest]), u.weak.shape[-2:])
        prob = probabilities(logits)
        scores = logits.float() if self.scores == "logits" else prob
        scores = F.interpolate(scores, size, mode="bilinear", align_corners=False)
        return pseudo_label(prob, u.padded), scores
