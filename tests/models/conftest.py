from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from huggingface_hub import constants
from torch.overrides import TorchFunctionMode

from semiseg.models import Segmentor, deeplabv3plus, dpt, segformer, tiny

# One small member of each family.
FAMILIES: dict[str, Callable[[], Segmentor]] = {
    "resnet": lambda: deeplabv3plus("resnet18d", 5, width=32, low_level_width=8),
    "convnext": lambda: deeplabv3plus("convnext_atto", 5, width=32, low_level_width=8),
    "mit": lambda: segformer("mit_b0", 5, width=32),
    "dinov2": lambda: dpt("dinov2_s", 5, width=16, level_channels=(16, 16, 16, 16)),
    "tiny": lambda: tiny(5),
}


class Sketch(TorchFunctionMode):
    """Skips whatever writes values in place: on the meta device initialization is slow and of no use."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.__name__
        if name.endswith("_") and not name.endswith("__") and name != "requires_grad_" and args:
            return args[0]
        if func is torch.linspace:  # MiT reads its drop path rates out of one
            kwargs["device"] = "cpu"
        return func(*args, **kwargs)


@pytest.fixture
def sketch() -> Iterator[None]:
    """Networks of any size for free: shapes and parameter counts without memory."""
    with torch.device("meta"), Sketch():
        yield


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    torch.manual_seed(0)


@pytest.fixture(scope="session", params=FAMILIES)
def network(request: pytest.FixtureRequest) -> Segmentor:
    """One network per family, in evaluation mode and never changed."""
    torch.manual_seed(0)
    return FAMILIES[request.param]().eval()
