"""The published evaluations, written out as plain loops, against the modes; the model looks at its neighbors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semiseg.inference import CenterCrop, Inference, Resize, Sliding, Whole, most_probable


def contextual(classes: int) -> nn.Module:
    """A model whose output depends on where a window is cut: zero padding, and the mean of what it sees."""
    torch.manual_seed(classes)

    class Contextual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, classes, 5, padding=2)

        def forward(self, x: Tensor) -> Tensor:
            return 3 * self.conv(x) + x.mean((1, 2, 3), keepdim=True)

    return Contextual().eval()


def picture(height: int, width: int) -> Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(height + 100 * width))


def clipped(model: nn.Module, image: Tensor, crop: int, classes: int) -> Tensor:
    """UniMatch: the step is int(crop * 2 / 3), a window ends at the border, probabilities are summed."""
    height, width = image.shape[-2:]
    total = torch.zeros(1, classes, height, width)
    row = 0
    while row < height:
        col = 0
        while col < width:
            window = image[:, :, row : min(height, row + crop), col : min(width, col + crop)]
            total[:, :, row : row + crop, col : col + crop] += model(window).softmax(1)
            col += int(crop * 2 / 3)
        row += int(crop * 2 / 3)
    return total


def shifted(model: nn.Module, image: Tensor, crop: int, classes: int) -> Tensor:
    """UniMatch V2: a window that would leave the image starts at side - crop, and is the last of its row."""
    height, width = image.shape[-2:]
    total = torch.zeros(1, classes, height, width)
    row = 0
    while True:
        row = min(row, height - crop)
        col = 0
        while True:
            col = min(col, width - crop)
            total[:, :, row : row + crop, col : col + crop] += model(
                image[:, :, row : row + crop, col : col + crop]
            ).softmax(1)
            if col + crop == width:
                break
            col += int(crop * 2 / 3)
        if row + crop == height:
            return total
        row += int(crop * 2 / 3)


def normalized(total: Tensor) -> Tensor:
    """Sums of probabilities to probabilities: each window adds one to a pixel."""
    return total / total.sum(1, keepdim=True)


@torch.no_grad()
@pytest.mark.parametrize("classes", [2, 19, 37])
@pytest.mark.parametrize("size", [(9, 9), (10, 17), (23, 31), (18, 9), (27, 15), (16, 40)])
@pytest.mark.parametrize(("border", "loop"), [("clip", clipped), ("shift", shifted)])
def test_sliding_is_the_published_loop(border, loop, size, classes) -> None:
    model, image = contextual(classes), picture(*size)
    expected = loop(model, image, 9, classes)
    found = Sliding(9, stride=0.6666667, border=border)(model, image)
    torch.testing.assert_close(found, normalized(expected), atol=1e-5, rtol=1e-4)
    sure = expected.topk(2, 1).values.diff(dim=1).abs()[:, 0] > 1e-4  # ties may fall either way
    assert (most_probable(found) == expected.argmax(1))[sure].all() and sure.float().mean() > 0.99


@torch.no_grad()
@pytest.mark.parametrize("size", [(5, 20), (20, 5), (7, 3), (1, 1)])
def test_clipped_windows_of_images_smaller_than_the_window(size) -> None:
    model, image = contextual(4), picture(*size)
    expected = normalized(clipped(model, image, 9, 4))
    torch.testing.assert_close(Sliding(9, border="clip")(model, image), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("size", [(5, 20), (20, 5), (7, 3), (1, 1)])
def test_shifted_windows_of_small_images_are_those_of_the_image_padded_with_zeros(size) -> None:
    """Where the published loop never ends."""
    model, image = contextual(4), picture(*size)
    padded = F.pad(image, (0, max(0, 9 - size[1]), 0, max(0, 9 - size[0])))
    expected = normalized(shifted(model, padded, 9, 4))[..., : size[0], : size[1]]
    torch.testing.assert_close(Sliding(9)(model, image), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("size", [(20, 21), (28, 42), (6, 100), (375, 500)])
def test_multiples_of_the_patch(size) -> None:
    model, image = contextual(3), picture(*size)
    sides = [max(14, int(side / 14 + 0.5) * 14) for side in size]
    resized = F.interpolate(image, size=sides, mode="bilinear", align_corners=True)
    logits = F.interpolate(model(resized), size=size, mode="bilinear", align_corners=True)
    torch.testing.assert_close(Resize(multiple=14)(model, image), logits.softmax(1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("within", "size", "expected"),
    [
        ((512, 512), (375, 500), (384, 512)),  # MKD's example: 500x375 -> 512x384
        ((512, 512), (500, 334), (512, 342)),
        ((512, 512), (1024, 2048), (256, 512)),
        ((512, 2048), (375, 500), (512, 683)),  # GuidedMix-Net: short side 512 ...
        ((512, 2048), (100, 500), (410, 2048)),  # ... unless the long one would pass 2048
    ],
)
def test_sizes_within_limits(within, size, expected) -> None:
    seen = []

    def model(x: Tensor) -> Tensor:
        seen.append(tuple(x.shape[-2:]))
        return x[:, :2]

    mode: Inference = Resize(within=within, align_corners=False)
    assert mode(model, picture(*size)).shape[-2:] == size
    assert seen == [expected]


@torch.no_grad()
def test_within_resizes_both_ways_without_aligned_corners() -> None:
    model, image = contextual(3), picture(11, 17)
    resized = F.interpolate(image, size=(16, 25), mode="bilinear", align_corners=False)
    logits = F.interpolate(model(resized), size=(11, 17), mode="bilinear", align_corners=False)
    found = Resize(within=(16, 99), align_corners=False)(model, image)
    torch.testing.assert_close(found, logits.softmax(1), atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("size", [(9, 14), (10, 13), (8, 30), (6, 5)])
def test_center_crop_scores_only_the_center(size) -> None:
    model, image = contextual(3), picture(*size)
    height, width = (min(8, side) for side in size)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    center = image[..., top : top + height, left : left + width]
    torch.testing.assert_close(CenterCrop(8)(model, image), Whole()(model, center))
    labels = torch.arange(size[0] * size[1]).view(1, *size)
    assert torch.equal(CenterCrop(8).crop_labels(labels), labels[:, top : top + height, left : left + width])
