"""One run: check, build, fit, write result.json. Knows nothing of Hydra's globals."""

from __future__ import annotations

import contextlib
import copy
import datetime
import errno
import logging
import os
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import WandbLogger

from semiseg.config.check import check_targets
from semiseg.config.schema import check_values
from semiseg.data.checking.check import quick_check
from semiseg.data.datasets.base import SegmentationDataset
from semiseg.data.partitions.splits import Partition
from semiseg.errors import InputError, RunFailed
from semiseg.methods.base import SemiMethod
from semiseg.models.segmentor import Segmentor
from semiseg.runs.checkpoint import check_fits, describe, load_checkpoint
from semiseg.runs.folder import claim_folder, restore_replaced, set_aside
from semiseg.runs.result import RunResult, git_state, iou_or_none, package_versions, read_result, write_json
from semiseg.training import assemble as build
from semiseg.training.callbacks.run_record import RunRecord
from semiseg.training.callbacks.step_watch import StepWatch, Stopped
from semiseg.training.launch import check_world, placed, rank

log = logging.getLogger(__name__)


def train(cfg: DictConfig, run_dir: str | Path, overrides: Sequence[str] = ()) -> RunResult:
    """Train one run in its folder; go on from ``last.ckpt`` if it was begun; do nothing if it is complete.

    Args:
        cfg: the composed configuration, without Hydra's own node.
        run_dir: the run folder.
        overrides: what was typed, for the record.

    Returns:
        What result.json holds.

    Raises:
        InputError: before anything is trained or written.
    """
    folder = Path(run_dir)
    overrides = [o for o in overrides if not o.startswith("trial.")]  # who asked for the run is no part of it
    composed = copy.deepcopy(cfg)  # what follows fills in facts of the data
    check_values(cfg)
    check_targets(cfg)
    check_world(cfg)
    if placed() is None:
        restore_replaced(folder)
    if (done := claim_folder(folder, cfg)) is not None:
        log.info("complete already: %s (overwrite=true trains it anew)", folder)
        return done

    pl.seed_everything(cfg.seed, verbose=False)  # initial weights
    dataset = build.build_dataset(cfg)
    partition = build.build_partition(cfg, dataset)
    quick_check(dataset, partition, dataset.ids(cfg.protocol.val_split))
    if cfg.max_steps is None:
        cfg.max_steps = cfg.epochs * steps_per_epoch(cfg, partition)
    method = build.build_method(cfg, dataset.classes)
    datamodule = build.build_datamodule(cfg, dataset, partition, method)
    record = RunRecord()
    info = describe(composed, dataset)
    resume = None if cfg.overwrite else newest_checkpoint(folder / "checkpoints", cfg)

    watch = StepWatch(folder / "nonfinite", cfg.trainer.on_nonfinite)
    trainer = build.build_trainer(cfg, folder, dataset, record=record, watch=watch, info=info)
    with quiet_lightning(), opened(folder, composed, overrides), log_file(folder), watch:
        outcome = Outcome(cfg, folder, dataset, partition, record)
        trainer.loggers = build.build_loggers(cfg, folder)
        prepare_networks(method, cfg)
        if trainer.is_global_zero:
            log.info("%s", summary(cfg, folder, partition, dataset, method, trainer, resume))
        try:
            trainer.fit(method, datamodule=datamodule, ckpt_path=resume, weights_only=True)
        except Stopped as e:
            outcome.write(trainer, "interrupted", str(e))
            raise KeyboardInterrupt from e
        except (KeyboardInterrupt, SystemExit) as e:
            outcome.write(trainer, "interrupted", "interrupted by the user")
            raise KeyboardInterrupt from e
        except BaseException as e:
            if isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT):
                e = RunFailed(f"no room left on the disk of {folder}: make some and give the same command again")
            outcome.write(trainer, "failed", str(e) if isinstance(e, RunFailed) else f"{type(e).__name__}: {e}")
            raise e
        finally:
            datamodule.close()
            close_loggers(trainer)
        if record.last_step < cfg.max_steps:
            outcome.write(trainer, "interrupted", record.stop_reason or f"stopped at step {trainer.global_step}")
            raise KeyboardInterrupt
        result = outcome.write(trainer, "completed", None)
        if trainer.is_global_zero:
            log.info("%s", farewell(result, folder))
    return result


# -- the run folder -------------------------------------------------------------------------------------------


