"""ImageNet weights from an installed package, and the normalization folded into them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

from semiseg.errors import InputError
from semiseg.models import deeplabv3plus
from semiseg.models.encoders import build_encoder
from semiseg.models.packaged import IMAGENET, PACKAGES, fold_normalization

LITE = "tf_efficientnet_lite0"
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def installed(name: str) -> None:
    if importlib.util.find_spec(PACKAGES[name]) is None:
        pytest.skip(f"the package {PACKAGES[name]} is not installed: pip install 'semiseg[pretrained]'")


def normalized(image: Tensor, normalization: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    mean, std = (torch.tensor(v, dtype=image.dtype)[:, None, None] for v in normalization)
    return (image - mean) / std


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Tensor]], None]:
    """Install a package of weights that a test made: its entries under names that timm does not know."""

    def install(state: dict[str, Tensor], files: int = 1) -> None:
        folder = tmp_path / "weights_of_a_test"
        (folder / "models").mkdir(parents=True)
        (folder / "__init__.py").write_text("raise RuntimeError('code of the package was run')\n")
        for i in range(files):
            torch.save({f"_{key}": value for key, value in state.items()}, folder / "models" / f"w{i}.pth")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setitem(PACKAGES, LITE, folder.name)

    return install


def random_state() -> dict[str, Tensor]:
    model = timm.create_model(LITE, num_classes=1000)
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return model.state_dict()


@torch.no_grad()
def test_the_stem_with_folded_normalization_equals_the_unfolded_one_inside_the_border():
    stem = timm.create_model(LITE).eval().double()
    stem.bn1.running_mean.normal_()
    state = {k: v for k, v in stem.state_dict().items() if k.startswith(("conv_stem", "bn1"))}
    image = torch.rand(2, 3, 33, 40, dtype=torch.float64)
    unfolded = stem.bn1(stem.conv_stem(normalized(image, HALF)))
    stem.load_state_dict(fold_normalization(state, "conv_stem", "bn1", HALF, IMAGENET), strict=False)
    folded = stem.bn1(stem.conv_stem(normalized(image, IMAGENET)))
    torch.testing.assert_close(folded[..., 1:-1, 1:-1], unfolded[..., 1:-1, 1:-1], rtol=1e-9, atol=1e-9)
    assert not torch.allclose(folded, unfolded)  # zeros at the border are another gray


def test_folding_leaves_the_given_state_alone():
    state = {"c.weight": torch.randn(4, 3, 3, 3), "n.running_mean": torch.randn(4)}
    before = {k: v.clone() for k, v in state.items()}
    assert fold_normalization(state, "c", "n", HALF, IMAGENET).keys() == state.keys()
    assert all(torch.equal(before[k], state[k]) for k in state)
    same = fold_normalization(state, "c", "n", HALF, HALF)
    assert all(torch.equal(same[k], state[k]) for k in state)


@torch.no_grad()
def test_a_package_is_read_by_the_order_of_its_entries_and_its_code_is_not_run(package):
    state = random_state()
    package(state)
    encoder = build_encoder(LITE, weights="package").eval()
    loaded = encoder.model.state_dict()
    changed = {k for k in loaded if not torch.equal(loaded[k], state[k])}
    assert changed == {"conv_stem.weight", "bn1.running_mean"}
    whole = timm.create_model(LITE, num_classes=1000).eval()
    whole.load_state_dict(state)
    # An image of one value: far from the border, every map equals that of the original weights.
    image = torch.full((1, 3, 256, 256), 0.3)
    ours = encoder(normalized(image, IMAGENET))
    theirs = whole.forward_intermediates(normalized(image, HALF), intermediates_only=True)[1:]
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        middle = a.shape[-1] // 2
        torch.testing.assert_close(a[..., middle, middle], b[..., middle, middle], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", PACKAGES)
def test_the_published_weights_are_loaded(name: str):
    installed(name)
    encoder = build_encoder(name, output_stride=16, weights="package")
    random = build_encoder(name, output_stride=16)
    # Trained batch norms: no running variance is left at its initial value.
    variances = [v for k, v in encoder.model.state_dict().items() if k.endswith("running_var")]
    assert all((v != 1).all() for v in variances) and len(variances) > 40
    assert encoder.channels == random.channels


@torch.no_grad()
def test_the_published_weights_see_the_same_through_the_folded_stem():
    installed(LITE)
    from semiseg.models.packaged import package_file
    from semiseg.models.weights import read_weights

    whole = timm.create_model(LITE, num_classes=1000).eval()
    values = read_weights(package_file(PACKAGES[LITE])).values()
    whole.load_state_dict(dict(zip(whole.state_dict(), values, strict=True)))
    image = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 12), size=(256, 256), mode="bicubic").clamp(0, 1)
    ours = build_encoder(LITE, weights="package").eval()(normalized(image, IMAGENET))
    theirs = whole.forward_intermediates(normalized(image, HALF), intermediates_only=True)[1:]
    for a, b in zip(ours[:2], theirs[:2], strict=True):  # strides 4 and 8: the middle does not reach the border
        m = 3 * a.shape[-1] // 8
        torch.testing.assert_close(a[..., m:-m, m:-m], b[..., m:-m, m:-m], rtol=1e-3, atol=1e-3)


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(PACKAGES, LITE, "efficientnet_lite0_that_is_not_there")
    with pytest.raises(InputError, match=r"pip install 'semiseg\[pretrained\]'") as caught:
        deeplabv3plus(LITE, 5, weights="package")
    assert "efficientnet-lite0-that-is-not-there" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["resnet18", "mit_b0", "dinov2_s"])
def test_encoders_without_a_package_are_refused(name: str):
    with pytest.raises(InputError, match=r"model\.weights=package"):
        build_encoder(name, weights="package")


def test_a_package_with_other_weights_is_refused(package, tmp_path: Path):
    state = random_state()
    package(dict(list(state.items())[:-6]))
    with pytest.raises(InputError, match="has 288 entries"):
        build_encoder(LITE, weights="package")


def test_a_package_with_two_files_is_refused(package):
    package(random_state(), files=2)
    with pytest.raises(InputError, match="has 2 weight files"):
        build_encoder(LITE, weights="package")


def test_the_first_layer_takes_other_channels(package):
    package(random_state())
    encoder = build_encoder(LITE, weights="package", in_channels=4)
    assert encoder(torch.randn(2, 4, 64, 64))[-1].isfinite().all()
