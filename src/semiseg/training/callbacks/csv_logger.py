"""metrics.csv: every logged scalar by step, the source of all reports."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from semiseg.runs.files import replacing, sync

log = logging.getLogger(__name__)


class CsvLogger(Logger):
    """One row per step, one column per scalar, written immediately.

    Lightning's own CSVLogger deletes the file when a run is resumed; this one appends and can drop the rows that a
    killed run wrote after its last checkpoint.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        self._rows: dict[int, dict[str, str]] = {}
        self._columns: list[str] = ["step"]
        self._damaged: list[int] = []  # lines
        if self.path.exists():
            with self.path.open(newline="", encoding="utf-8", errors="replace") as f:
                reader = csv.DictReader(f)
                self._columns = list(reader.fieldnames or ["step"])
                for row in reader:
                    whole = (row.get("step") or "").isdigit() and None not in row.values() and None not in row
                    if whole:
                        self._rows[int(row["step"])] = row
                    else:
                        self._damaged.append(reader.line_num)

    @property
    def name(self) -> str:
        """Lightning asks for it."""
        return "csv"

    @property
    def version(self) -> str:
        """Lightning asks for it."""
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Ignored: config.yaml contains them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add scalars to the row of ``step``."""
        if step is None:
            raise ValueError("CsvLogger needs the step")
        new_row = step not in self._rows
        row = self._rows.setdefault(step, {"step": str(step)})
        row.update({k: repr(float(v)) for k, v in metrics.items()})
        new_columns = [k for k in metrics if k not in self._columns]
        self._columns += new_columns
        if new_row and not new_columns and self.path.exists():
            with self.path.open("a", newline="") as f:
                csv.DictWriter(f, self._columns, restval="").writerow(row)
        else:
            self._rewrite()

    @rank_zero_only
    def truncate(self, step: int) -> None:
        """Forget every row after ``step``."""
        if self._damaged:  # a killed run may leave half a line; it is computed again unless it is of an earlier step
            named = ", ".join(map(str, self._damaged[:5]))
            log.warning("%s: damaged lines are left out: %s", self.path, named)
            self._damaged = []
        self._rows = {s: r for s, r in self._rows.items() if s <= step}
        if self.path.exists():  # rewritten in any case: it may end in half a line, which the next would join
            self._rewrite()

    def sync(self) -> None:
        """Have the file on the disk: what a checkpoint knows of must not be lost with the power."""
        if self.path.exists():
            sync(self.path)

    def _rewrite(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as beside, beside.open("w", newline="") as f:
            writer = csv.DictWriter(f, self._columns, restval="")
            writer.writeheader()
            writer.writerows(self._rows[s] for s in sorted(self._rows))
