"""Several processes for one Hydra job: one torchrun, never Lightning's own relaunch.

Lightning would start ``sys.argv`` again, which inside a sweep starts the sweep again: the ranks then silently train on
different settings. The parent imports no torch and reads the outcome from result.json.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semiseg.errors import InputError
from semiseg.results import RunResult, read_result


def run_distributed(cfg: Any, folder: str | Path, overrides: Sequence[str]) -> RunResult:
    """Run the job's own overrides in ``trainer.devices`` processes on this machine, in the given folder."""
    if cfg.trainer.num_nodes > 1:
        raise InputError(
            f"trainer.num_nodes={cfg.trainer.num_nodes}: start 'torchrun --nnodes=N -m semiseg train ...' on each node"
        )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc_per_node={cfg.trainer.devices}", "-m", "semiseg", "train", *overrides]
    done = subprocess.run([*command, f"hydra.run.dir={folder}"], check=False)
    result = read_result(Path(folder))
    if done.returncode != 0 or result is None:
        raise RuntimeError(f"the processes ended with code {done.returncode}; see {folder}/log.txt")
    return result
