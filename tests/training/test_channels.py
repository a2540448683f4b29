"""``data.channels``: views, first layer, a run, and prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import semiseg
from semiseg.commands.predict import main as predict
from semiseg.data.batch import ViewSpec
from semiseg.data.views.transforms import TrainViews
from semiseg.errors import InputError
from semiseg.models.weights import fit_channels
from semiseg.runs.checkpoint import load_checkpoint
from support import breaking
from support.own_photos import write_photos
from support.tiny import tiny


def own(root: Path, *more: str) -> list[str]:
    keys = ("data=folder", f"data.root={root}", "data.size=", "data.n_train=", "data.n_val=", "protocol=folder/all")
    return tiny(*keys, *more)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos with a fourth channel."""
    root = write_photos(tmp_path / "photos")
    for path in root.glob("images/*/*.png"):
        rgb = np.array(Image.open(path))
        Image.fromarray(np.dstack([rgb, rgb[..., 0] // 2]), "RGBA").save(path)
    return root


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_views_of_any_channels(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, channels), np.uint8)
    views = TrainViews(32, jitter_p=1.0, blur_p=1.0)

    def made(seed: int):
        return views.unlabeled(image, np.random.default_rng(seed), spec=ViewSpec(strong=2), n_classes=3)

    one, again = made(1), made(1)
    assert one.weak.shape == (32, 32, channels) and one.strong.shape == (2, 32, 32, channels)
    assert np.array_equal(one.strong, again.strong) and not np.array_equal(one.strong[0], one.strong[1])
    assert not np.array_equal(one.strong[0], one.weak)
    crop, mask = views.labeled(image, np.zeros((40, 50), np.uint8), np.random.default_rng(2), strong=True)
    assert crop.shape == (32, 32, channels) and mask.shape == (32, 32)


def test_the_first_layer_answers_to_equal_channels_as_to_gray() -> None:
    weight = torch.randn(8, 3, 3, 3)
    gray = weight.sum(1)
    for channels in (1, 2, 4, 7):
        fitted = fit_channels(weight, torch.empty(8, channels, 3, 3))
        assert fitted.shape == (8, channels, 3, 3)
        if channels % 3 == 0 or channels == 1:
            torch.testing.assert_close(fitted.sum(1), gray)
    torch.testing.assert_close(fit_channels(weight, torch.empty(8, 6, 3, 3)).sum(1), gray)
    for other in (torch.empty(8, 3, 3, 3), torch.empty(9, 4, 3, 3), torch.empty(8)):
        assert fit_channels(weight, other) is weight


@pytest.mark.parametrize("channels", [1, 4])
def test_a_run_from_images_to_masks(channels: int, photos: Path, tmp_path: Path) -> None:
    overrides = own(photos, f"data.channels={channels}", "method=unimatch")
    folder = tmp_path / "run"
    assert breaking.run(folder, overrides)["status"] == "completed"
    checkpoint = load_checkpoint(folder / "checkpoints/last.ckpt")
    facts = checkpoint["semiseg"]
    assert len(facts["mean"]) == len(facts["std"]) == channels
    if channels == 4:  # noise of 0..255, and half of it
        assert facts["mean"] == pytest.approx([0.5, 0.5, 0.5, 0.25], abs=0.02)
    firsts = [t for t in checkpoint["state_dict"].values() if t.ndim == 4 and t.shape[1] == channels]
    assert firsts
    assert Image.open(folder / "images/val_0_image.png").mode == "RGB"
    assert predict([f"run={folder}", f"source={photos / 'images/val'}", f"output={tmp_path / 'out'}"]) == 0
    assert Image.open(tmp_path / "out/index/val0.png").size == (40, 40)
    model = semiseg.load(folder)
    assert model.predict(photos / "images/val/val0.png").shape == (40, 40)
    with pytest.raises(InputError, match=rf"expected \(H, W, {channels}\) uint8"):
        model.predict(np.zeros((8, 8, 3), np.uint8))


def test_killed_and_resumed_equals_unbroken(photos: Path, tmp_path: Path) -> None:
    overrides = own(photos, "data.channels=4", "max_steps=4", "trainer.save_every=1", "diagnostics.panels=0")
    breaking.run(tmp_path / "unbroken", overrides)
    breaking.broken_run(tmp_path / "broken", overrides, at=3)
    breaking.assert_equal_weights(tmp_path / "unbroken", tmp_path / "broken")


def test_what_needs_colors_is_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.channels=4: these transforms are defined for the three channels"):
        breaking.run(tmp_path / "run", own(photos, "data.channels=4", "transforms=mkd"))
    with pytest.raises(InputError, match=r"4 channels, data\.channels=5 asked for"):
        breaking.run(tmp_path / "run", own(photos, "data.channels=5"))
    assert not (tmp_path / "run").exists()
