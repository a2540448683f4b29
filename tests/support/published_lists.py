"""The collection of official list files of the development machine, where it is at hand."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest


def collection() -> Path:
    """The folder; skips the test when it is absent."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "splits"
    folder = Path(os.environ.get("SEMISEG_SPLITS", beside))
    if not (folder / "manifest.json").is_file():
        pytest.skip("no collection of official list files; SEMISEG_SPLITS=DIR says where it is (see tools/)")
    return folder


def records(folder: Path) -> list[dict]:
    """What the manifest says of each list file."""
    return json.loads((folder / "manifest.json").read_text())["records"]


def content(folder: Path, record: dict) -> str:
    """The text of a list file of which there is a copy."""
    raw = (folder / record["copy"]).read_bytes()
    return (gzip.decompress(raw) if record["copy"].endswith(".gz") else raw).decode()
