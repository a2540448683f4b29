"""A coordinator of an Optuna study, with a formula instead of training; three of them are started by a test.

cd tests; python -m support.coordinate URL RANK FILE
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

from semiseg.sweep.jobs import Job, Outcome
from semiseg.sweep.pruner import load_trial
from semiseg.sweep.space import split_space
from semiseg.sweep.study import Search

SPACE = ["optim.lr=tag(log,interval(0.001,0.1))", "method.conf_threshold=choice(0.5,0.9)"]
N_TRIALS = 30


def objective(overrides: tuple[str, ...]) -> float:
    """The best mIoU of a run."""
    lr = float(overrides[0].split("=")[1])
    return 1 - abs(math.log10(lr) + 2) / 2


def coordinate(storage: str, rank: int, mark: Path) -> None:
    """What the sweeper does, with a formula instead of jobs; the second coordinator stops in its third trial."""
    search = Search(
        storage, "three", split_space(SPACE)[1], seed=7, lease=5.0, n_jobs=3,
        pruner="asha", pruner_args={"min_resource": 1, "reduction_factor": 2},
    )  # fmt: skip
    ran = 0
    while True:
        batch = search.take_over(1) or [s for s in [search.ask(N_TRIALS)] if s]
        for suggestion in batch:
            trial = load_trial(storage, "three", suggestion.number)
            status, miou = "completed", objective(suggestion.overrides)
            for step in (1, 2, 4):
                trial.report(miou * step / 4, step)
                time.sleep(0.01)
                if step < 4 and trial.should_prune():
                    status = "pruned"
                    break
            ran += 1
            while rank != 1 and ran == 5 and not mark.exists():
                time.sleep(0.05)  # the others leave some trials to the one that is lost
            if rank == 1 and ran == 3:
                mark.touch()
                time.sleep(600)
            search.tell(suggestion.number, Outcome(Job(suggestion.overrides, Path("run")), status, miou))
        if not batch:
            if not search.waiting_for():
                break
            time.sleep(0.1)
    search.close()


if __name__ == "__main__":
    coordinate(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
