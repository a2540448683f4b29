"""metrics.csv: every logged scalar by step, the record that reports are made from."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from semiseg.runs.files import replacing, sync


class CsvLogger(Logger):
    """One row per step, one column per scalar, written at once.

    Lightning's own CSVLogger deletes the file when a run is resumed; this one goes on and can forget the rows that a
    killed run wrote after its last checkpoint.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        self._rows: dict[int, dict[str, str]] = {}
        self._columns: list[str] = ["step"]
        if self.path.exists():
            with self.path.open(newline="") as f:
                reader = csv.DictReader(f)
                self._columns = list(reader.fieldnames or ["step"])
                # A killed run may leave half a line: it is not worth more than no line.
                self._rows = {int(r["step"]): r for r in reader if r["step"].isdigit() and None not in r.values()}

    @property
    def name(self) -> str:
        """Lightning asks for it."""
        return "csv"

    @property
    def version(self) -> str:
        """Lightning asks for it."""
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """config.yaml holds them."""

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
