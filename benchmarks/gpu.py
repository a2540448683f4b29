"""Everything that needs a GPU, in two calls of less than ten minutes each; a CPU runs it at a small size.

python benchmarks/gpu.py steps [--quick] [--seconds N] [--out DIR]   every method at its recipe, in every precision
python benchmarks/gpu.py runs [--quick] [--seconds N] [--out DIR]    DDP on one device, killed and resumed runs

Writes ``<card>_<call>.json`` under ``benchmarks/reports/``. What does not fit the time, or the memory, is listed there
by name. What was seen on an H100, and what was not, is in docs/speed.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from bare import methods, recipes
from random_batch import random_batch
from table import machine
from timing import DEVICE, timed
from torch import distributed as dist
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from semiseg.config import compose_config
from semiseg.config.schema import Trainer
from semiseg.config.settings import Settings, read_settings
from semiseg.methods.base import SemiMethod
from semiseg.runs.checkpoint import load_checkpoint
from semiseg.training.assemble import assemble_method
from semiseg.training.fit import train
from semiseg.training.out_of_memory import is_out_of_memory
from semiseg.training.peak_memory import peak_memory
from semiseg.training.step_profile import matrix_rate
from semiseg.training.trainer import prepare_networks

HERE = Path(__file__).resolve().parent
SECONDS = 540
"""Of a call, unless --seconds says otherwise; what comes later is left out and named."""

CLASSES = [str(i) for i in range(21)]


@dataclass(frozen=True)
class Case:
    """A method on a network: crop in pixels, images of each kind; or a recipe, which has a crop of its own."""

    method: str
    model: str = ""
    crop: int = 0
    batch: int = 2
    recipe: str = ""

    def settings(self) -> Settings:
        """With new weights and all on one device."""
        overrides = [f"experiment={self.recipe}"] if self.recipe else [f"method={self.method}", f"model={self.model}"]
        overrides += [] if self.recipe else [f"crop_size=[{self.crop},{self.crop}]"]
        if self.recipe and "weights" in compose_config(overrides).model:
            overrides.append("model.weights=none")
        return read_settings(compose_config([*overrides, "trainer.precision=32-true"]))


@dataclass(frozen=True)
class Variant:
    """How a case is computed."""

    name: str
    dtype: torch.dtype | None = None
    tf32: bool = False
    channels_last: bool = False
    compiled: bool = False


VARIANTS = (
    Variant("bf16, channels last", torch.bfloat16, channels_last=True),  # trainer=gpu; first, in case time runs out
    Variant("float32"),
    Variant("tf32", tf32=True),
    Variant("bf16", torch.bfloat16),
    Variant("bf16, channels last, compiled", torch.bfloat16, channels_last=True, compiled=True),
)

CASES = (
    *(Case(method, "deeplabv3plus_r50", 321, 4) for method in methods()),
    Case("unimatch", "deeplabv3plus_r50", 513, 4), Case("unimatch", "deeplabv3plus_r101", 513, 4),
    Case("unimatch_v2", "dpt_dinov2_s", 518, 4), Case("unimatch", "deeplabv3plus_r50", 801, 2),
    *(Case(name.split("/")[0], recipe=name) for name in recipes()),
)  # fmt: skip
QUICK = (Case("supervised", "tiny", 32, 2), Case("mean_teacher", "tiny", 32, 2))


def steps(quick: bool, deadline: float) -> dict[str, Any]:
    """Every case in every variant; the first variant of all cases comes first."""
    rows, left_out, rates = [], [], {}
    variants = [v for v in VARIANTS if DEVICE.type == "cuda" or not (v.tf32 or v.compiled)]
    for variant, case in itertools.product(variants, QUICK if quick else CASES):
        name = asdict(case)
        if time.monotonic() > deadline:
            left_out.append({**name, "variant": variant.name, "why": "time"})
            continue
        try:
            rates.setdefault(variant.name, _rate(variant))
            rows.append({**name, "variant": variant.name, **_measure(case, variant, rates[variant.name])})
        except Exception as e:
            if not is_out_of_memory(e):
                raise
            left_out.append({**name, "variant": variant.name, "why": "memory"})
        if DEVICE.type == "cuda":
            torch.cuda.empty_cache()
    return {"matrix_flops": rates, "rows": rows, "left_out": left_out}


def _rate(variant: Variant) -> float:
    """Operations a second of a large matrix product in the numbers of a variant."""
    torch.backends.cuda.matmul.allow_tf32 = variant.tf32
    return matrix_rate(DEVICE, dtype=variant.dtype or torch.float32)


def _measure(case: Case, variant: Variant, rate: float) -> dict[str, Any]:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = variant.tf32
    trainer = Trainer(channels_last=variant.channels_last, compile=variant.compiled)
    settings = case.settings()
    method = _method(settings, trainer)
    batch = random_batch(method, case.batch, case.batch, settings.crop_size, DEVICE)

    def step() -> None:
        with torch.autocast(DEVICE.type, variant.dtype, enabled=variant.dtype is not None):
            loss = method.step(batch).loss
        loss.backward()
        method.zero_grad(set_to_none=True)

    for _ in range(3):
        step()
    seconds = min(timed(step) for _ in range(5))
    peak, syncs, kernels = peak_memory(step, DEVICE), host_syncs(step), largest_kernels(step)
    flops = None
    if not variant.compiled:
        with FlopCounterMode(display=False) as counter:
            step()
        flops = counter.get_total_flops()
    images = case.batch * (1 if method.view_spec is None else 2)
    return {
        "seconds": seconds,
        "images_per_second": images / seconds,
        "peak_memory": peak,
        "share_of_matrix_rate": None if flops is None else flops / seconds / rate,
        "host_syncs": None if syncs is None else syncs.total(),
        "host_syncs_at": None if syncs is None else dict(syncs.most_common()),
        "kernels": kernels,
    }


def _method(settings: Settings, trainer: Trainer) -> SemiMethod:
    method = assemble_method(settings, CLASSES, max_steps=100).to(DEVICE).train()
    method.steps_done = 50  # past every warm-up
    prepare_networks(method, trainer)
    return method


def host_syncs(work: Callable[[], object]) -> Counter[str] | None:
    """How often the host waits for the device, by the line of Python that does; None without one."""
    if DEVICE.type != "cuda":
        return None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    # torch also warns, once, that the mode "does not yet detect all synchronizing operations".
    return Counter(f"{w.filename}:{w.lineno}" for w in caught if "called a synchronizing" in str(w.message))


def largest_kernels(work: Callable[[], object], count: int = 10) -> list[tuple[str, float]]:
    """The kernels that take most of the device's time, with their share; empty on a CPU."""
    if DEVICE.type != "cuda":
        return []
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        work()
    # Operations of the host are listed too, with the time of the kernels they have started.
    events = [e for e in profiler.key_averages() if e.device_type == DeviceType.CUDA and not e.is_user_annotation]
    found = [(e.key, float(e.self_device_time_total)) for e in events]
    total = sum(t for _, t in found) or 1.0
    return [(name[:80], t / total) for name, t in sorted(found, key=lambda x: -x[1])[:count]]


