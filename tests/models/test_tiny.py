"""The small network: narrow widths in channels-last layout."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from semiseg.models import tiny
from semiseg.models.tiny import NARROW, NarrowShortcut, ResidualBlock


def test_a_narrow_shortcut_is_a_strided_convolution():
    for size in ((8, 8), (9, 7), (1, 1)):
        ours = NarrowShortcut(4, 6, kernel_size=1, stride=2, bias=False)
        x = torch.randn(2, 4, *size, requires_grad=True)
        theirs = nn.functional.conv2d(x, ours.weight, stride=2)
        assert ours(x).shape == theirs.shape
        torch.testing.assert_close(ours(x), theirs)
        for a, b in zip(*(torch.autograd.grad(y.square().sum(), (x, ours.weight)) for y in (ours(x), theirs))):
            torch.testing.assert_close(a, b)


def test_only_narrow_blocks_take_it():
    assert isinstance(ResidualBlock(NARROW - 1, 4).shortcut[0], NarrowShortcut)
    assert type(ResidualBlock(NARROW, 4).shortcut[0]) is nn.Conv2d


@pytest.mark.parametrize("width", [4, 8, 12])
def test_narrow_networks_train_on_large_channels_last_images(width: int):
    # With a strided convolution this ends the process: damaged heap or segmentation fault.
    model = tiny(5, width=width).train()
    for size in (128, 192):
        x = torch.randn(2, 3, size, size).to(memory_format=torch.channels_last)
        model(x).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
