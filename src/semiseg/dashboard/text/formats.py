"""Human-readable numbers."""

from __future__ import annotations

from semiseg.dashboard.compare.stats import Stat

FOOTNOTE = (
    "mIoU in percent, mean ± sample standard deviation over seeds. Best: the highest of all validations, "
    "chosen on the validation set itself; last: at the end of training. Δ: difference to the supervised runs "
    "with the same labeled ids, model, crop and steps, paired over common seeds."
)


def format_percent(stat: Stat | None, *, signed: bool = False) -> str:
    """A fraction as "76.53 ± 0.42" percent; without the spread if there is none, "–" for None."""
    if stat is None:
        return "–"
    mean = f"{100 * stat.mean:{'+' if signed else ''}.2f}"
    return mean if stat.std is None else f"{mean} ± {100 * stat.std:.2f}"


def format_size(size: tuple[int, int] | None) -> str:
    """Height x width, for example "321x321"."""
    return f"{size[0]}x{size[1]}" if size else "–"


def format_seconds(seconds: float | None) -> str:
    """A duration in its two largest units, for example "3 h 05 min"."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{minutes} min {rest:02d} s" if hours == 0 else f"{hours} h {minutes_left:02d} min"
