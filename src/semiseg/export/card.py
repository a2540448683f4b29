"""The model card, in the form of the Hugging Face hub."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from semiseg import __version__
from semiseg.dashboard.compare.calibration import calibration_error, propose, reliability, thresholds
from semiseg.dashboard.read.diagnostics import read_diagnostics
from semiseg.export.formats import Format
from semiseg.export.templating import TEMPLATES
from semiseg.runs.files import write_text
from semiseg.runs.folder import RunFolder

FILE = "README.md"


def write_card(
    folder: Path,
    checkpoint: Path,
    facts: Mapping[str, Any],
    crop_size: Sequence[int],
    repo: str | None = None,
) -> Path:
    """Write ``README.md``, describing the files in a folder.

    Args:
        folder: may contain several exports; all are described.
        checkpoint: if it is in a run folder, scores and calibration are read from there.
        facts: as returned by ``semiseg.export.write.facts_of``.
        crop_size: (H, W) used in training.
        repo: ``OWNER/NAME`` on the hub, where the checkpoint itself is stored.
    """
    run = RunFolder(checkpoint.absolute().parents[1])
    result = run.read_result()
    command = None if result is None else _without_paths(result["command"] or "")
    text = TEMPLATES.get_template("card.md.jinja").render(
        facts=facts,
        classes=facts["classes"],
        crop_size=crop_size,
        result=result,
        command=command,
        calibration=_calibration(run),
        exports=_exports(folder),
        repo=repo,
        version=__version__,
        percent=lambda value: "-" if value is None else f"{100 * value:.2f} %",
        cell=lambda name: str(name).replace("|", "\\|"),
    )
    write_text(folder / FILE, text)
    return folder / FILE


def _calibration(run: RunFolder) -> dict[str, Any] | None:
    found = read_diagnostics(run.diagnostics, [])
    if found is None:
        return None
    return {"error": calibration_error(reliability(found)), "threshold": propose(thresholds(found))}


def _exports(folder: Path) -> list[dict[str, Any]]:
    paths = (folder / f"{name}.json" for name in get_args(Format))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]


def _without_paths(command: str) -> str:
    """The command without local paths."""
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    return shlex.join(word for word in words if "/" not in word.partition("=")[2] or word.startswith("protocol="))
