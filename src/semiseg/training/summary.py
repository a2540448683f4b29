"""The messages printed before and after a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from semiseg.config.settings import Settings
from semiseg.runs.folder import RunFolder
from semiseg.runs.lagging_teacher import lagging_teacher
from semiseg.runs.result import RunResult, validation_share
from semiseg.runs.weak_classes import weak_classes
from semiseg.training.assemble import Assembly


def summary(
    settings: Settings, folder: RunFolder, assembly: Assembly, device: object, resume: Path | None = None
) -> str:
    """Summary of method, data and settings, printed at startup."""
    method, data = assembly.method, assembly.data
    labeled, unlabeled = len(data.partition.labeled), len(data.partition.unlabeled)
    parameters = sum(p.numel() for network in method.trained() for p in network.parameters())
    per_step = settings.batch.unlabeled * settings.processes * settings.trainer.accumulate
    passes = assembly.max_steps * per_step / max(1, unlabeled)
    steps = f"{assembly.max_steps}"
    if method.view_spec:
        steps += f" ({passes:.1f} passes over the unlabeled list)"
    if settings.max_steps and settings.epochs:
        steps += f", max_steps; overrides the protocol's epochs={settings.epochs}"
    subset = ""
    if (n := assembly.datamodule.val_subset) is not None:
        subset = f" on {n} images, spread over the list; on all after the last step, which alone counts as best"
    height, width = settings.crop_size
    return "\n".join(
        [
            f"{settings.method} on {data.protocol}, seed {settings.seed}" + (f", {data.fold}" if data.fold else ""),
            f"  data      {labeled} labeled, {unlabeled} unlabeled, {len(data.val_ids)} validation images, "
            f"{len(data.dataset.classes)} classes",
            f"  list      {data.partition.official or 'own choice'}, sha256 of the labeled ids "
            f"{data.partition.sha256[:12]}, data {data.fingerprint.digest[:12]}",
            f"  batch     {settings.batch.labeled} labeled"
            + (f" + {settings.batch.unlabeled} unlabeled" if method.view_spec else "")
            + f", {settings.processes} process(es), accumulation {settings.trainer.accumulate}, crop {height}x{width}",
            f"  model     {settings.model}, {parameters / 1e6:.2f} M trained parameters, weights: "
            + (settings.weights if settings.init is None else "those of init"),
            *(f"  {key:<9} {said}" for key, said in assembly.notes.items()),
            f"  steps     {steps}, validation every {settings.val_every}{subset}"
            + (f"; resumes from {resume}" if resume else ""),
            f"  device    {device}, precision {settings.trainer.precision}",
            f"  folder    {folder}",
        ]
    )


def farewell(result: RunResult, folder: RunFolder, overrides: Sequence[str] = ()) -> str:
    """Scores, times, file locations, and suggestions for weak classes and a lagging teacher, printed at the end."""
    scores = result["miou"]
    last, best = (f"{100 * (scores[key] or 0):.2f}" for key in ("last", "best"))  # type: ignore[literal-required]
    training, validation = result["seconds_training"] or 0.0, result["seconds_validation"] or 0.0
    share = validation_share(training, validation)
    weak = weak_classes(result["iou_per_class"], overrides)
    lags = lagging_teacher(scores["last_student"], scores["last_teacher"])
    return "\n".join(
        [
            f"done: mIoU {last} at the last step, best {best} at step {scores['best_step']}",
            *([f"  steps     {result['stopped_early']}"] if result["stopped_early"] else []),
            *([f"  classes   {weak}"] if weak else []),
            *([f"  teacher   {lags}"] if lags else []),
            f"  time      training {training:.0f} s, validation {validation:.0f} s"
            + ("" if share is None else f" ({100 * share:.0f} % of both)"),
            f"  result    {folder}/result.json, metrics.csv, images/",
            f"  weights   {folder}/checkpoints/best.ckpt, last.ckpt",
            f"  report    semiseg report {folder}",
        ]
    )
