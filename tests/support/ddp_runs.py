"""Small runs of every method, for one process or several; torchrun starts this file as the several.

    cd tests; python -m torch.distributed.run --standalone --nproc_per_node=2 -m support.ddp_runs FOLDER

Equal sums need equal terms, so BatchNorm normalizes by its running statistics here: those of a batch differ between
one batch of four images and two of two, unless SyncBN joins them, which a CPU does not have.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg.config import compose_config, conf_dir
from semiseg.runs.result import RunResult
from semiseg.training import assemble as building
from semiseg.training.fit import train
from support.tiny import SHORT_QUEUES, tiny

METHODS = sorted(p.stem for p in (conf_dir() / "method").glob("*.yaml"))
STATE_OF_ONE = {  # what a second batch of the same step would see changed by the first: not with two processes
    "corrmatch": ["method.threshold_decay=1"],  # the threshold follows the surest process
    "u2pl": ["method.contrast_weight=0"],  # the queues take the vectors of all processes at once
    "u2pl_released": ["method.contrast_weight=0"],
    "mkd": ["method.strength=0"],  # class statistics, of each process or (sync_stats) of all at once
    "allspark": ["method.use_memory=false"],  # the memory takes the channels of rank 0, or of all at once
}
SMALL = tiny(
    "data.n_train=24", "data.n_val=3", "protocol=", "protocol.count=6", "protocol.fraction=null", "crop_size=[32,40]",
    "max_steps=4", "val_every=4", "model.width=8", "diagnostics.panels=0", "optim.lr=0.05",
)  # fmt: skip
PER_IMAGE = {  # methods, or options, that look at one image at a time: one process may also take all images at once
    "supervised": [],
    "mean_teacher": ["method.mixing=none", "method.conf_mode=none"],
    "cps": ["method.mixing=none"],
}
SHARED = {  # by default AllSpark's memory of rank 0 replaces the others at the next step
    "allspark": ["method.memory_sync=gather"], "u2pl": SHORT_QUEUES, "u2pl_released": SHORT_QUEUES,
}  # fmt: skip
NO_PADDING = ["transforms.scale=[1.0,1.5]"]
SPEED = ["method=unimatch", "trainer.precision=bf16-mixed", "trainer.channels_last=true"]


def frozen(self: nn.BatchNorm2d, x: Tensor) -> Tensor:
    return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


@contextlib.contextmanager
def without_batch_statistics() -> Iterator[None]:
    with mock.patch.object(nn.BatchNorm2d, "forward", frozen):
        yield


def run(folder: Path, *overrides: str) -> tuple[RunResult, dict[str, Tensor]]:
    """The result and the state of this process at the end."""
    built = []
    real = building.assemble_method
    with mock.patch.object(building, "assemble_method", lambda *a, **k: built.append(real(*a, **k)) or built[-1]):
        result = train(compose_config([*SMALL, *overrides]), folder, overrides)
    return result, built[0].state_dict()


def main(folder: Path) -> None:
    """All runs of two processes."""
    rank, two = os.environ["RANK"], "trainer.devices=2"

    def keep(name: str, *overrides: str) -> None:
        result, state = run(folder / name, two, *overrides)
        torch.save({"result": dict(result), "state": state}, folder / f"{name}_{rank}.pt")

    with without_batch_statistics():
        for method in METHODS:
            keep(method, f"method={method}", *STATE_OF_ONE.get(method, []))
        for method, options in PER_IMAGE.items():
            keep(f"{method}_whole", f"method={method}", *options, *NO_PADDING)
    for method in METHODS:
        keep(
            f"{method}_plain", f"method={method}", *SHARED.get(method, []), "max_steps=2", "val_every=1", "data.n_val=1"
        )
    keep("speed", *SPEED)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
