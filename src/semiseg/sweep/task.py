"""The task function of a sweep for third-party launchers: each job is a separate process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semiseg.config.resolvers import register_resolvers
from semiseg.sweep.jobs import Job
from semiseg.sweep.launching import number
from semiseg.sweep.processes import run_processes

# A launcher may compose the job's configuration in a new process that has imported only this module.
register_resolvers()


def task(cfg: Any) -> float | None:
    """Run one job in a separate process; returns the best mIoU."""
    from hydra.core.hydra_config import HydraConfig

    hydra_cfg = HydraConfig.get()
    job = Job(tuple(hydra_cfg.overrides.task), Path(hydra_cfg.runtime.output_dir), devices=cfg.trainer.devices)
    (found,) = run_processes([job], [{}], echo=True)
    return number(found)
