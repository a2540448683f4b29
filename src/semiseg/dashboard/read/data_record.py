"""data.json: which data a run saw, as hashes of its parts. Older runs have none."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from semiseg.dashboard.read.files import Unreadable, read_json
from semiseg.dashboard.read.values import text


@dataclass(frozen=True)
class DataRecord:
    """Fingerprint of all data of a run, and of what it was scored on: classes, variant and validation images."""

    digest: str = ""
    validation: str = ""


def read_data_record(path: Path, problems: list[str]) -> DataRecord:
    """The record of a run folder; an empty one where there is none that can be used."""
    try:
        raw = read_json(path)
        parts = raw.get("parts")
        if not isinstance(parts, dict) or not isinstance(raw.get("digest"), str):
            raise ValueError("no 'digest' and 'parts'")
        scored_on = [parts.get(key) for key in ("classes", "variant", "val")]
        validation = hashlib.sha256(json.dumps(scored_on, sort_keys=True).encode()).hexdigest()
        return DataRecord(text(raw["digest"]) or "", validation)
    except FileNotFoundError:
        return DataRecord()
    except (Unreadable, ValueError, RecursionError) as error:
        problems.append(f"{path}: skipped ({error})")
        return DataRecord()
