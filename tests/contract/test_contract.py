"""What every method must keep, for every file in conf/method. A new method is covered by its yaml and a row in KEYS."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from torch.utils._python_dispatch import TorchDispatchMode

from semiseg.api.model import load
from semiseg.api.runs import evaluate
from semiseg.config import compose_config, conf_dir
from semiseg.config.settings import read_settings
from semiseg.data.batch import SemiBatch
from semiseg.methods.base import SemiMethod
from semiseg.runs.checkpoint import load_checkpoint
from semiseg.runs.result import RunResult
from semiseg.training.assemble import assemble
from semiseg.training.callbacks.progress import Progress
from semiseg.training.fit import train
from support.tiny import SMALLER, tiny

KEYS = {  # scalars each method logs besides train/loss and train/loss_sup
    "supervised": set(),
    "stpp": {"loss_unsup"},  # kept_ratio from the second stage on
    "augseg": {"loss_unsup", "certainty", "kept_ratio"},
    "allspark": {"loss_unsup", "memory_filled", "kept_ratio"},
    "cps": {"loss_cps", "kept_ratio"},
    "corrmatch": {"loss_sup_corr", "loss_s", "loss_kl", "loss_fp", "loss_corr_s", "loss_corr_w", "kept_ratio"}
    | {"threshold", "filled_ratio"},
    "mean_teacher": {"loss_unsup", "kept_ratio"},
    "fixmatch": {"loss_unsup", "kept_ratio"},
    "fixmatch_ema": {"loss_unsup", "kept_ratio"},
    "u2pl": {"loss_unsup", "loss_contrast", "kept_ratio"},
    "u2pl_released": {"loss_unsup", "loss_contrast", "kept_ratio"},
    "mkd": {"loss_teacher", "loss_students", "flipped_ratio", "kept_ratio"},
    "unimatch": {"loss_s1", "loss_s2", "loss_fp", "kept_ratio"},
    "unimatch_v2": {"loss_s1", "loss_s2", "kept_ratio"},
    "s4mim": {"loss_s1", "loss_s2", "loss_fp", "kept_ratio"}
    | {"loss_mim", "loss_fa", "loss_sem", "active_pairs", "masked_ratio"},
    "guidedmix": {"loss_unsup", "loss_sup_mix", "agreement", "kept_ratio"},
    "guidedmix_released": {"loss_unsup", "agreement", "kept_ratio"},
}
METHODS = sorted(p.stem for p in (conf_dir() / "method").glob("*.yaml"))
STEPS = 6


def config(method: str, *overrides: str) -> DictConfig:
    return compose_config(
        tiny(
            f"method={method}", "data.n_train=24", "data.n_val=4", "protocol=", "protocol.count=4",
            "protocol.fraction=null", "crop_size=[32,40]", f"max_steps={STEPS}", "val_every=4",
            "trainer.save_every=1", "loader.eval_batch=4", "model.width=8", *SMALLER.get(method, ()), *overrides,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, tuple[Path, RunResult]]:
    """One unbroken run of each method, made when first asked for."""
    made: dict[str, tuple[Path, RunResult]] = {}

    class Runs(dict):
        def __missing__(self, method: str) -> tuple[Path, RunResult]:
            folder = tmp_path_factory.mktemp(method)
            self[method] = (folder, train(config(method), folder))
            return self[method]

    return Runs(made)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]


def metrics(folder: Path) -> list[dict[str, float]]:
    header, *lines = (folder / "metrics.csv").read_text().splitlines()
    rows = [dict(zip(header.split(","), line.split(","))) for line in lines]
    return [{k: float(v) for k, v in row.items() if v} for row in rows]


@pytest.mark.parametrize("method", METHODS)
def test_a_run_trains_logs_and_reports(method: str, runs) -> None:
    folder, result = runs[method]
    rows = metrics(folder)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    expected = {"loss", "loss_sup", *KEYS[method]}
    got = {k.removeprefix("train/") for k in rows[0] if k.startswith("train/") and "share" not in k}
    assert got == expected
    assert all(math.isfinite(row[f"train/{k}"]) for row in rows for k in expected)
    assert all("val/miou" in rows[step - 1] for step in (4, STEPS))  # on the interval, and at the end
    assert result["status"] == "completed" and result["steps"] == STEPS
    assert result["miou"]["last"] == pytest.approx(rows[-1]["val/miou"])
    assert (result["miou"]["last_teacher"] is not None) == any(k.startswith("teacher.") for k in weights(folder))


@pytest.mark.parametrize("method", METHODS)
def test_the_student_learns_and_a_teacher_follows(method: str, runs) -> None:
    after = weights(runs[method][0])
    before = assemble(read_settings(config(method))).method.state_dict()
    assert before.keys() == after.keys()
    moved = {k for k in before if k.startswith("student.") and not torch.equal(before[k], after[k])}
    assert moved
    for k in moved:
        teacher = k.replace("student.", "teacher.", 1)
        if teacher in after and after[k].is_floating_point():
            assert not torch.equal(after[teacher], before[teacher])  # it follows
            assert not torch.equal(after[teacher], after[k])  # it is not the student


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_run(method: str, runs, tmp_path: Path) -> None:
    train(config(method, "loader.num_workers=2"), tmp_path)
    first, second = weights(runs[method][0]), weights(tmp_path)
    assert all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("broken_at", [3, 5])
@pytest.mark.parametrize("method", METHODS)
def test_a_broken_and_resumed_run_equals_an_unbroken_one(
    method: str, broken_at: int, runs, tmp_path: Path, monkeypatch
) -> None:
    def breaks(self, trainer, *args) -> None:
        if trainer.global_step == broken_at:
            raise RuntimeError("pulled the plug")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="plug"):
        patch.setattr(Progress, "on_train_batch_end", breaks)
        train(config(method), tmp_path)
    assert load_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == broken_at - 1
    result = train(config(method), tmp_path)
    unbroken, resumed = weights(runs[method][0]), weights(tmp_path)
    assert all(torch.equal(unbroken[k], resumed[k]) for k in unbroken)
    assert result["miou"] == runs[method][1]["miou"]
    for a, b in zip(metrics(runs[method][0]), metrics(tmp_path), strict=True):
        assert {k: v for k, v in a.items() if k not in ("time/step", "memory/peak_mb")} == pytest.approx(
            {k: v for k, v in b.items() if k not in ("time/step", "memory/peak_mb")}, nan_ok=True
        )


@pytest.mark.parametrize("method", METHODS)
def test_gradient_accumulation_mixed_precision_and_channels_last(method: str, tmp_path: Path) -> None:
    result = train(
        config(
            method,
            "max_steps=2",
            "trainer.accumulate=2",
            "trainer.precision=bf16-mixed",
            "trainer.channels_last=true",
            "trainer.clip_norm=1.0",
            "loss=ohem",
        ),
        tmp_path,
    )
    assert result["steps"] == 2 and result["status"] == "completed"
    assert all(math.isfinite(row["train/loss"]) for row in metrics(tmp_path))
    if method == "supervised":  # the mean over the accumulated batches, not their sum
        assert all(row["train/loss"] == pytest.approx(row["train/loss_sup"]) for row in metrics(tmp_path))


@pytest.mark.parametrize("method", METHODS)
def test_a_finished_run_is_scored_and_loaded_from_its_files(method: str, runs) -> None:
    folder, result = runs[method]
    scores = evaluate(folder, which="last")["miou"]
    assert result["miou"]["last"] in [pytest.approx(score, nan_ok=True) for score in scores.values()]
    assert load(folder).classes == tuple(result["iou_per_class"])


FORBIDDEN = ("item", "tolist", "numpy", "__bool__", "__int__", "__float__", "cpu")


aten = torch.ops.aten
REFUSED = {
    aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten._unique2, aten.unique_dim,
    aten.unique_consecutive, aten.bincount, aten.equal,
}  # fmt: skip
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}


class NoReadBack(TorchDispatchMode):
    """Refuses operations whose value, or size of the result, the host must know: a GPU would be waited for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket
        by_mask = name in INDEXING and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        if name in REFUSED or by_mask:
            raise AssertionError(f"a step read a value back from the device: {func}{' by a mask' if by_mask else ''}")
        return func(*args, **(kwargs or {}))


