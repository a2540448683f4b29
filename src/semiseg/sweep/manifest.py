"""sweep.json in the folder of a study: the planned jobs, including those that have not started."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semiseg.arguments import mask_overrides
from semiseg.data.readers.listing import file_is_there
from semiseg.errors import InputError
from semiseg.runs.files import write_json
from semiseg.runs.folder import RunFolder
from semiseg.runs.lock import hold
from semiseg.sweep.jobs import Job

MANIFEST = "sweep.json"


def write_manifest(jobs: Sequence[Job], command: Sequence[str], n_jobs: int | None = None) -> None:
    """Add planned jobs to the plan in the folder of their study; earlier ones are kept.

    Args:
        jobs: the jobs known so far.
        command: the overrides of the sweep.
        n_jobs: the total number of jobs, if larger.
    """
    for study in dict.fromkeys(RunFolder(job.folder).study for job in jobs):
        study.mkdir(parents=True, exist_ok=True)
        with hold(study):  # several sweeps may extend one study
            entries: dict[str, Any] = {}
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                entries = {e["folder"]: e for e in json.loads((study / MANIFEST).read_text())["jobs"]}
            for job in jobs:
                if RunFolder(job.folder).study == study:
                    name = job.folder.relative_to(study).as_posix()
                    entries[name] = {
                        "folder": name,
                        "overrides": mask_overrides(job.overrides),
                        "label": job.label,
                        "devices": job.devices,
                        "nodes": job.nodes,
                        "on_gpu": job.on_gpu,
                        "data_fingerprint": job.data,
                    }
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            planned = max(n_jobs or 0, len(entries))
            typed = " ".join(["semiseg", "train", "-m", *mask_overrides(command)])
            written = {"command": typed, "written": now}
            write_json(study / MANIFEST, {**written, "planned": planned, "jobs": list(entries.values())})


def read_manifest(study: Path) -> list[Job]:
    """The planned jobs of a study.

    Raises:
        InputError: the plan is missing or unreadable.
    """
    path = study / MANIFEST
    file_is_there(path)
    try:
        entries = json.loads(path.read_text())["jobs"]
        return [
            Job(
                tuple(map(str, e["overrides"])),
                (study / e["folder"]).absolute(),
                e.get("label", ""),
                int(e.get("devices", 1)),
                int(e.get("nodes", 1)),
                bool(e.get("on_gpu", False)),
                str(e.get("data_fingerprint", "")),
            )
            for e in entries
        ]
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: plan the study first, with semiseg train -m ... plan=true") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise InputError(f"{path} cannot be read ({type(e).__name__}: {e}); plan the study again with plan=true") from e
