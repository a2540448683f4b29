"""AllSpark's block: deep labeled features are reconstructed from channels of unlabeled features."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.models.layers import resize
from semiseg.models.segmentor import Segmentor
from semiseg.ops.channels import group_channels, push_channels, standardized_attention
from semiseg.ops.distributed import from_first_rank, gather


class SemanticMemory(nn.Module):
    """A first-in-first-out queue of unlabeled channels per class: K * C * h * w floats.

    At the paper's crop sizes and C = 512: VOC 11.9 MiB, Cityscapes 25.1 MiB, COCO 45.7 MiB. Slots are initialized with
    unit-variance noise, about the scale of the stored channels. A state dict with another map size can be loaded; the
    queues are then left unchanged, as they are not needed at inference.

    Args:
        num_classes: K.
        channels: C, also the number of slots per class: a full queue is read like a map.
        map_size: (h, w).
        sync: behavior with several processes. ``rank0``: all start a step with the queues of rank 0 (as in the released
            code, by DDP's broadcast of buffers); ``gather``: the channels of all ranks are stored on every rank;
            ``local``: each process has its own queues, and the checkpoint contains those of rank 0.
    """

    def __init__(
        self, num_classes: int, channels: int, map_size: tuple[int, int], sync: Literal["rank0", "gather", "local"]
    ) -> None:
        super().__init__()
        self.map_size, self.sync = map_size, sync
        self.mem: Tensor
        self.ptr: Tensor
        self.filled: Tensor
        self.register_buffer("mem", torch.randn(num_classes, channels, map_size[0] * map_size[1]))
        self.register_buffer("ptr", torch.zeros(num_classes, dtype=torch.long))
        self.register_buffer("filled", torch.zeros(num_classes, dtype=torch.long))

    def push(self, channels: Tensor, classes: Tensor) -> None:
        """Append channels (B, C, h * w) to the queues of their classes (B, C), image by image."""
        channels, classes = channels.flatten(0, 1), classes.flatten()
        if self.sync == "rank0":
            for state in self.buffers():
                from_first_rank(state)
        elif self.sync == "gather":
            channels, classes = gather(channels), gather(classes)
        push_channels(self.mem, self.ptr, self.filled, channels, classes)

    def read(self, size: tuple[int, int]) -> Tensor:
        """The queues as K maps (K, C, h * w), resized if ``size`` = (h, w) differs from training."""
        if size == self.map_size:
            return self.mem
        return resize(self.mem.unflatten(2, self.map_size), size, align_corners=False).flatten(2)

    def filled_ratio(self) -> Tensor:
        """Share of the slots written at least once, a scalar in [0, 1]."""
        return self.filled.sum() / (self.mem.shape[0] * self.mem.shape[1])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        stored = state_dict.get(f"{prefix}mem")
        if stored is not None and stored.shape[:2] == self.mem.shape[:2] and stored.shape != self.mem.shape:
            state_dict.update({f"{prefix}{name}": state for name, state in self.named_buffers()})
        super()._load_from_state_dict(state_dict, prefix, *args)


class ChannelAttention(nn.Module):
    """Projections of one branch, and attention between channels.

    Args:
        channels: C.
        heads: the projections have heads * C channels.
        split: each head attends separately (self branch); False: a single wide head over all projected channels
            (cross branch).
        dropout: dropout of the attention probabilities and of the result.
    """

    def __init__(self, channels: int, heads: int, *, split: bool, dropout: float) -> None:
        super().__init__()
        self.heads = heads if split else 1
        self.q, self.k, self.v = (nn.Linear(channels, heads * channels, bias=False) for _ in range(3))
        self.out = nn.Linear(heads * channels, channels, bias=False)
        self.dropout = dropout
        for linear in (self.q, self.k, self.v, self.out):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, x: Tensor, sources: Tensor, *, shared: bool) -> Tensor:
        """Queries from ``x`` (B, N, C), keys and values from ``sources``; (B, N, C).

        Args:
            x: one map of N positions per image.
            sources: (M, N, C); with ``shared``, every image reads the channels of all M maps, otherwise image i only
                those of map i.
            shared: see ``sources``.
        """
        q, k, v = (project(y).mT for project, y in ((self.q, x), (self.k, sources), (self.v, sources)))
        if shared:
            k, v = k.flatten(0, 1)[None], v.flatten(0, 1)[None]
        q, k, v = (y.unflatten(1, (self.heads, -1)) for y in (q, k, v))
        mixed = standardized_attention(q, k, v, dropout=self.dropout if self.training else 0.0)
        # Column c * heads + t contains channel c of head t, as in the released code.
        mixed = mixed.transpose(1, 2).flatten(1, 2)
        return F.dropout(self.out(mixed.mT), self.dropout, self.training)


class ChannelAttentionBridge(nn.Module):
    """The block between encoder and decoder: labeled maps read unlabeled channels, unlabeled maps attend to themselves.

    1x1 convolution, GELU, LayerNorm, attention with a residual from before the LayerNorm, LayerNorm, 1x1 convolution,
    GELU. In the cross branch, labeled maps query the semantic memory or the unlabeled maps of the batch; in the self
    branch, each unlabeled map attends to itself. At inference the cross branch reads the image itself, and neither the
    memory nor the self branch is used. 4,721,664 parameters at C = 512.

    Args:
        channels: C of the encoder's deepest map.
        num_classes: K.
        map_size: (h, w) of that map in training, for the memory.
        heads: see :class:`ChannelAttention`.
        dropout: dropout of the attention probabilities and of the result of each branch.
        use_memory: False: labeled maps always read the unlabeled maps of the batch.
        grouping: ``score``: a channel belongs to the class with the most similar score map; ``random``: to any class.
        memory_sync: see :class:`SemanticMemory`.
        memory_at_eval: the cross branch reads the memory at inference too.

    Source: Wang et al. 2024 (AllSpark, CVPR, arXiv 2403.01818) and the released code. The 2C-wide projections, the
        single head of the cross branch, the noise in empty slots and the order group, update, read are from the code.
    Differs from the released code: same function, different arithmetic (:func:`standardized_attention`); at inference
        every image reads only itself unless ``joint``, in the code always the whole batch; maps need not be square. The
        paper's memory at inference requires crops of the training size; here the queues are resized to any map.
        Weights have the layout of the released code, including the columns of ``out``, but different names.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        map_size: tuple[int, int],
        *,
        heads: int = 2,
        dropout: float = 0.1,
        use_memory: bool = True,
        grouping: Literal["score", "random"] = "score",
        memory_sync: Literal["rank0", "gather", "local"] = "rank0",
        memory_at_eval: bool = False,
    ) -> None:
        super().__init__()
        self.grouping, self.memory_at_eval = grouping, memory_at_eval
        self.map_in = nn.Conv2d(channels, channels, kernel_size=1)
        self.norm_in = nn.LayerNorm(channels, eps=1e-6)
        self.cross = ChannelAttention(channels, heads, split=False, dropout=dropout)
        self.within = ChannelAttention(channels, heads, split=True, dropout=dropout)
        self.norm_out = nn.LayerNorm(channels, eps=1e-6)
        self.map_out = nn.Conv2d(channels, channels, kernel_size=1)
        self.memory = SemanticMemory(num_classes, channels, map_size, memory_sync) if use_memory else None

    def forward(
        self,
        x: Tensor,
        n_labeled: int | None = None,
        scores: Tensor | None = None,
        *,
        read_memory: bool | None = None,
        joint: bool = False,
    ) -> Tensor:
        """Maps (B, C, h, w) to the same shape; in training mode if ``n_labeled`` is given, otherwise for inference.

        Args:
            x: in training, labeled images first; at inference, any size.
            n_labeled: number of labeled images; the others are unlabeled.
            scores: (B_u, K, H, W) class scores of the unlabeled images, used to group their channels.
            read_memory: the cross branch reads the memory instead of maps of the batch; in training, after the memory
                has been updated with this batch. None: False in training, ``memory_at_eval`` at inference.
            joint: at inference, every image reads the channels of all images of the batch (the released code).
        """
        embedded = F.gelu(self.map_in(x)).flatten(2).mT
        tokens = self.norm_in(embedded)
        size = (x.shape[2], x.shape[3])
        if n_labeled is None:
            read = self.memory_at_eval if read_memory is None else read_memory
            attended = self.cross(tokens, self.queues(size) if read else tokens, shared=read or joint)
        else:
            labeled, unlabeled = tokens.split([n_labeled, len(tokens) - n_labeled])
            self.remember(unlabeled.mT, scores, size)
            sources = self.queues(size) if read_memory else unlabeled
            attended = torch.cat(
                [self.cross(labeled, sources, shared=True), self.within(unlabeled, unlabeled, shared=False)]
            )
        return F.gelu(self.map_out(self.norm_out(attended + embedded).mT.unflatten(2, size)))

    def remember(self, channels: Tensor, scores: Tensor | None, size: tuple[int, int]) -> None:
        """Group the channels (B_u, C, h * w) by class and append them to the memory."""
        if self.memory is None:
            return
        if self.grouping == "random":
            classes = torch.randint(len(self.memory.mem), channels.shape[:2], device=channels.device)
        else:
            assert scores is not None
            classes = group_channels(scores, channels, size)
        self.memory.push(channels, classes)

    def queues(self, size: tuple[int, int]) -> Tensor:
        """The memory as the sources of the cross branch, (K, h * w, C)."""
        assert self.memory is not None
        return self.memory.read(size).mT


class BridgedSegmentor(Segmentor):
    """A network whose deepest map passes through the block before the decoder.

    Args:
        network: reused, including its weights.
        bridge: the block.
    """

    def __init__(self, network: Segmentor, bridge: ChannelAttentionBridge) -> None:
        super().__init__(network.encoder, network.decoder, network.num_classes, classifier=network.classifier)
        self.bridge = bridge

    def decode(self, features: list[Tensor], **how: Any) -> Tensor:
        """As in :class:`Segmentor`; ``how``: the keywords of :meth:`ChannelAttentionBridge.forward`."""
        *fine, deepest = features
        decoded: Tensor = self.decoder([*fine, self.bridge(deepest, **how)])
        return decoded
