"""Reports an out-of-memory error in one line with advice."""

from __future__ import annotations

import torch

from semiseg.config.settings import Settings
from semiseg.errors import RunFailed

PATCHES = 48
"""Suggested crop sizes are multiples of this number of pixels."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error means that a device or the machine ran out of memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    words = ("can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED", "out of memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def out_of_memory(error: BaseException, settings: Settings, step: int, *, validating: bool) -> RunFailed:
    """The replacement error: where it happened, and the three overrides that help most.

    Args:
        error: the original error.
        settings: settings of the run; options already set are not suggested.
        step: completed optimizer steps.
        validating: whether it happened during validation.
    """
    first = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
    if validating:
        where, advice = f"in the validation at step {step}", _for_validation(settings)
    else:
        where, advice = f"at step {step + 1}", _for_training(settings)
    return RunFailed(f"out of memory {where} ({first}); what helps most: {'; '.join(advice[:3])}")


def _for_training(settings: Settings) -> list[str]:
    """Overrides, sorted by how much activation memory they save; see docs/speed.md."""
    t, batch, crop = settings.trainer, settings.batch, settings.crop_size
    advice = []
    if not t.checkpoint_activations and not t.compile:
        advice.append("trainer.checkpoint_activations=true (about 40 % of the activations; the same numbers)")
    if t.precision == "32-true":
        advice.append("trainer.precision=bf16-mixed (about 30 %)")
    if batch.labeled > 1:
        halves = f"batch.labeled={batch.labeled // 2} batch.unlabeled={(batch.unlabeled + 1) // 2}"
        advice.append(f"{halves} trainer.accumulate={2 * t.accumulate} (half; BatchNorm sees the smaller batch)")
    smaller = [max(PATCHES, int(side * 0.75) // PATCHES * PATCHES) for side in crop]
    if smaller[0] < crop[0] and smaller[1] < crop[1]:
        saved = 1 - smaller[0] * smaller[1] / (crop[0] * crop[1])
        advice.append(f"crop_size=[{smaller[0]},{smaller[1]}] ({100 * saved:.0f} %, other results)")
    return [*advice, "a smaller model=NAME"]


def _for_validation(settings: Settings) -> list[str]:
    advice = []
    if settings.loader.eval_batch > 1:
        n = settings.loader.eval_batch
        advice.append(f"loader.eval_batch=1 ({100 * (1 - 1 / n):.0f} %, the same scores)")
    if (windows := settings.evaluation.get("batch", 1)) > 1:
        advice.append(f"eval.batch=1 ({100 * (1 - 1 / windows):.0f} %, the same scores)")
    if "window" not in settings.evaluation:
        advice.append("eval=sliding (windows instead of whole images; other scores)")
    return [*advice, "trainer.precision=bf16-mixed (about 30 %)"]