def runs(quick: bool, deadline: float) -> dict[str, Any]:
    """What only a whole run shows."""
    precisions = ["32-true", "bf16-mixed", *(["16-mixed"] if DEVICE.type == "cuda" else [])]
    found: dict[str, Any] = {"ddp": ddp_on_one_device(), "resumed": {}, "left_out": []}
    for precision in precisions:
        if time.monotonic() > deadline:
            found["left_out"].append(precision)
        else:
            found["resumed"][precision] = largest_difference(precision, quick)
    return found


def ddp_on_one_device() -> bool:
    """Whether the gradients of a process group of one are those of the plain network."""
    method = _method(QUICK[0].settings(), Trainer())
    x = torch.randn(2, 3, 32, 32, device=DEVICE)
    method.student(x).square().mean().backward()
    plain = [p.grad.clone() for p in method.student.parameters() if p.grad is not None]
    method.zero_grad()
    with tempfile.TemporaryDirectory() as folder:
        backend = "nccl" if DEVICE.type == "cuda" else "gloo"
        dist.init_process_group(backend, init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
        try:
            wrapped = torch.nn.parallel.DistributedDataParallel(method.student)
            wrapped(x).square().mean().backward()
            together = [p.grad for p in method.student.parameters() if p.grad is not None]
            return all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(plain, together, strict=True))
        finally:
            dist.destroy_process_group()


def largest_difference(precision: str, quick: bool) -> float:
    """Between the weights of a run that was ended half-way and resumed, and of one that was not: 0 is bit-exact."""
    half, accelerator = 2 if quick else 20, "gpu" if DEVICE.type == "cuda" else "cpu"
    overrides = [
        "method=unimatch", f"max_steps={2 * half}", f"val_every={half}", f"trainer.precision={precision}",
        f"trainer.accelerator={accelerator}", "data.n_train=32", "data.n_val=2", "loader.num_workers=0",
        "trainer.deterministic=true" if DEVICE.type == "cpu" else "trainer.deterministic=warn",
    ]  # fmt: skip
    if quick:
        overrides += ["data.size=[48,48]", "crop_size=[32,32]", "batch.labeled=2", "batch.unlabeled=2"]
    cfg = compose_config(overrides)
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place, "whole"), Path(place, "parts")]
        train(cfg, folders[0])
        with _killed_after(half):
            train(cfg, folders[1])
        train(cfg, folders[1])
        a, b = (load_checkpoint(f / "checkpoints" / "last.ckpt")["state_dict"] for f in folders)
    return max(float((a[key].double() - b[key].double()).abs().max()) for key in a if a[key].numel())


class _killed_after:
    """Ends training in the step after so many."""

    def __init__(self, steps: int) -> None:
        self.steps, self.step = steps, SemiMethod.training_step

    def __enter__(self) -> None:
        plain, after = self.step, self.steps

        def training_step(self: SemiMethod, batch: Any, batch_idx: int) -> dict[str, Any]:
            if self.global_step == after:
                raise InterruptedError
            return plain(self, batch, batch_idx)

        SemiMethod.training_step = training_step  # type: ignore[method-assign]

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> bool:
        SemiMethod.training_step = self.step  # type: ignore[method-assign]
        return kind is InterruptedError


def main(argv: Sequence[str] | None = None) -> Path:
    """Make one of the two calls; returns the file it has written."""
    parser = argparse.ArgumentParser(description="Everything that needs a GPU, in two calls.")
    parser.add_argument("call", choices=["steps", "runs"])
    parser.add_argument("--quick", action="store_true", help="only show that it runs; the numbers mean nothing")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="leave out what would begin later")
    parser.add_argument("--out", type=Path, default=HERE / "reports")
    args = parser.parse_args(argv)
    deadline = time.monotonic() + args.seconds
    found = {"machine": machine(), **(steps if args.call == "steps" else runs)(args.quick, deadline)}
    card = found["machine"]["device"].replace(" ", "_").replace("/", "_")
    path = args.out / f"{card}_{args.call}.json"
    args.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n")
    print(path)
    return path


if __name__ == "__main__":
    main()
