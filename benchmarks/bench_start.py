"""Startup time: from the command to the first optimizer step, and to the first batch of a long list of files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image
from table import Row

from semiseg.config import compose_config
from semiseg.config.settings import read_settings
from semiseg.training.assemble import assemble, list_data

LISTED = 100_000
SOURCES = 8  # distinct files, hard-linked under many names; file systems allow about 65,000 links per file

CHILD = """
import json, os, sys, time
from semiseg import cli
marks = []
def mark(name):
    marks.append((name, time.process_time()))
def marked(module, function, name):
    call = getattr(module, function)
    def wrapped(*args, **kwargs):
        found = call(*args, **kwargs)
        mark(name)
        return found
    setattr(module, function, wrapped)
import semiseg.training.fit as fit
mark("import semiseg and torch")
marked(fit, "read_settings", "read settings")
marked(fit, "list_data", "list data")
marked(fit, "build_trainer", "build")
import pytorch_lightning as pl
step = pl.LightningModule.optimizer_step
def first(*args, **kwargs):
    step(*args, **kwargs)
    mark("first step")
    os.write(told, json.dumps(marks).encode())
    os._exit(0)
pl.LightningModule.optimizer_step = first
told, sys.argv = int(sys.argv[1]), ["semiseg", *sys.argv[2:]]
cli.main()
"""


def measure(*, quick: bool) -> list[Row]:
    """CPU seconds, which do not depend on other programs, in one process without data workers."""
    return [*to_first_step(rounds=1 if quick else 3), first_batch(200 if quick else LISTED)]


def to_first_step(*, rounds: int) -> list[Row]:
    """``semiseg train`` with the smallest network, split into its parts; the best of several runs."""
    found = min((_first_step() for _ in range(rounds)), key=lambda marks: marks[-1][1])
    parts = [(name, end - begin) for (_, begin), (name, end) in pairwise([("", 0.0), *found])]
    split = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in parts)
    return [Row("semiseg train to the first step, tiny", found[-1][1], "CPU seconds", unit="s", detail=split)]


def _first_step() -> list[tuple[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        read, write = os.pipe()
        command = ["train", "trainer=cpu", "loader.num_workers=0", "data.n_val=2", f"paths.runs={folder}"]
        process = subprocess.run(
            [sys.executable, "-c", CHILD, str(write), *command], pass_fds=[write], capture_output=True, check=False
        )
        os.close(write)
        with open(read, "rb") as pipe:
            told = pipe.read()
    if not told:
        raise RuntimeError(process.stderr.decode()[-2000:])
    return [(name, seconds) for name, seconds in json.loads(told)]


def first_batch(n: int) -> Row:
    """From composed settings to the first batch, for a folder of ``n`` photos."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write(root, n)
        settings = read_settings(
            compose_config(
                [
                    "data=folder", f"data.root={root}", "protocol=folder/all", "method=fixmatch", "crop_size=32",
                    "batch.labeled=2", "batch.unlabeled=2", "loader.num_workers=0", "trainer=cpu", "max_steps=2",
                ]
            )
        )  # fmt: skip
        took: dict[str, float] = {}

        def timed(name: str, work: Callable[[], object]) -> object:
            start = time.process_time()
            found = work()
            took[name] = time.process_time() - start
            return found

        data = timed("list", lambda: list_data(settings))
        timed("fingerprint", lambda: data.record)  # type: ignore[attr-defined]
        assembly = timed("check and build", lambda: assemble(settings, data, check_files=True))  # type: ignore[arg-type]
        timed("batch", lambda: next(iter(assembly.datamodule.train_dataloader())))  # type: ignore[attr-defined]
    split = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in took.items())
    return Row(f"first batch, {n:,} listed photos", sum(took.values()), "CPU seconds", 5.0, unit="s", detail=split)


def _write(root: Path, n: int) -> None:
    """Photos are hard links to a few files; about a thousand have a mask."""
    rng = np.random.default_rng(0)
    for name in ("source", "images", "masks"):
        (root / name).mkdir()
    photos = [root / "source" / f"{k}.jpg" for k in range(SOURCES)]
    for photo in photos:
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(photo)
    mask = root / "source" / "mask.png"
    Image.fromarray(rng.integers(0, 3, (64, 64), dtype=np.uint8)).save(mask)
    for i in range(n):
        os.link(photos[i % SOURCES], root / "images" / f"{i:06d}.jpg")
        if i % max(n // 1000, 2) == 0:
            os.link(mask, root / "masks" / f"{i:06d}.png")
    (root / "classes.yaml").write_text("[sky, road, car]\n")
