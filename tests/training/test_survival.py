"""Runs that meet a signal, a full disk, a loss that is no number, a crashing worker, a damaged or hostile file."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import pickle
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from semiseg.config import compose_config
from semiseg.data.datasets.shapes import Shapes
from semiseg.errors import InputError, RunFailed
from semiseg.methods.mean_teacher import MeanTeacher
from semiseg.runs.checkpoint import load_checkpoint
from semiseg.runs.overwrite import restore_replaced, set_aside
from semiseg.training.callbacks.csv_logger import CsvLogger
from semiseg.training.callbacks.progress import Progress
from semiseg.training.fit import train
from support.tiny import tiny

SMALL = tiny(
    "method=mean_teacher", "max_steps=6", "val_every=4", "trainer.log_every=3", "trainer.save_every=2",
    "diagnostics.panels=0",
)  # fmt: skip


def run(folder: Path, *overrides: str) -> dict:
    return dict(train(compose_config([*SMALL, *overrides]), folder, [*SMALL, *overrides]))


def saved(folder: Path, name: str = "last") -> dict:
    return load_checkpoint(folder / "checkpoints" / f"{name}.ckpt")


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def lines(folder: Path) -> list[str]:
    header, *rows = (folder / "metrics.csv").read_text().splitlines()
    measured = {header.split(",").index(name) for name in ("time/step", "memory/peak_mb")}
    return [",".join(v for i, v in enumerate(row.split(",")) if i not in measured) for row in [header, *rows]]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    run(folder)
    return folder


def assert_equal_runs(one: Path, two: Path) -> None:
    a, b = saved(one)["state_dict"], saved(two)["state_dict"]
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert lines(one) == lines(two) and result(one)["miou"] == result(two)["miou"]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "hook,step", [("on_train_batch_end", 1), ("on_validation_start", 4), ("on_train_batch_end", 3)]
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_costs_no_step(
    number: int, hook: str, step: int, workers: int, unbroken: Path, tmp_path: Path, monkeypatch
) -> None:
    if workers and number != signal.SIGTERM:
        pytest.skip("workers see one signal alike")
    real = getattr(Progress, hook)

    def notified(self, trainer, *args) -> None:
        if trainer.global_step == step:
            os.kill(os.getpid(), number)
        return real(self, trainer, *args)

    before, children = signal.getsignal(number), set(multiprocessing.active_children())
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Progress, hook, notified)
        run(tmp_path, f"loader.num_workers={workers}")
    assert signal.getsignal(number) == before and set(multiprocessing.active_children()) <= children
    # Flags are read ahead of an optimizer step: what comes after it counts for the next.
    stopped = step + 1
    assert result(tmp_path)["status"] == "interrupted" and saved(tmp_path)["global_step"] == stopped
    run(tmp_path)
    assert_equal_runs(unbroken, tmp_path)


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_full_disk_leaves_the_earlier_checkpoint(nth: int, unbroken: Path, tmp_path: Path, monkeypatch) -> None:
    written = []

    def full(trainer, path, **kwargs) -> None:
        written.append(path)
        if len(written) == nth:
            Path(path).parent.mkdir(exist_ok=True)
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(trainer, path, **kwargs)

    import pytorch_lightning as pl

    real = pl.Trainer.save_checkpoint
    with monkeypatch.context() as patch, pytest.raises(RunFailed, match=f"step {2 * nth} cannot.*No space left"):
        patch.setattr(pl.Trainer, "save_checkpoint", full)
        run(tmp_path)
    assert "No space left" in result(tmp_path)["error"] and "Error:" not in result(tmp_path)["error"]
    assert not list((tmp_path / "checkpoints").glob("*.tmp"))
    if nth > 1:
        assert saved(tmp_path)["global_step"] == 2 * nth - 2
    run(tmp_path)
    assert_equal_runs(unbroken, tmp_path)


def test_a_disk_that_is_full_for_everything(unbroken: Path, tmp_path: Path, monkeypatch) -> None:
    def full(self, values, step=None) -> None:
        if step == 6:
            monkeypatch.setattr("semiseg.training.outcome.write_json", full_json)
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, values, step)

    def full_json(*args) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    real = CsvLogger.log_metrics
    with monkeypatch.context() as patch, pytest.raises(RunFailed, match="no space left on the disk"):
        patch.setattr(CsvLogger, "log_metrics", full)
        run(tmp_path)
    monkeypatch.undo()
    (tmp_path / "metrics.csv").open("a").write("6,0.")  # the half line of a disk that filled up
    run(tmp_path)
    assert_equal_runs(unbroken, tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "zeros", "empty"])
def test_a_damaged_last_checkpoint_is_passed_over(damage: str, unbroken: Path, tmp_path: Path, caplog) -> None:
    run(tmp_path)
    last = tmp_path / "checkpoints/last.ckpt"
    size = last.stat().st_size
    last.unlink()  # best.ckpt may be the same file
    last.write_bytes({"truncated": b"PK\x03\x04" + bytes(size // 2), "zeros": bytes(size), "empty": b""}[damage])
    (tmp_path / "result.json").unlink()
    run(tmp_path)
    assert "last.ckpt cannot be read" in caplog.text and "previous.ckpt instead, at step 4" in caplog.text
    assert_equal_runs(unbroken, tmp_path)


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_loading_a_checkpoint_runs_nothing_from_it(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    for name, write in (("torch", torch.save), ("pickle", lambda o, p: p.write_bytes(pickle.dumps(o)))):
        path = tmp_path / f"{name}.ckpt"
        write({"semiseg": Hostile(trap)}, path)
        with pytest.raises(InputError, match="cannot be read"):
            load_checkpoint(path)
    assert not trap.exists()


def nan_at(*steps: int):
    real = MeanTeacher.step

    def step(self, batch):
        out = real(self, batch)
        if self.steps_done + 1 in steps:
            out.terms["loss_unsup"] = out.terms["loss_unsup"] * float("nan")
            out.loss = out.loss + out.terms["loss_unsup"]
        return out

    return step


def test_a_loss_that_is_no_number_stops_the_run_and_is_kept(unbroken: Path, tmp_path: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(RunFailed, match=r"nan at step 5 \(loss_unsup=nan\)"):
        patch.setattr(MeanTeacher, "step", nan_at(5))
        run(tmp_path)
    assert result(tmp_path)["status"] == "failed" and "step 5" in result(tmp_path)["error"]
    kept = torch.load(tmp_path / "nonfinite/step_5.pt", weights_only=True)
    assert kept["step"] == 5 and len(kept["ids"]["labeled"]) == len(kept["ids"]["unlabeled"]) == 2
    before = saved(tmp_path)["state_dict"]  # of step 4: the optimizer had not moved anything
    weights = [k for k in before if k.endswith("weight") and k.startswith("student.")]
    assert weights and all(torch.equal(kept["state_dict"][k], before[k]) for k in weights)
    run(tmp_path)  # the cause is gone
    assert_equal_runs(unbroken, tmp_path)


def test_a_step_can_be_skipped_and_too_many_cannot(tmp_path: Path, monkeypatch, caplog) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(MeanTeacher, "step", nan_at(5))
        done = run(tmp_path, "trainer.on_nonfinite=skip", "trainer.save_every=1")
    assert done["status"] == "completed" and "step 5 (loss_unsup=nan)" in caplog.text and "skipped" in caplog.text
    assert all(v.isfinite().all() for v in saved(tmp_path)["state_dict"].values() if v.is_floating_point())
    four, five = saved(tmp_path, "best"), saved(tmp_path, "previous")
    if four["global_step"] == 4:
        weights = [k for k in four["state_dict"] if k.startswith("student.") and k.endswith("weight")]
        assert all(torch.equal(four["state_dict"][k], five["state_dict"][k]) for k in weights)
    with monkeypatch.context() as patch, pytest.raises(RunFailed, match="20 steps in a row"):
        patch.setattr(MeanTeacher, "step", nan_at(*range(1, 40)))
        run(tmp_path / "more", "trainer.on_nonfinite=skip", "max_steps=30")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_decoded_is_named(workers: int, tmp_path: Path, monkeypatch) -> None:
    def broken(self, image_id: str) -> np.ndarray:
        raise ValueError(f"bad bytes of {image_id}")

    monkeypatch.setattr("semiseg.training.assemble.quick_check", lambda *a: (48, 48))  # it would find the file first
    monkeypatch.setattr(Shapes, "load_image", broken)
    with pytest.raises(RunFailed, match=r"^shapes image (\S+) \(seed 0\): ValueError: bad bytes of \1$"):
        run(tmp_path, f"loader.num_workers={workers}")


def test_a_worker_that_dies_names_its_image(tmp_path: Path, monkeypatch) -> None:
    real, first = Shapes.load_image, []

    def deadly(self, image_id: str) -> np.ndarray:
        if not first and multiprocessing.parent_process() is not None:
            (tmp_path / "victim").write_text(self.locate(image_id))
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, image_id)

    monkeypatch.setattr(Shapes, "load_image", deadly)
    with pytest.raises(RunFailed, match="a data worker died while reading") as error:
        run(tmp_path / "run", "loader.num_workers=1")
    assert (tmp_path / "victim").read_text() in str(error.value)


def test_a_worker_that_dies_while_the_main_process_is_elsewhere_names_its_image(tmp_path: Path, monkeypatch) -> None:
    real, children = MeanTeacher.step, set(multiprocessing.active_children())

    def step(self, batch):
        if self.steps_done == 1:  # a handler of torch raises here, in the midst of a step
            (worker,) = set(multiprocessing.active_children()) - children
            os.kill(worker.pid, signal.SIGKILL)
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                time.sleep(0.01)
        return real(self, batch)

    monkeypatch.setattr(MeanTeacher, "step", step)
    with pytest.raises(RunFailed, match="a data worker died while reading shapes image"):
        run(tmp_path / "run", "loader.num_workers=1")


def test_the_folder_is_written_to_the_disk_too(tmp_path: Path, monkeypatch) -> None:
    waited = []
    monkeypatch.setattr("semiseg.training.callbacks.checkpoints.sync", waited.append)
    run(tmp_path, "max_steps=1")
    assert waited == [tmp_path / "checkpoints/last.tmp", tmp_path / "checkpoints"]


def run_files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    "wrong", ["trainer.accelerator=gpu", "logger=wandb logger.wandb.mode=bad", "trainer.precision=16-true", "crash"]
)
def test_overwrite_keeps_the_earlier_run_until_the_new_one_has_a_checkpoint(
    wrong: str, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "notes.txt").write_text("the user's own")
    run(tmp_path)
    before = run_files(tmp_path)
    overrides = ["overwrite=true", *(wrong.split() if wrong != "crash" else [])]
    if wrong == "crash":
        monkeypatch.setattr("semiseg.methods.mean_teacher.MeanTeacher.step", lambda self, batch: 1 / 0)
    with pytest.raises((InputError, ZeroDivisionError)):
        run(tmp_path, *overrides)
    after = run_files(tmp_path)
    assert {k: v for k, v in after.items() if k != "log_of_failed_overwrite.txt"} == before
    if wrong != "crash":
        return
    assert b"ZeroDivisionError" in after["log_of_failed_overwrite.txt"]
    monkeypatch.undo()
    run(tmp_path, *overrides)
    assert not (tmp_path / ".replaced").exists() and (tmp_path / "notes.txt").exists()


def test_a_kill_while_a_run_is_set_aside_loses_nothing(tmp_path: Path, monkeypatch) -> None:
    run(tmp_path)
    before = run_files(tmp_path)
    real, moves, stop = os.replace, 0, 0

    def killed(source, target):
        nonlocal moves
        moves += 1
        if moves > stop:
            raise SystemExit
        real(source, target)

    for allowed in range(8):
        stop, moves = allowed, 0
        monkeypatch.setattr(os, "replace", killed)
        with contextlib.suppress(SystemExit):
            set_aside(tmp_path)
        moves = 0  # the next start is killed as well
        with contextlib.suppress(SystemExit):
            restore_replaced(tmp_path)
        monkeypatch.setattr(os, "replace", real)
        restore_replaced(tmp_path)
        assert run_files(tmp_path) == before
