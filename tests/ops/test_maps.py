from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from semiseg.ops.maps import halved, onto_image, onto_map


def test_halving_is_bilinear_resizing_by_one_half() -> None:
    x = torch.randn(2, 5, 12, 18)
    bilinear = F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)
    assert torch.allclose(halved(x), bilinear, rtol=0, atol=1e-6)


def test_halving_of_an_odd_map_averages_what_there_is() -> None:
    x = torch.arange(15.0).view(1, 1, 3, 5)
    assert torch.equal(halved(x)[0, 0], torch.tensor([[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]]))
    assert torch.equal(halved(x[..., :1, :1]), x[..., :1, :1])


@pytest.mark.parametrize("multiple", [1, 8])
@pytest.mark.parametrize("size", [(32, 40), (30, 36), (7, 3)])
def test_labels_on_a_map_against_a_loop(size: tuple[int, int], multiple: int) -> None:
    (h, w), (map_h, map_w) = size, (4, 6)
    labels = torch.randint(0, 21, (2, h, w))
    full_h, full_w = -(-h // multiple) * multiple, -(-w // multiple) * multiple
    got = onto_map(labels, torch.empty(2, 9, map_h, map_w), multiple=multiple, outside=255)
    assert got.dtype == torch.long and got.shape == (2, map_h, map_w)
    for y in range(map_h):
        for x in range(map_w):
            row, column = y * full_h // map_h, x * full_w // map_w
            inside = row < h and column < w
            assert torch.equal(got[:, y, x], labels[:, row, column] if inside else torch.full((2,), 255))


def test_masks_stay_masks() -> None:
    mask = torch.rand(2, 6, 6) < 0.5
    assert onto_map(mask, mask, outside=True).equal(mask)
    outside = onto_map(mask, torch.empty(1, 8, 8), multiple=8, outside=True)
    assert outside.dtype == torch.bool and outside[:, 6:].all() and outside[:, :, 6:].all()


@pytest.mark.parametrize("multiple", [1, 8])
def test_a_map_on_the_image_against_a_loop(multiple: int) -> None:
    values, (h, w) = torch.randint(0, 200, (2, 4, 5)), (30, 37)
    got = onto_image(values, (h, w), multiple=multiple)
    full_h, full_w = -(-h // multiple) * multiple, -(-w // multiple) * multiple
    assert got.dtype == torch.long and got.shape == (2, h, w)
    for y in range(h):
        for x in range(w):
            assert torch.equal(got[:, y, x], values[:, y * 4 // full_h, x * 5 // full_w])
