"""Summary of a cross-validation (``protocol.folds=K``), printed at the end of the sweep."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from semiseg.dashboard.compare.folds import pooled_miou
from semiseg.dashboard.read.diagnostics import read_diagnostics
from semiseg.runs.result import RunResult, read_result


def fold_lines(folders: Iterable[Path]) -> list[str]:
    """One line per cross-validation whose runs are all complete: mean, spread, and the score over all images."""
    groups: dict[tuple[object, ...], list[tuple[Path, RunResult]]] = defaultdict(list)
    for folder in folders:
        result = read_result(folder) if "_fold" in folder.name else None
        if result and result["folds"] and result["status"] == "completed":
            others = folder.name.rpartition("_fold")[0]
            groups[folder.parent, others, result["folds"]].append((folder, result))
    lines = []
    for (place, name, folds), runs in groups.items():
        last = [result["miou"]["last"] for _, result in runs]
        scores = [score for score in last if score is not None]
        if len(runs) != folds or not scores:
            continue
        spread = f" ± {100 * statistics.stdev(scores):.2f}" if len(scores) > 1 else ""
        line = f"{folds} folds of {place}/{name}: mIoU {100 * statistics.fmean(scores):.2f}{spread} at the last step"
        pooled = pooled_miou([read_diagnostics(folder / "diagnostics.json", []) for folder, _ in runs])
        images = sum(result["n_val"] or 0 for _, result in runs)
        lines.append(line + ("" if pooled is None else f"; {100 * pooled:.2f} over all {images} images"))
    return lines
