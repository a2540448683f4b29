"""Memory: activation checkpointing in a run, precisions that resume exactly, an out-of-memory error in a line."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from pytorch_lightning.plugins.precision import MixedPrecision

from semiseg.config import compose_config
from semiseg.errors import InputError, RunFailed
from semiseg.methods.mean_teacher import MeanTeacher
from semiseg.runs.checkpoint import load_checkpoint
from semiseg.training import assemble
from semiseg.training.fit import train
from support.tiny import tiny


def state(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]


def test_checkpointed_activations_change_no_number_of_a_run(tmp_path: Path) -> None:
    plain = tiny("method=mean_teacher", "max_steps=3", "val_every=3")
    saving = [*plain, "trainer.checkpoint_activations=true"]
    results = [train(compose_config(o), tmp_path / str(i), o) for i, o in enumerate((plain, saving))]
    assert results[0]["miou"] == results[1]["miou"]
    a, b = state(tmp_path / "0"), state(tmp_path / "1")
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_checkpointing_and_compilation_exclude_each_other(tmp_path: Path) -> None:
    overrides = tiny("trainer.checkpoint_activations=true", "trainer.compile=true")
    with pytest.raises(InputError, match=r"does not work with trainer\.compile=true: choose one"):
        train(compose_config(overrides), tmp_path, overrides)


def killed_and_resumed(overrides: list[str], folder: Path, monkeypatch, after: int) -> None:
    """Two runs: one in one go, one that dies in the batch after so many and is started again."""
    train(compose_config(overrides), folder / "whole", overrides)
    step, calls = MeanTeacher.step, itertools.count()

    def killed(self, batch):
        if next(calls) == after:
            raise ZeroDivisionError
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(MeanTeacher, "step", killed)
        with pytest.raises(ZeroDivisionError):
            train(compose_config(overrides), folder / "parts", overrides)
    train(compose_config(overrides), folder / "parts", overrides)
    a, b = state(folder / "whole"), state(folder / "parts")
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_stopped_run_resumes_bit_exactly(precision: str, accumulate: int, tmp_path: Path, monkeypatch) -> None:
    overrides = tiny(
        "method=mean_teacher", "max_steps=4", "val_every=2", f"trainer.precision={precision}",
        f"trainer.accumulate={accumulate}",
    )  # fmt: skip
    killed_and_resumed(overrides, tmp_path, monkeypatch, 2 * accumulate)


def test_the_scaler_of_fp16_is_in_the_checkpoint(tmp_path: Path, monkeypatch) -> None:
    """Lightning has fp16 on a GPU only; here it gets the plugin that it makes there, with a scaler for the CPU."""
    arguments = assemble.trainer_arguments

    def in_half(settings):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=2)
        plugin = MixedPrecision("16-mixed", "cpu", scaler)
        return {k: v for k, v in arguments(settings).items() if k != "precision"} | {"plugins": [plugin]}

    monkeypatch.setattr(assemble, "trainer_arguments", in_half)
    overrides = tiny("method=mean_teacher", "max_steps=4", "val_every=2")
    killed_and_resumed(overrides, tmp_path, monkeypatch, 2)
    scalers = [
        load_checkpoint(tmp_path / run / "checkpoints" / "last.ckpt")["MixedPrecision"] for run in ("whole", "parts")
    ]
    assert scalers[0] == scalers[1] and scalers[0]["scale"] < 2.0**40  # gradients overflowed, and it gave way


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.6 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
                 "to allocate 400000000000 bytes. Error code 12 (Cannot allocate memory)"),
    MemoryError("Unable to allocate 3.00 GiB for an array"),
]  # fmt: skip


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda e: type(e).__name__)
def test_out_of_memory_is_one_line_with_what_helps_most(error: Exception, tmp_path: Path, monkeypatch) -> None:
    def full(self, batch):
        raise error

    monkeypatch.setattr(MeanTeacher, "step", full)
    overrides = tiny("method=mean_teacher", "batch.labeled=4", "batch.unlabeled=4", "data.n_train=40")
    with pytest.raises(RunFailed) as told:
        train(compose_config(overrides), tmp_path, overrides)
    line = str(told.value)
    assert "\n" not in line and line.startswith("out of memory at step 1 ")
    for advice in ("trainer.checkpoint_activations=true", "trainer.precision=bf16-mixed",
                   "batch.labeled=2 batch.unlabeled=2 trainer.accumulate=2"):  # fmt: skip
        assert advice in line


def test_advice_leaves_out_what_is_set_already(tmp_path: Path, monkeypatch) -> None:
    def full(self, batch):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(MeanTeacher, "step", full)
    overrides = tiny(
        "method=mean_teacher", "trainer.checkpoint_activations=true", "trainer.precision=bf16-mixed", "crop_size=64"
    )
    with pytest.raises(RunFailed) as told:
        train(compose_config(overrides), tmp_path, overrides)
    assert "checkpoint_activations" not in str(told.value) and "precision" not in str(told.value)
    assert "batch.labeled=1 batch.unlabeled=1 trainer.accumulate=2" in str(told.value)
    assert "crop_size=[48,48]" in str(told.value)


def test_out_of_memory_in_validation_speaks_of_validation(tmp_path: Path, monkeypatch) -> None:
    def full(self, batch, batch_idx):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(MeanTeacher, "validation_step", full)
    overrides = tiny("method=mean_teacher", "loader.eval_batch=4")
    with pytest.raises(RunFailed, match=r"in the validation at step 2 .*loader\.eval_batch=1 .*eval=sliding"):
        train(compose_config(overrides), tmp_path, overrides)
