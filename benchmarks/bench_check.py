"""How long `semiseg data check` takes on 10,000 images of the size of Pascal VOC; with processes and with threads."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from bench_data import HEIGHT, WIDTH, _write_image
from PIL import Image
from table import Row

from semiseg.data.checking.check import check_dataset, check_files
from semiseg.data.datasets.folder import Folder

CLASSES, DISTINCT, PROJECTED, GOAL = 21, 20, 10_000, 60.0


def measure(*, quick: bool) -> list[Row]:
    """A few distinct JPEG and palette PNG files under many names, all opened. Other load of the machine counts too."""
    n_images = 200 if quick else 2000
    with tempfile.TemporaryDirectory() as folder:
        dataset = _write(Path(folder), n_images)
        ids = [i for split in ("train", "val") for i in dataset.ids(split)]

        def threads() -> None:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                list(pool.map(lambda image_id: check_files(dataset, image_id, True), ids))

        seconds = {
            "processes": _seconds(lambda: check_dataset(dataset)),
            "threads": _seconds(threads),
            "one process": _seconds(lambda: check_dataset(dataset, workers=1)),
        }
    per_image = {name: s / n_images for name, s in seconds.items()}
    return [
        Row(
            f"data check of {PROJECTED:,} images, {name}",
            PROJECTED * each,
            f"{os.cpu_count()} cores, from {n_images:,} images",
            goal=GOAL if name == "processes" else None,
            unit="s",
            detail=f"{2 / each:.0f} files/s",
        )
        for name, each in per_image.items()
    ]


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _write(root: Path, n_images: int) -> Folder:
    """Hard links: as many names as images, `DISTINCT` different files."""
    (root / "images").mkdir()
    (root / "masks").mkdir()
    rng = np.random.default_rng(0)
    for k in range(n_images):
        image, mask = root / "images" / f"{k:06d}.jpg", root / "masks" / f"{k:06d}.png"
        if k < DISTINCT:
            _write_image(image, seed=k)
            cells = rng.integers(0, CLASSES, (6, 8), dtype=np.uint8)
            labels = Image.fromarray(cells).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)
            labels.putpalette(rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
            labels.save(mask)
        else:
            os.link(root / "images" / f"{k % DISTINCT:06d}.jpg", image)
            os.link(root / "masks" / f"{k % DISTINCT:06d}.png", mask)
    names = "".join(f"- {{name: class {k}, color: [{k}, {k}, {k}]}}\n" for k in range(CLASSES))
    (root / "classes.yaml").write_text(names)
    return Folder(root)
