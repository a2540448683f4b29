from __future__ import annotations

import torch

from semiseg.ops.mixing import box_mask, class_mask, paste
from semiseg.ops.pseudo import PseudoLabels, probabilities, pseudo_label


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
    full = own.mixed(torch.ones(2, 4, 5, dtype=torch.bool), own.flip())
    assert torch.equal(full.labels[0], own.labels[1])
    assert torch.equal(full.confidence[1], own.confidence[0])
    none = own.mixed(torch.zeros(2, 4, 5, dtype=torch.bool), own.flip())
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
