"""Classes that a run has hardly learned, and what to try. Does not import torch: the report uses it too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

WEAK = 0.05
"""IoU in [0, 1] below which a class counts as not learned."""

REMEDIES = ("loss.class_weights=balanced", "data.balance=classes", "loss=ce_dice")
"""Options that make rare classes count more."""

MOST = 8  # classes to list


def weak_classes(iou: Mapping[str, float | None], overrides: Sequence[str] = ()) -> str:
    """A line that names the classes with an IoU below `WEAK` and what to try; empty if there are none.

    Args:
        iou: IoU by class, in [0, 1]; None if undefined.
        overrides: overrides of the run; options it already has are not suggested.
    """
    weak = sorted((value, name) for name, value in iou.items() if value is not None and value < WEAK)
    if not weak:
        return ""
    given = {override.lstrip("+").partition("=")[0] for override in overrides}
    untried = [option for option in REMEDIES if option.partition("=")[0] not in given]
    named = ", ".join(f"{name} {100 * value:.1f} %" for value, name in weak[:MOST])
    more = f" and {len(weak) - MOST} more" if len(weak) > MOST else ""
    label = "label more images that show them"
    options = f"try {', '.join(untried)}, or {label}" if untried else label
    return f"IoU below {100 * WEAK:g} %: {named}{more}; {options}"
