"""One run as several processes of several nodes; torchrun starts this file.

cd tests; torchrun --nnodes=2 --node_rank=N --nproc_per_node=2 ... -m support.node_runs FOLDER DEVICES NODES
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from support.ddp_runs import run, without_batch_statistics

METHOD = ["method=mean_teacher", "batch.labeled=1", "batch.unlabeled=1"]


def main(folder: Path, devices: int, nodes: int) -> None:
    """Train and keep the state of this process."""
    torch.set_num_threads(1)
    with without_batch_statistics():
        _, state = run(folder / "run", *METHOD, f"trainer.devices={devices}", f"trainer.num_nodes={nodes}")
    torch.save(state, folder / f"{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
