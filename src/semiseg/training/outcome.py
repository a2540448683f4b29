"""Writes result.json: settings, data, and results of a run."""

from __future__ import annotations

import datetime
import logging
import shlex
from collections.abc import Sequence
from typing import Literal

import pytorch_lightning as pl

from semiseg.config.settings import Settings
from semiseg.runs.environment import git_state, package_versions
from semiseg.runs.files import write_json
from semiseg.runs.folder import RunFolder
from semiseg.runs.lease import check_held
from semiseg.runs.result import RunResult, iou_or_none
from semiseg.training.assemble import Assembly
from semiseg.training.callbacks.run_record import RunRecord

log = logging.getLogger(__name__)


class Outcome:
    """The result of a run, written as often as its status changes.

    Args:
        settings: settings of the run.
        folder: the run folder.
        assembly: the objects of the run.
        record: the numbers so far.
        overrides: the overrides as typed.
    """

    def __init__(
        self, settings: Settings, folder: RunFolder, assembly: Assembly, record: RunRecord, overrides: Sequence[str]
    ) -> None:
        self.settings, self.folder, self.assembly, self.record = settings, folder, assembly, record
        self.command = shlex.join(["semiseg", "train", *overrides])
        before = folder.read_result()
        self.started = (before and before["started"]) or _now()

    def write(
        self, trainer: pl.Trainer, status: Literal["completed", "interrupted", "failed"], error: str | None = None
    ) -> RunResult:
        """Write the numbers of the last validation, and return them."""
        settings, record, data = self.settings, self.record, self.assembly.data
        last = record.last
        iou = {c: iou_or_none(last.get(f"val/iou/{c}")) for c in data.dataset.classes}
        name, _, partition = data.protocol.partition("/")
        pseudo = data.pseudo_labels
        n_pseudo = 0 if pseudo is None else len(pseudo.ids)
        result = RunResult(
            status=status,
            error=error,
            stopped_early=record.stopped_early if status == "completed" else None,
            data=name,
            protocol=data.protocol,
            partition=partition,
            method=settings.method,
            model=settings.model,
            seed=settings.seed,
            study=settings.study,
            command=self.command,
            started=self.started,
            finished=_now(),
            n_labeled=len(data.partition.labeled) - n_pseudo,
            n_unlabeled=len(data.partition.unlabeled) + n_pseudo,
            n_val=len(data.val_ids),
            labeled_ids_sha256=data.partition.sha256,
            official=data.partition.official,
            folds=data.fold.count if data.fold else None,
            fold=data.fold.index if data.fold else None,
            pool_fingerprint=data.pool or None,
            data_fingerprint=data.fingerprint.digest,
            validation_fingerprint=data.validation_digest,
            data_warnings=list(self.assembly.warnings),
            pseudo_labels=None if pseudo is None else pseudo.record,
            steps=trainer.global_step,
            world_size=trainer.world_size,
            batch_labeled=settings.batch.labeled,
            batch_unlabeled=settings.batch.unlabeled,
            crop_size=list(settings.crop_size),
            precision=str(trainer.precision),
            miou={
                "best": iou_or_none(record.best),
                "best_step": record.best_step,
                "last": iou_or_none(last.get("val/miou")),
                "last_student": iou_or_none(last.get("val/miou_student")),
                "last_teacher": iou_or_none(last.get("val/miou_teacher")),
            },
            iou_per_class=iou,
            classes_counted=sum(v is not None for v in iou.values()),
            seconds_training=round(record.seconds_training, 3),
            seconds_validation=round(record.seconds_validation, 3),
            images_per_second=round(record.images / max(record.seconds_training, 1e-9), 2),
            peak_memory_mb=round(record.peak_memory_mb, 1),
            versions=package_versions(),
            git=git_state(),
        )
        # Any of several processes may fail, and rank 0 may then never get here.
        if trainer.is_global_zero or status == "failed":
            check_held()
            try:
                write_json(self.folder.result, result)
            except OSError as e:
                log.error("result.json cannot be written: %s", e)
        return result

    def interrupted(self, trainer: pl.Trainer, reason: str) -> KeyboardInterrupt:
        """Write the result, and log how to resume; returns the exception to raise."""
        self.write(trainer, "interrupted", reason)
        if trainer.is_global_zero:
            saved = "the same command resumes from the last checkpoint"
            what = saved if self.folder.has_checkpoints else "nothing is saved yet; the same command starts over"
            log.warning("%s; %s: %s", reason, what, self.command)
        return KeyboardInterrupt(reason)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
