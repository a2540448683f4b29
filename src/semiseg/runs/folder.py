"""A run folder: its location, its files, and the run it belongs to. No torch, for sweeps and the dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semiseg.config.defaults import with_defaults
from semiseg.config.resolvers import without_effect
from semiseg.config.stored import read_config
from semiseg.errors import InputError
from semiseg.runs.data import other_data, read_record
from semiseg.runs.result import RunResult, read_result

LEVELS = ("study", "data", "partition", "method", "model", "seed")
"""The meaning of the folder levels between ``paths.runs`` and the files of a run, from the top."""

FILES = (
    "config.yaml", "overrides.yaml", "data.json", "batch.json", "metrics.csv", "log.txt", "result.json",
    "diagnostics.json", "progress.json", "wandb_id.txt", "distill.json",
)  # fmt: skip
FOLDERS = ("images", "nonfinite", "tensorboard", "wandb")
RUN_FILES = ("checkpoints", *FILES, *FOLDERS)
"""What a run writes into its folder. Anything else belongs to the user and is kept."""


@dataclass(frozen=True)
class RunFolder:
    """Paths of the files of a run, and the information in its path.

    Args:
        path: ``<runs>/<study>/<data>/<partition>/<method>/<model>/seed_<n>[_<hash>]``, or any other folder.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def config(self) -> Path:
        """The composed configuration."""
        return self.path / "config.yaml"

    @property
    def overrides(self) -> Path:
        """The overrides as typed."""
        return self.path / "overrides.yaml"

    @property
    def data(self) -> Path:
        """The record of the training data."""
        return self.path / "data.json"

    @property
    def batch(self) -> Path:
        """The batch size chosen by ``batch=auto``."""
        return self.path / "batch.json"

    @property
    def metrics(self) -> Path:
        """Every logged scalar, by step."""
        return self.path / "metrics.csv"

    @property
    def log(self) -> Path:
        """The log."""
        return self.path / "log.txt"

    @property
    def result(self) -> Path:
        """The outcome."""
        return self.path / "result.json"

    @property
    def progress(self) -> Path:
        """The latest heartbeat."""
        return self.path / "progress.json"

    @property
    def wandb_id(self) -> Path:
        """The wandb run id of the folder."""
        return self.path / "wandb_id.txt"

    @property
    def diagnostics(self) -> Path:
        """Details of the last validation."""
        return self.path / "diagnostics.json"

    @property
    def images(self) -> Path:
        """Example panels."""
        return self.path / "images"

    @property
    def nonfinite(self) -> Path:
        """Steps with a non-finite loss."""
        return self.path / "nonfinite"

    @property
    def checkpoints(self) -> Path:
        """best.ckpt, last.ckpt, previous.ckpt."""
        return self.path / "checkpoints"

    def checkpoint(self, which: str) -> Path:
        """One of them: ``best``, ``last`` or ``previous``."""
        return self.checkpoints / f"{which}.ckpt"

    @property
    def study(self) -> Path:
        """The folder of the study, four levels above the model's."""
        return self.above[len(LEVELS) - 2]

    @property
    def above(self) -> tuple[Path, ...]:
        """The folders above this one up to and including ``paths.runs``, innermost first."""
        return tuple(self.path.absolute().parents[: len(LEVELS)])

    @property
    def place(self) -> dict[str, str]:
        """Level -> folder name, for as many levels as there are parent folders."""
        return dict(zip(reversed(LEVELS), reversed(self.path.absolute().parts[1:])))

    @property
    def name(self) -> str:
        """``data/partition/method/model/seed_<n>``: the run within its study."""
        return "/".join(self.path.absolute().parts[1:][-len(LEVELS) + 1 :])

    def read_result(self) -> RunResult | None:
        """The outcome; None if it is missing or damaged."""
        return read_result(self.path)

    @property
    def has_checkpoints(self) -> bool:
        """Whether the folder contains checkpoints."""
        return any(self.checkpoints.glob("*.ckpt"))

    def claim(self, config: Mapping[str, Any], data: Mapping[str, Any], *, overwrite: bool = False) -> RunResult | None:
        """Check that the folder is free or belongs to a run with this configuration and data.

        Args:
            config: the composed configuration as plain containers, not resolved.
            data: the record of the data, see ``semiseg.runs.data``.
            overwrite: replace an existing run.

        Returns:
            The result, if the run is complete.

        Raises:
            InputError: the folder belongs to another configuration, its run was trained on other data, or something
                else is in the place of the files of a run.
        """
        if overwrite:
            return None
        self._check_kinds()
        if not self.config.exists():
            return None
        differing = differing_keys(read_config(self.config), config)
        if differing:
            key, a, b = differing[0]
            more = f" and {len(differing) - 1} more keys differ" if len(differing) > 1 else ""
            raise InputError(
                f"{self} belongs to another configuration: {key} is {a} there and {b} here{more}; "
                "choose another study=NAME, or overwrite=true to replace it"
            )
        result = self.read_result()
        completed = result is not None and result["status"] == "completed"
        if completed or self.has_checkpoints:
            self._check_data(data, result)
        return result if completed else None

    def _check_kinds(self) -> None:
        """Check file types: reading a pipe in place of a file would block forever, a folder cannot be written to."""
        for name in RUN_FILES:
            path = self.path / name
            if path.exists() and not (path.is_file() if name in FILES else path.is_dir()):
                kind = "file" if name in FILES else "folder"
                raise InputError(f"{path} is not a {kind}: move it away, or give another study=NAME")

    def _check_data(self, data: Mapping[str, Any], result: RunResult | None) -> None:
        old = read_record(self.data)
        if old is None and result is not None and result["data_fingerprint"] is not None:
            old = {"digest": result["data_fingerprint"]}
        what_to_do = "choose another study=NAME, or overwrite=true to replace it"
        if old is None:
            raise InputError(f"{self} contains a run that does not record its training data: {what_to_do}")
        if difference := other_data(old, data):
            go_on = f"; with study=NAME, init={self} starts from its weights" if self.has_checkpoints else ""
            raise InputError(f"{self} contains a run on other data: {difference}; {what_to_do}{go_on}")


def differing_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Dotted keys whose values differ, excluding those that do not affect the results.

    A missing key has its default: a run keeps its identity when a later version adds a key.
    """
    return _differing(with_defaults(old), with_defaults(new))


def _differing(old: Any, new: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    if without_effect(prefix) or prefix == "init":  # init_sha256 identifies that model, wherever it is
        return []
    # Keys of a node that an earlier version did not have count as null.
    old, new = ({} if a is None and isinstance(b, Mapping) else a for a, b in ((old, new), (new, old)))
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found = []
        for key in dict.fromkeys([*old, *new]):
            below = f"{prefix}.{key}" if prefix else str(key)
            found += _differing(old.get(key), new.get(key), below)
        return found
    return [] if old == new else [(prefix, old, new)]
