"""Steps that no memory is enough for are refused before the first of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from semiseg.config import compose_config
from semiseg.config.check import check_overrides, options
from semiseg.config.settings import read_settings
from semiseg.errors import InputError
from semiseg.training import enough_memory
from semiseg.training.assemble import assemble_method
from semiseg.training.enough_memory import bytes_per_image, check_step_fits
from semiseg.training.fit import train
from support.own_photos import write_photos
from support.tiny import tiny


def method_of(*overrides: str):
    settings = read_settings(compose_config(overrides))
    return settings, assemble_method(settings, list("abcd"), 100)


def test_a_crop_that_no_memory_holds_is_refused_in_one_line(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(enough_memory, "total_memory", lambda device: 24 * 2**30)
    overrides = tiny("data.size=[600,600]", "crop_size=4000", "batch.labeled=8", "method=fixmatch", "model.width=16")
    with pytest.raises(InputError) as told:
        train(compose_config(overrides), tmp_path / "run", overrides)
    line = str(told.value)
    assert line.startswith("crop_size=[4000, 4000] with batch.labeled=8 batch.unlabeled=2: a step needs more than 3")
    assert "GB of memory, this CPU has 24" in line and "\n" not in line
    assert not (tmp_path / "run").exists()


def test_what_fits_by_far_is_not_even_counted(monkeypatch) -> None:
    monkeypatch.setattr(enough_memory, "bytes_per_image", lambda *a: pytest.fail("counted"))
    check_step_fits(*method_of("crop_size=64"))


@pytest.mark.parametrize("extra,factor", [([], 1), (["trainer.precision=bf16-mixed"], 0.5)])
def test_the_border_is_what_is_counted(extra: list[str], factor: float, monkeypatch) -> None:
    settings, method = method_of("crop_size=64", *extra)
    needed = factor * settings.batch.labeled * bytes_per_image(method, (64, 64))
    for there, fits in ((needed - 1, False), (needed + 1, True)):
        monkeypatch.setattr(enough_memory, "total_memory", lambda device, there=there: there)
        if fits:
            check_step_fits(settings, method)
        else:
            with pytest.raises(InputError, match="crop_size="):
                check_step_fits(settings, method)


@pytest.mark.parametrize("name", ["supervised", "allspark"])
def test_the_count_is_that_of_a_real_pass_and_changes_nothing(name: str) -> None:
    _, method = method_of("model.width=8", f"method={name}")
    before = {k: v.clone() for k, v in method.state_dict().items()}
    random = torch.get_rng_state()
    counted = bytes_per_image(method, (64, 48))
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())
    images, labels = torch.randn(2, 3, 64, 48), torch.zeros(2, 64, 48, dtype=torch.long)
    weights = {x.data_ptr() for x in (*method.parameters(), *method.buffers())}
    stored = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        if x.data_ptr() not in weights:
            stored[x.untyped_storage().data_ptr()] = x.detach()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        torch.nn.functional.cross_entropy(method.student(images), labels)
    real = sum(x.untyped_storage().nbytes() for x in stored.values()) / 2
    assert counted == pytest.approx(real, rel=0.1)


@pytest.mark.parametrize("method", options("method"))
def test_every_method_can_be_asked(method: str) -> None:
    assert bytes_per_image(method_of(f"method={method}")[1], (64, 64)) > 0


@pytest.mark.parametrize(
    "line,told",
    [
        ("crop_size=4000", "crop_size=[4000, 4000]: the largest image has 96 x 96 pixels, at most 192"),
        ("eval=sliding eval.window=4000", "eval.window=4000: the images have [96, 96] pixels"),
    ],
)
def test_a_crop_or_window_far_larger_than_every_image_is_refused(line: str, told: str) -> None:
    with pytest.raises(InputError) as error:
        check_overrides(line.split())
    assert told in str(error.value)


@pytest.mark.parametrize("line", ["crop_size=1000", "eval=sliding eval.window=1000"])
def test_images_of_ones_own_are_measured_before_training(line: str, tmp_path: Path) -> None:
    write_photos(tmp_path / "d", size=40)
    drawn = ("data.size=", "data.n_train=", "data.n_val=", "model.width=4", "diagnostics.panels=0")
    own = ("data=folder", f"data.root={tmp_path}/d", "protocol=folder/all", *line.split())
    overrides = tiny(*drawn, *own)
    with pytest.raises(InputError, match=r"40 x 40 pixels|have \[40, 40\] pixels"):
        train(compose_config(overrides), tmp_path / "run", overrides)
    assert not (tmp_path / "run").exists()
