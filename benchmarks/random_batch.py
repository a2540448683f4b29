"""A batch of noise in the shape that a method asks for: what a step costs does not depend on the images."""

from __future__ import annotations

import torch

from semiseg.data.batch import LabeledBatch, SemiBatch, Views
from semiseg.methods.base import SemiMethod


def random_batch(
    method: SemiMethod, labeled: int, unlabeled: int, crop: tuple[int, int], device: torch.device | str = "cpu"
) -> SemiBatch:
    """Normalized images of (height, width) ``crop``, labels, and views where the method uses unlabeled images."""
    images = torch.randn(labeled, 3, *crop, device=device)
    # Patches of one label, as in a real mask; noise would make every pixel a border.
    coarse = torch.randint(0, method.num_classes, (labeled, 1, 8, 8), device=device).float()
    labels = torch.nn.functional.interpolate(coarse, size=crop).long()[:, 0]
    ids = [str(i) for i in range(labeled)]
    if method.view_spec is None:
        return LabeledBatch(images, labels, ids)  # type: ignore[return-value]  # a method without unlabeled images
    spec = method.view_spec
    partner = None if spec.partner == "flip" else _views(method, unlabeled, crop, device)
    return SemiBatch(images, labels, ids, unlabeled=_views(method, unlabeled, crop, device), partner=partner)


def _views(method: SemiMethod, n: int, crop: tuple[int, int], device: torch.device | str) -> Views:
    assert method.view_spec is not None
    n_strong = method.view_spec.strong
    height, width = crop
    box = torch.tensor([height // 4, width // 4, height // 2, width // 2], device=device)
    return Views(
        weak=torch.randn(n, 3, *crop, device=device),
        strong=torch.randn(n_strong, n, 3, *crop, device=device),
        padded=torch.zeros(n, *crop, dtype=torch.bool, device=device),
        boxes=box.expand(n_strong, n, 1, 4).clone(),
        class_scores=torch.rand(n_strong, n, method.num_classes, device=device),
        ids=[str(i) for i in range(n)],
    )
