"""The jobs of a sweep: all are composed and checked before the first one starts; finished ones are skipped."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from semiseg.arguments import mask_config
from semiseg.config import without_hydra
from semiseg.config.make import fold_of, make, partition_args
from semiseg.config.quoting import quoted
from semiseg.config.resolvers import without_effect
from semiseg.config.settings import Settings, read_settings
from semiseg.config.stored import plain
from semiseg.config.validate import check_config
from semiseg.errors import InputError
from semiseg.runs.data import RunData, open_data
from semiseg.runs.folder import RunFolder
from semiseg.sweep.composing import Composer
from semiseg.sweep.jobs import Job, Outcome, outcome
from semiseg.sweep.launching import make_job

log = logging.getLogger(__name__)

BUILT_FROM = (
    "model", "method", "loss", "optim", "eval", "transforms", "crop_size", "batch", "loader", "max_steps", "epochs",
)  # fmt: skip
"""The parts of a configuration that decide whether its objects can be built."""

Kind = tuple[str, str, str]
"""Data, method and model of a run."""


@dataclass(frozen=True)
class Planned:
    """A planned job of a sweep. A study may have thousands, so it does not store the configuration.

    Attributes:
        job: the job.
        kind: data, method and model, the main factors of its speed.
        max_steps: its length; None if it is given in epochs.
        val_every: steps between two validations.
        done: its outcome, if there is nothing left to do.
    """

    job: Job
    kind: Kind
    max_steps: int | None
    val_every: int
    done: Outcome | None = None


class Plan:
    """Composes jobs, skips finished ones, launches the rest.

    Args:
        sweeper: the sweeper after Hydra's ``setup``. Its ``config`` has Hydra's node. Its ``launcher`` is None to
            plan only. With ``retry_failed``, failed jobs are run again; otherwise they are only reported.
        rehearse: builds the objects of a job, to find errors that only constructors detect.

    Attributes:
        several_roots: the sweep varies ``data.root``: run folders are distinguished by their data fingerprint.
    """

    def __init__(self, sweeper: Any, *, rehearse: Callable[[Settings, RunData], None]) -> None:
        self.config: DictConfig = sweeper.config
        self.launcher: Launcher | None = sweeper.launcher
        self.retry_failed: bool = sweeper.retry_failed
        self.rehearse = rehearse
        self._compose = Composer(sweeper.hydra_context.config_loader, self.config)
        self.outcomes: dict[Path, Outcome] = {}
        self.several_roots = False
        self._launched = 0
        self._listed: dict[str, RunData] = {}
        self._rehearsed: set[str] = set()
        self._roots: dict[Path, str] = {}

    def job(self, overrides: Sequence[str], label: str = "") -> Planned:
        """Compose and check a job.

        Raises:
            InputError: it does not compose, a value is invalid, its data is missing, or its folder belongs to another
                configuration or other data.
        """
        try:
            cfg = self._compose(overrides)
            job = make_job(cfg, overrides, label)
            cfg = without_hydra(cfg, cfg.hydra)
        except (HydraException, OmegaConfBaseException) as e:
            raise InputError(f"{label or ' '.join(overrides)}: {' '.join(str(e).split())[:300]}") from e
        try:
            values = check_config(cfg)
            listed = self.data(cfg)
            self._rehearse(cfg, values, listed)
        except InputError as e:
            raise InputError(f"{label}: {e}" if label else str(e)) from e
        data = listed.record
        job = replace(job, data=data["digest"])
        if self.several_roots:
            folder = job.folder.with_name(f"{job.folder.name}_{data['digest'][:8]}")
            self._check_roots(folder, str(values["data"].get("root")))
            subdir = folder.relative_to(Path(self.config.hydra.sweep.dir).absolute())
            job = replace(job, folder=folder, overrides=(*job.overrides, quoted("hydra.sweep.subdir", subdir)))
        done = (
            outcome(job)
            if RunFolder(job.folder).claim(mask_config(plain(cfg)), data, overwrite=cfg.overwrite)
            else None
        )
        if done is None and not cfg.overwrite and not self.retry_failed:
            before = outcome(job)
            done = before if before.status == "failed" else None
        kind = (cfg.protocol.name.partition("/")[0], cfg.choices.method, cfg.choices.model)
        return Planned(job, kind, cfg.max_steps, cfg.val_every, done)

    def data(self, cfg: DictConfig) -> RunData:
        """The data of a run; data shared by several jobs is listed once.

        Raises:
            InputError: the data set or a list is missing or wrong.
        """
        known = json.dumps([plain(cfg[key], resolve=True) for key in ("data", "protocol")], sort_keys=True, default=str)
        if known not in self._listed:
            found = open_data(partial(make, cfg, "data"), partition_args(cfg), cfg.protocol.val_split, fold_of(cfg))
            self._listed[known] = found
        return self._listed[known]

    def _rehearse(self, cfg: DictConfig, values: Mapping[str, Any], data: RunData) -> None:
        """Build the objects of a job once for all jobs that differ in nothing that matters for it, such as the seed."""
        facts = {key: value for key, value in values.items() if key in BUILT_FROM}
        known = json.dumps([facts, data.fingerprint.digest], sort_keys=True, default=str)
        if known not in self._rehearsed:
            self._rehearsed.add(known)
            self.rehearse(read_settings(cfg), data)

    def _check_roots(self, folder: Path, root: str) -> None:
        """Reject two roots with the same data, as both would be one run.

        Raises:
            InputError: names both.
        """
        other = self._roots.setdefault(folder, root)
        if Path(other).absolute() != Path(root).absolute():
            raise InputError(
                f"data.root={other} and data.root={root} contain the same data, both would be one run: give one of them"
            )

    def launch(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run jobs with the configured Hydra launcher; a failed job does not stop the others."""
        assert self.launcher is not None
        returns = self.launcher.launch([list(job.overrides) for job in jobs], initial_job_idx=self._launched)
        self._launched += len(jobs)
        found = [outcome(job, _error(r)) for job, r in zip(jobs, returns)]
        self.outcomes |= {o.job.folder: o for o in found}
        return found

    def close(self, extra: Sequence[str] = ()) -> None:
        """Log the outcome of the sweep, with one line for each unfinished job.

        Raises:
            SystemExit: with code 1, if a job failed or was interrupted.
        """
        counts: dict[str, int] = {}
        for found in self.outcomes.values():
            counts[found.status] = counts.get(found.status, 0) + 1
        log.info("sweep: %s", ", ".join(f"{n} {status}" for status, n in counts.items()) or "no jobs")
        for line in extra:
            log.info("%s", line)
        bad = [o for o in self.outcomes.values() if o.status in ("failed", "interrupted")]
        for found in bad:
            log.error("%s (%s)", found, found.job.folder)
        if any(o.status == "interrupted" for o in bad):
            log.error("repeat the command to resume interrupted jobs")
        if any(o.status == "failed" for o in bad):
            log.error("hydra.sweeper.retry_failed=true runs failed jobs again")
        if bad:
            sys.exit(1)


def merge(params: Mapping[str, Any], arguments: Sequence[str]) -> list[str]:
    """The params of a sweep file merged with the command line, which takes precedence."""
    given = {a.split("=", 1)[0].lstrip("+~") for a in arguments}
    return [*(f"{key}={value}" for key, value in params.items() if key not in given), *arguments]


def computed(overrides: Sequence[str]) -> list[str]:
    """The overrides that affect the result, sorted."""
    return sorted(o for o in overrides if not without_effect(o.lstrip("+~").split("=", 1)[0]))


def _error(returned: JobReturn) -> str | None:
    if returned.status is JobStatus.COMPLETED:
        return None
    lines = [line for line in str(returned._return_value).splitlines() if line.strip()]
    return lines[-1] if lines else type(returned._return_value).__name__
