"""Collate samples into batches of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from semiseg.data.batch import LabeledBatch, OfTensors, SemiBatch, Views
from semiseg.data.loading.samples import Sample
from semiseg.data.loading.sampling import Stream


@dataclass
class EvalBatch(OfTensors):
    """B whole images of one size with their labels."""

    images: Tensor  # (B, 3, H, W) float, normalized
    labels: Tensor  # (B, H, W) long in [0, C) or IGNORE
    ids: list[str]


def collate_train(samples: list[Sample]) -> LabeledBatch:
    """One training batch of uint8 images; a ``SemiBatch`` if there are unlabeled images."""
    images, labels = zip(*(sample.labeled for sample in samples if sample.labeled is not None))
    labeled = LabeledBatch(
        _stack_images(images),
        torch.from_numpy(np.stack(labels)),
        [sample.image_id for sample in samples if sample.stream is Stream.LABELED],
    )
    unlabeled = _collate_views(samples, Stream.UNLABELED)
    if unlabeled is None:
        return labeled
    return SemiBatch(**vars(labeled), unlabeled=unlabeled, partner=_collate_views(samples, Stream.PARTNER))


def _collate_views(samples: list[Sample], stream: Stream) -> Views | None:
    views = [sample.views for sample in samples if sample.stream is stream and sample.views is not None]
    if not views:
        return None
    truths = [v.truth for v in views if v.truth is not None]
    return Views(
        weak=_stack_images([v.weak for v in views]),
        strong=_stack_images([v.strong for v in views], axis=1),
        padded=torch.from_numpy(np.stack([v.padded for v in views])),
        boxes=torch.from_numpy(np.stack([v.boxes for v in views], axis=1)),
        class_scores=torch.from_numpy(np.stack([v.class_scores for v in views], axis=1)),
        ids=[sample.image_id for sample in samples if sample.stream is stream],
        truth=torch.from_numpy(np.stack(truths)) if truths else None,
    )


def collate_eval(samples: list[tuple[str, np.ndarray, np.ndarray]]) -> list[EvalBatch]:
    """One ``EvalBatch`` per image size among the samples, in order of appearance."""
    sizes: dict[tuple[int, ...], list[tuple[str, np.ndarray, np.ndarray]]] = {}
    for sample in samples:
        sizes.setdefault(sample[2].shape, []).append(sample)
    return [
        EvalBatch(_stack_images(images), torch.from_numpy(np.stack(masks)), list(ids))
        for ids, images, masks in (zip(*group) for group in sizes.values())
    ]


def _stack_images(images: Sequence[np.ndarray], axis: int = 0) -> Tensor:
    """(..., H, W, 3) arrays -> one (..., 3, H, W) uint8 tensor: a view, so channels stay interleaved in memory."""
    return torch.from_numpy(np.stack(images, axis=axis)).movedim(-1, -3)