def ready(method: str, device: str = "cpu") -> tuple[SemiMethod, SemiBatch]:
    """A method in train mode and its first batch."""
    assembly = assemble(read_settings(config(method)))
    built, datamodule = assembly.method.to(device).train(), assembly.datamodule
    batch = next(iter(datamodule.train_dataloader())).to(device)
    return built, datamodule.on_after_batch_transfer(batch, 0)


@pytest.mark.parametrize("method", METHODS)
def test_no_step_waits_for_the_device(method: str, monkeypatch) -> None:
    built, batch = ready(method)

    def refuse(*args, **kwargs):
        raise AssertionError("a step read a value back from the device")

    with monkeypatch.context() as patch, NoReadBack():
        for name in FORBIDDEN:
            patch.setattr(torch.Tensor, name, refuse)
        patch.setattr("semiseg.ops.contrast._count_is_free", lambda device: False)  # the CPU stands for a GPU here
        output = built.step(batch)
    assert math.isfinite(output.loss.item())


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x[x > 0], lambda x: x.masked_select(x > 0), lambda x: x.nonzero(), lambda x: torch.where(x > 0),
        lambda x: x.long().unique(), lambda x: x.long().bincount(), lambda x: x.sum().item(), lambda x: bool(x.any()),
        lambda x: x.__setitem__(x > 0, x[:1]), lambda x: torch.equal(x, x),
    ],
)  # fmt: skip
def test_reading_back_is_noticed(read: Callable[[torch.Tensor], object]) -> None:
    with NoReadBack(), pytest.raises(AssertionError, match="read a value back"):
        read(torch.arange(4.0))


class NoReducingLoss(TorchDispatchMode):
    """Refuses the sum or mean of F.cross_entropy, which has no deterministic implementation on a GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in (aten.nll_loss_forward, aten.nll_loss2d_forward) and args[3] != 0:
            raise AssertionError(f'use reduction="none", then sum() or mean(): {func} is not deterministic on a GPU')
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", METHODS)
def test_every_step_can_be_deterministic_on_a_gpu(method: str) -> None:
    built, batch = ready(method)
    with NoReducingLoss():
        assert math.isfinite(built.step(batch).loss.item())


def test_a_loss_that_cannot_be_deterministic_is_noticed() -> None:
    with NoReducingLoss(), pytest.raises(AssertionError, match="not deterministic"):
        torch.nn.functional.cross_entropy(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3, dtype=torch.long))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: the CPU test above stands in for it")
@pytest.mark.parametrize("method", METHODS)
def test_every_step_is_deterministic_on_a_gpu(method: str, monkeypatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as Lightning sets it
    built, batch = ready(method, "cuda")
    torch.use_deterministic_algorithms(True)  # raises where an operation has no deterministic implementation
    try:
        output = built.step(batch)
        output.loss.backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert math.isfinite(output.loss.item())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: the CPU test above stands in for it")
@pytest.mark.parametrize("method", METHODS)
def test_no_step_waits_for_a_gpu(method: str) -> None:
    built, batch = ready(method, "cuda")
    built.step(batch).loss.backward()  # libraries set themselves up
    torch.cuda.set_sync_debug_mode("error")
    try:
        output = built.step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert math.isfinite(output.loss.item())