def newest_checkpoint(folder: Path, cfg: DictConfig) -> Path | None:
    """The checkpoint to go on from: the last one, or the one before if the last cannot be read.

    Raises:
        InputError: none of those that are there can be read, or it is of another method or model.
    """
    unreadable: InputError | None = None
    for path in (folder / "last.ckpt", folder / "previous.ckpt"):
        if path.exists():
            try:
                checkpoint = load_checkpoint(path)
            except InputError as e:
                log.warning("%s", e)
                unreadable = e
                continue
            check_fits(checkpoint, cfg, path)
            if unreadable:
                log.warning("going on from %s instead, at step %d", path, checkpoint["global_step"])
            return path
    if unreadable:
        raise InputError(f"{unreadable}; overwrite=true trains the run anew")
    return None


@contextlib.contextmanager
def opened(folder: Path, cfg: DictConfig, overrides: Sequence[str]) -> Iterator[None]:
    """Write what defines the run, once everything else has been checked.

    With ``overwrite=true`` the earlier run is moved aside; it comes back if the new one ends without a checkpoint.

    Raises:
        InputError: the disk does not allow it.
    """
    if rank() != 0:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if cfg.overwrite:
            set_aside(folder)
        if not (folder / "config.yaml").exists():
            (folder / "overrides.yaml").write_text(OmegaConf.to_yaml(list(overrides)))
            OmegaConf.save(cfg, folder / "config.tmp")
            os.replace(folder / "config.tmp", folder / "config.yaml")  # other processes look at it meanwhile
    except OSError as e:
        restore_replaced(folder)
        raise InputError(f"cannot write to the run folder {folder} ({e.strerror}); set paths.runs=DIR") from e
    try:
        yield
    except BaseException:
        if restore_replaced(folder):
            log.warning("the earlier run was put back: the new one ended without a checkpoint")
        raise


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's notices and advice that does not apply here off the screen; its warnings stay."""
    lightning = logging.getLogger("pytorch_lightning")
    level = lightning.level
    lightning.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in (
            "does not have many workers",
            "resuming from a checkpoint",  # our loader starts at the right batch
            "module.s. in eval mode",  # teachers
            "recommended to use .self.log",  # the confusion matrix is summed over processes already
            "isinstance.treespec, LeafSpec",  # Lightning's own use of torch
        ):
            warnings.filterwarnings("ignore", message=f".*{message}.*")
        try:
            yield
        finally:
            lightning.setLevel(level)


class log_file:
    """Everything that is logged, and uncaught errors, also go to log.txt while the run works."""

    def __init__(self, folder: Path) -> None:
        self.handler = logging.FileHandler(folder / "log.txt", delay=True)
        self.handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def __enter__(self) -> None:
        logging.getLogger().addHandler(self.handler)

    def __exit__(self, *exc: Any) -> None:
        logging.getLogger().removeHandler(self.handler)
        with contextlib.suppress(OSError):  # a full disk must not hide why the run ends
            if exc[0] is not None:
                with Path(self.handler.baseFilename).open("a") as f:
                    traceback.print_exception(*exc, file=f)
            self.handler.close()


# -- networks -------------------------------------------------------------------------------------------------


