"""One run: check, build, fit, write result.json."""

from __future__ import annotations

import errno
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semiseg.arguments import mask_overrides
from semiseg.config.settings import read_settings
from semiseg.errors import RunFailed
from semiseg.runs.checkpoint import describe
from semiseg.runs.files import write_json
from semiseg.runs.folder import RunFolder
from semiseg.runs.overwrite import restore_replaced
from semiseg.runs.result import RunResult
from semiseg.training.assemble import list_data
from semiseg.training.callbacks.run_record import RunRecord
from semiseg.training.callbacks.step_watch import StepWatch, Stopped
from semiseg.training.launch import check_world, placed
from semiseg.training.loggers import build_loggers, close_loggers
from semiseg.training.opened import opened
from semiseg.training.out_of_memory import is_out_of_memory, out_of_memory
from semiseg.training.outcome import Outcome
from semiseg.training.prepare import prepare
from semiseg.training.summary import farewell, summary
from semiseg.training.trainer import build_trainer, prepare_networks, quiet_lightning

log = logging.getLogger(__name__)


def train(cfg: Any, run_dir: str | Path, overrides: Sequence[str] = ()) -> RunResult:
    """Train one run in its folder; resume from ``last.ckpt`` if it exists; do nothing if the run is complete.

    Args:
        cfg: the composed configuration, without Hydra's own node; not modified.
        run_dir: the run folder.
        overrides: the overrides as typed, for the record.

    Returns:
        The contents of result.json.

    Raises:
        InputError: wrong input; nothing has been trained or written.
        RunFailed: training failed; the message gives the reason in one line.
        KeyboardInterrupt: the run was requested to stop; its checkpoint is written.
    """
    settings, folder = read_settings(cfg), RunFolder(Path(run_dir))
    # The requesting sweep is not part of the run, and secrets are never recorded.
    overrides = mask_overrides([o for o in overrides if not o.startswith("trial.")])
    check_world(settings.processes)
    if placed() is None:
        restore_replaced(folder.path)
    data = list_data(settings)
    if (done := folder.claim(settings.stored, data.record, overwrite=settings.overwrite)) is not None:
        log.info("already complete: %s (overwrite=true trains it again)", folder)
        return done

    prepared = prepare(settings, data, folder)
    settings, assembly, resume = prepared.settings, prepared.assembly, prepared.resume
    record, watch = RunRecord(), StepWatch(folder.nonfinite, settings.trainer.on_nonfinite)
    info = describe(settings.stored, data.dataset, data.record)
    trainer = build_trainer(settings, folder, assembly, record=record, watch=watch, info=info)
    with quiet_lightning(), opened(folder, settings, data.record, overrides), watch:
        if prepared.batch is not None:
            write_json(folder.batch, prepared.batch)
        outcome = Outcome(settings, folder, assembly, record, overrides)
        trainer.loggers = build_loggers(settings, folder, data.protocol)
        prepare_networks(assembly.method, settings.trainer)
        if trainer.is_global_zero:
            log.info("%s", summary(settings, folder, assembly, trainer.strategy.root_device, resume))
            for line in assembly.warnings:
                log.warning("%s", line)
        try:
            trainer.fit(assembly.method, datamodule=assembly.datamodule, ckpt_path=resume, weights_only=True)
        except (Stopped, KeyboardInterrupt, SystemExit) as e:
            raise outcome.interrupted(trainer, str(e) if isinstance(e, Stopped) else "interrupted by the user") from e
        except BaseException as e:
            e = assembly.datamodule.explain(e)
            if isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT):
                e = RunFailed(f"no space left on the disk of {folder}: free some and repeat the command")
            elif is_out_of_memory(e):
                e = out_of_memory(e, settings, trainer.global_step, validating=record.validating)
            outcome.write(trainer, "failed", str(e) if isinstance(e, RunFailed) else f"{type(e).__name__}: {e}")
            raise e
        finally:
            assembly.datamodule.close()
            close_loggers(trainer)
        if record.last_step < assembly.max_steps and not record.stopped_early:
            raise outcome.interrupted(trainer, record.stop_reason or f"stopped at step {trainer.global_step}")
        result = outcome.write(trainer, "completed")
        if trainer.is_global_zero:
            log.info("%s", farewell(result, folder, overrides))
    return result
