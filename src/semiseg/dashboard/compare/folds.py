"""Cross-validation: one score over the images of all folds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from semiseg.dashboard.read.diagnostics import Diagnostics


def pooled_miou(found: Sequence[Diagnostics | None]) -> float | None:
    """Mean IoU in [0, 1] over the validation images of all runs, each scored by the run that did not train on it.

    The confusion matrices of the last validations are summed; classes that are neither labeled nor predicted
    anywhere are excluded from the mean.

    Args:
        found: diagnostics of every fold.

    Returns:
        The mean; None if a fold is missing, or the folds have different classes.
    """
    there = [one for one in found if one is not None]
    if not there or len(there) < len(found) or len({one.classes for one in there}) > 1:
        return None
    confusion = np.sum([one.confusion for one in there], axis=0)
    hits = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return float((hits[union > 0] / union[union > 0]).mean()) if union.any() else None
