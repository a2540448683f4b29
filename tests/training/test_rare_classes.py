"""``loss.class_weights`` and ``data.balance`` in a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semiseg.commands.evaluate import main as evaluate
from semiseg.config import compose_config
from semiseg.config.settings import read_settings
from semiseg.errors import InputError
from semiseg.training.assemble import assemble
from support import breaking
from support.own_photos import write_photos
from support.tiny import tiny

BALANCED = ("loss.class_weights=balanced", "data.balance=classes")


def own(root: Path, *more: str) -> list[str]:
    keys = ("data=folder", f"data.root={root}", "data.size=", "data.n_train=", "data.n_val=", "protocol=folder/all")
    return tiny(*keys, "diagnostics.panels=0", *more)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six masks: three quarters ground, a quarter thing, and one of them with a spot of sky."""
    root = write_photos(tmp_path / "photos")
    for i in range(6):
        mask = np.zeros((40, 40), np.uint8)
        mask[:, 30:] = 1
        if i == 3:
            mask[:4, :10] = 2
        Image.fromarray(mask).save(root / f"masks/train/train{i}.png")
    return root


def test_balanced_weights_are_printed_and_used(photos: Path, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    breaking.run(tmp_path / "run", own(photos, *BALANCED))
    # sky: 40 of 1600 pixels in the one image that shows it; thing: 2400 of 9600; ground: 7160 of 9600.
    line = "loss      class weights, median frequency / frequency: ground 0.335, thing 1, sky 10"
    assert line in caplog.text
    assert "balance   every second labeled crop is chosen by class; images of 6 that show it: sky 1, " in caplog.text
    assert evaluate([f"run={tmp_path / 'run'}"]) == 0


@pytest.mark.parametrize("loss", ["ce", "ohem", "focal", "ce_dice"])
def test_every_loss_takes_them(loss: str, photos: Path) -> None:
    settings = read_settings(compose_config(own(photos, f"loss={loss}", "loss.class_weights=[1,2,0.5]")))
    assert assemble(settings).method.sup_loss.class_weights == [1, 2, 0.5]
    settings = read_settings(compose_config(own(photos, f"loss={loss}", *BALANCED)))
    assert assemble(settings).method.sup_loss.class_weights == pytest.approx([0.25 / (7160 / 9600), 1, 10])


def test_a_list_is_checked_against_the_classes_by_name(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"2 weights for 3 classes \(ground 1, thing 2; no weight for sky\)"):
        breaking.run(tmp_path / "run", own(photos, "loss.class_weights=[1,2]"))
    with pytest.raises(InputError, match=r"4 weights for 3 classes \(ground 1, thing 2, sky 3; no class for 4"):
        breaking.run(tmp_path / "run", own(photos, "loss.class_weights=[1,2,3,4]"))
    assert not (tmp_path / "run").exists()


def test_killed_and_resumed_equals_unbroken(photos: Path, tmp_path: Path) -> None:
    overrides = own(photos, *BALANCED, "method=mean_teacher", "max_steps=4", "trainer.save_every=1")
    breaking.run(tmp_path / "unbroken", overrides)
    breaking.broken_run(tmp_path / "broken", overrides, at=3)
    breaking.assert_equal_weights(tmp_path / "unbroken", tmp_path / "broken")
