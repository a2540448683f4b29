from __future__ import annotations

import itertools

import pytest
import torch

from semiseg.ops.mixing import box_mask, class_mask, cutmix, paste, reordered, with_partner
from semiseg.ops.pseudo import PseudoLabels, probabilities, pseudo_label
from support.helpers import make_views


def test_box_mask_against_a_loop() -> None:
    boxes = torch.tensor([[0, 0, 0, 0], [1, 2, 4, 5], [0, 0, 6, 7], [5, 6, 6, 7]])
    mask = box_mask(boxes[:, None], 6, 7)
    for b, (y0, x0, y1, x1) in enumerate(boxes.tolist()):
        for y in range(6):
            for x in range(7):
                assert mask[b, y, x].item() == (y0 <= y < y1 and x0 <= x < x1)


def test_several_boxes_are_joined_by_xor() -> None:
    one, other = torch.tensor([0, 0, 3, 4]), torch.tensor([1, 2, 6, 7])
    masks = box_mask(torch.stack([one, other])[:, None], 6, 7)
    both = box_mask(torch.stack([torch.stack([one, other]), torch.stack([one, one])]), 6, 7)
    assert torch.equal(both[0], masks[0] ^ masks[1])
    assert not both[1].any()  # a box with itself is empty
    assert torch.equal(box_mask(torch.stack([one, other, one])[None], 6, 7)[0], masks[1])


def test_class_mask_covers_half_of_the_classes_whole() -> None:
    for _ in range(20):
        labels = torch.randint(0, 6, (3, 8, 9))
        labels[2] = 4  # one class only
        scores = torch.rand(3, 7)
        mask = class_mask(labels, scores)
        for b in range(3):
            present = sorted(set(labels[b].flatten().tolist()), key=lambda c: scores[b, c].item())
            chosen = set(present[: len(present) // 2])
            for c in present:
                assert mask[b][labels[b] == c].all().item() == (c in chosen)
                assert mask[b][labels[b] == c].any().item() == (c in chosen)


def test_class_mask_leaves_padding_out() -> None:
    labels = torch.tensor([[[0, 1], [2, 2]]])
    padded = torch.tensor([[[False, False], [True, True]]])
    mask = class_mask(labels, torch.tensor([[0.1, 0.5, 0.0]]), padded)
    assert mask.tolist() == [[[True, False], [False, False]]]  # two classes are left, one is chosen


def test_paste_moves_images_labels_confidence_and_padding_together() -> None:
    mask = torch.rand(2, 4, 5) > 0.5
    source, target = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    mixed = paste(mask, source, target)
    for c in range(3):
        assert torch.equal(mixed[:, c][mask], source[:, c][mask])
        assert torch.equal(mixed[:, c][~mask], target[:, c][~mask])
    own, other = (
        PseudoLabels(torch.randint(0, 3, (2, 4, 5)), torch.rand(2, 4, 5), torch.rand(2, 4, 5) > 0.5) for _ in range(2)
    )
    got = own.mixed(mask, other)
    for name in ("labels", "confidence", "padded"):
        assert torch.equal(getattr(got, name)[mask], getattr(other, name)[mask])
        assert torch.equal(getattr(got, name)[~mask], getattr(own, name)[~mask])


def test_a_full_box_gives_the_partner_and_no_box_the_own() -> None:
    own = PseudoLabels(torch.randint(0, 3, (2, 4, 5)), torch.rand(2, 4, 5), torch.zeros(2, 4, 5, dtype=torch.bool))
    full = own.mixed(torch.ones(2, 4, 5, dtype=torch.bool), own.map(lambda x: reordered(x, "flip")))
    assert torch.equal(full.labels[0], own.labels[1])
    assert torch.equal(full.confidence[1], own.confidence[0])
    none = own.mixed(torch.zeros(2, 4, 5, dtype=torch.bool), own.map(lambda x: reordered(x, "flip")))
    assert torch.equal(none.labels, own.labels)


def test_pseudo_labels_and_the_threshold() -> None:
    logits = torch.tensor([[[[2.0, 0.0]], [[0.0, 0.0]]]], requires_grad=True)
    prob = probabilities(logits.bfloat16())
    assert prob.dtype == torch.float32 and not prob.requires_grad
    pseudo = pseudo_label(prob, torch.tensor([[[False, False]]]))
    assert pseudo.labels.tolist() == [[[0, 0]]]
    threshold = pseudo.confidence[0, 0, 0].item()
    assert pseudo.keep(threshold).tolist() == [[[True, False]]]  # equality counts
    pseudo.padded[:] = True
    assert not pseudo.keep(0.0).any()


def test_the_partner_is_the_mirrored_or_the_next_image() -> None:
    x = torch.arange(6).view(3, 2)
    assert reordered(x, "flip").tolist() == [[4, 5], [2, 3], [0, 1]]
    assert reordered(x, "next").tolist() == [[2, 3], [4, 5], [0, 1]]
    assert reordered(x[:1], "next").equal(x[:1])


@pytest.mark.parametrize("view", [0, 1])
@pytest.mark.parametrize("source", ["flip", "next", "partner", "mask"])
def test_cutmix_against_a_loop(view: int, source: str) -> None:
    """Images and labels of every pixel come from the same place."""
    torch.manual_seed(0)
    u, p = make_views(3, size=(10, 12)), make_views(3, size=(10, 12))
    u.boxes[1] = torch.tensor([[0, 3, 9, 12], [0, 0, 10, 5], [0, 0, 0, 0]])[:, None]
    shape = u.padded.shape
    own, other = (PseudoLabels(torch.randint(0, 4, shape), torch.rand(shape), v.padded) for v in (u, p))
    mask = box_mask(u.boxes[view], *u.padded.shape[1:])
    if source == "partner":
        images, target = cutmix(u, own, view=view, partner=(p, other))
    elif source == "mask":
        mask = torch.rand(u.padded.shape) < 0.5
        images, target = cutmix(u, own, view=view, mask=mask)
    else:
        images, target = cutmix(u, own, view=view, order=source)
    for b, y, x in itertools.product(*map(range, u.padded.shape)):
        views, pseudo, i = u, own, b
        if mask[b, y, x]:
            i = {"next": (b + 1) % 3, "partner": b}.get(source, 2 - b)
            views, pseudo = (p, other) if source == "partner" else (u, own)
        assert torch.equal(images[b, :, y, x], views.strong[view, i, :, y, x])
        for name in ("labels", "confidence", "padded"):
            assert getattr(target, name)[b, y, x] == getattr(pseudo, name)[i, y, x]


def test_maps_are_mixed_like_images() -> None:
    mask, x = torch.rand(3, 4, 5) < 0.5, torch.randn(3, 7, 4, 5)
    assert torch.equal(with_partner(mask, x, "next"), torch.where(mask[:, None], x[[1, 2, 0]], x))
