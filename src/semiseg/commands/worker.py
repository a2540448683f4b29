"""``semiseg worker``: run the planned runs of a study in a shared folder."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from semiseg.commands.args import no_more, option, parse
from semiseg.config.check import top_level_names
from semiseg.errors import InputError


@dataclass
class WorkerArguments:
    """Runs the planned runs of a study until all are done; start as many workers as you like.

    Plan the study first: semiseg train -m ... plan=true. STUDY is its folder, such as runs/default, on a shared disk.
    Pass the passwords and keys of the sweep's command again, as key=value: they are left out of the plan.
    """

    usage: ClassVar[str] = "semiseg worker STUDY [key=value ...]"

    n_jobs: Annotated[int, Field(gt=0)] | None = option(
        "runs at a time (default: one per group of GPUs, or one without GPUs)", None, value="N"
    )
    lease: Annotated[float, Field(ge=1)] = option("seconds without a heartbeat until a run is taken over", 60.0)
    wait: bool = option("wait for the runs of other workers, to take over those that are lost", True)
    retry_failed: bool = option("run failed jobs again", False)


def main(argv: Sequence[str]) -> int:
    """Run until the study is done. Returns 1 if a job of the study failed."""
    found = parse(argv, WorkerArguments, known=top_level_names)
    if found is None:
        return 0
    arguments, rest = found
    secrets = [word for word in rest if "=" in word]
    rest = [word for word in rest if "=" not in word]
    if not rest:
        raise InputError("semiseg worker needs the folder of a study, for example: semiseg worker runs/default")
    no_more(rest[1:], WorkerArguments)
    from semiseg.sweep.worker import Worker

    log = logging.getLogger("semiseg")
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
    worker = Worker(
        Path(rest[0]), n_jobs=arguments.n_jobs, lease=arguments.lease, wait=arguments.wait,
        retry_failed=arguments.retry_failed, secrets=secrets,
    )  # fmt: skip
    outcomes = worker.run()
    counts: dict[str, int] = {}
    for outcome in outcomes:
        counts[outcome.status] = counts.get(outcome.status, 0) + 1
    log.info("%d run(s) by this worker; the study: %s", len(worker.outcomes), _listed(counts))
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    for outcome in failed:
        log.error("%s", outcome)
    return 1 if failed else 0


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {'waiting' if status == 'interrupted' else status}" for status, n in counts.items())