def close_loggers(trainer: pl.Trainer) -> None:
    """End the wandb run: the next job of a sweep in this process must not write into it."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger) and trainer.is_global_zero:
            logger.experiment.finish()


def prepare_networks(method: SemiMethod, cfg: DictConfig) -> None:
    """Memory format and compilation, in place: names in the checkpoint stay as they are."""
    teachers = [pair.teacher for pair in method.teacher_pairs()]
    for network in dict.fromkeys([*method.evaluated().values(), *method.trained(), *teachers]):
        if cfg.trainer.channels_last:
            network.to(memory_format=torch.channels_last)
        if cfg.trainer.compile and isinstance(network, Segmentor):
            network.encoder.compile()
            network.decoder.compile()


def steps_per_epoch(cfg: DictConfig, partition: Partition) -> int:
    """Whole batches in the unlabeled list, also for a method that does not use it: equal steps for all."""
    world = cfg.trainer.devices * cfg.trainer.num_nodes * cfg.trainer.accumulate
    if partition.unlabeled and cfg.batch.unlabeled:
        return max(1, len(partition.unlabeled) // (cfg.batch.unlabeled * world))
    return max(1, len(partition.labeled) // (cfg.batch.labeled * world))


# -- what a person reads --------------------------------------------------------------------------------------


def summary(
    cfg: DictConfig,
    folder: Path,
    partition: Partition,
    dataset: SegmentationDataset,
    method: SemiMethod,
    trainer: pl.Trainer,
    resume: Path | None,
) -> str:
    """What will be trained on what."""
    n_val = len(dataset.ids(cfg.protocol.val_split))
    parameters = sum(p.numel() for network in method.trained() for p in network.parameters())
    world = trainer.world_size
    unlabeled = f" + {cfg.batch.unlabeled} unlabeled" if method.view_spec else ""
    per_step = cfg.batch.unlabeled * world * cfg.trainer.accumulate
    passes = cfg.max_steps * per_step / max(1, len(partition.unlabeled))
    seen = f" ({passes:.1f} passes over the unlabeled list)" if method.view_spec else ""
    start = f"; resumes from {resume}" if resume else ""
    list_name = partition.official or "custom list"
    return "\n".join(
        [
            f"{cfg.choices.method} on {cfg.protocol.name}, seed {cfg.seed}",
            f"  data      {len(partition.labeled)} labeled, {len(partition.unlabeled)} unlabeled, {n_val} validation "
            f"images, {len(dataset.classes)} classes",
            f"  list      {list_name}, sha256 of the labeled ids {partition.sha256[:12]}",
            f"  batch     {cfg.batch.labeled} labeled{unlabeled}, {world} process(es), accumulation "
            f"{cfg.trainer.accumulate}, crop {cfg.crop_size[0]}x{cfg.crop_size[1]}",
            f"  model     {cfg.choices.model}, {parameters / 1e6:.2f} M trained parameters, weights: "
            f"{cfg.model.get('weights', 'none')}",
            f"  steps     {cfg.max_steps}{seen}, validation every {cfg.val_every}{start}",
            f"  device    {trainer.strategy.root_device}, precision {cfg.trainer.precision}",
            f"  folder    {folder}",
        ]
    )


def farewell(result: RunResult, folder: Path) -> str:
    """Where everything lies."""
    last, best, step = (result["miou"][key] for key in ("last", "best", "best_step"))
    return "\n".join(
        [
            f"done: mIoU {100 * last:.2f} at the end, best {100 * best:.2f} at step {step}",
            f"  result    {folder}/result.json, metrics.csv, images/",
            f"  weights   {folder}/checkpoints/best.ckpt, last.ckpt",
            f"  report    semiseg report {folder}",
        ]
    )


class Outcome:
    """Writes result.json."""

    def __init__(
        self,
        cfg: DictConfig,
        folder: Path,
        dataset: SegmentationDataset,
        partition: Partition,
        record: RunRecord,
    ) -> None:
        self.cfg, self.folder, self.dataset, self.partition, self.record = (
            cfg,
            folder,
            dataset,
            partition,
            record,
        )
        before = read_result(folder)
        self.started = before["started"] if before else _now()

    def write(self, trainer: pl.Trainer, status: str, error: str | None) -> RunResult:
        """Everything ``surface.md`` promises; the numbers of the last validation."""
        cfg, record, classes = self.cfg, self.record, self.dataset.classes
        last = record.last
        iou = {c: iou_or_none(last.get(f"val/iou/{c}")) for c in classes}
        partition = self.partition
        result = RunResult(
            status=status,
            error=error,
            data=cfg.protocol.name.split("/")[0],
            protocol=cfg.protocol.name,
            partition=cfg.protocol.name.split("/", 1)[1],
            method=cfg.choices.method,
            model=cfg.choices.model,
            seed=cfg.seed,
            study=cfg.study,
            command=" ".join(["semiseg", "train", *OmegaConf.load(self.folder / "overrides.yaml")]),
            started=self.started,
            finished=_now(),
            n_labeled=len(partition.labeled),
            n_unlabeled=len(partition.unlabeled),
            n_val=len(self.dataset.ids(cfg.protocol.val_split)),
            labeled_ids_sha256=partition.sha256,
            official=partition.official,
            steps=trainer.global_step,
            world_size=trainer.world_size,
            batch_labeled=cfg.batch.labeled,
            batch_unlabeled=cfg.batch.unlabeled,
            crop_size=list(cfg.crop_size),
            precision=cfg.trainer.precision,
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
        # Of several processes any one may fail, and rank 0 may then never come here.
        if trainer.is_global_zero or status == "failed":
            try:
                write_json(self.folder / "result.json", result)
            except OSError as e:
                log.error("result.json cannot be written: %s", e)
        return result


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
