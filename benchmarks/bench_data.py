"""What training views cost on one core, against decoding the image alone.

Run: python benchmarks/bench_data.py [OUT_DIR]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# Before numpy and OpenCV load: everything is counted per core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np

from semiseg.data.sampling import Draw, Stream, sample_rng
from semiseg.data.transforms import TrainViews

HEIGHT, WIDTH, CROP, CLASSES = 375, 500, 321, 21
IMAGES, ROUNDS = 20, 9


def main(out_dir: Path | str = "benchmarks/results") -> dict[str, float]:
    """Measure, print a table, write ``data.json`` to ``out_dir`` and return what it holds."""
    with tempfile.TemporaryDirectory() as folder:
        files = [_write_image(Path(folder) / f"{k}.jpg", seed=k) for k in range(IMAGES)]
        views = TrainViews(CROP)

        def unlabelled(n_strong: int) -> Callable[[int], None]:
            def work(k: int) -> None:
                rng = sample_rng(0, Draw(Stream.UNLABELED, k, 0))
                views.unlabelled(_decode(files[k]), rng, n_strong=n_strong, n_classes=CLASSES)

            return work

        work = {
            "decode": lambda k: _decode(files[k]),
            "weak": unlabelled(0),
            "weak_two_strong": unlabelled(2),
        }
        seconds = _seconds_per_image(work)
    result = {f"images_per_second_{name}": 1 / seconds[name] for name in work}
    result |= {f"ratio_{name}": seconds["decode"] / seconds[name] for name in work if name != "decode"}

    print(f"training views of a {WIDTH}x{HEIGHT} JPEG, crop {CROP}, one core")
    print(f"{'':24}{'images/s':>10}{'against decoding':>18}")
    for name, label in zip(work, ("decoding alone", "+ weak view", "+ weak and two strong")):
        print(f"{label:24}{1 / seconds[name]:10.0f}{seconds['decode'] / seconds[name]:18.2f}")
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    (out / "data.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def _seconds_per_image(work: dict[str, Callable[[int], None]]) -> dict[str, float]:
    """The best of several rounds; the work takes turns, so that a slow moment hits all alike."""
    best = dict.fromkeys(work, float("inf"))
    for _ in range(ROUNDS):
        for name, do in work.items():
            start = time.perf_counter()
            for k in range(IMAGES):
                do(k)
            best[name] = min(best[name], (time.perf_counter() - start) / IMAGES)
    return best


def _decode(path: str) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)


def _write_image(path: Path, seed: int) -> str:
    """A JPEG with structure at several scales, about as large as a photograph of its size."""
    rng = np.random.default_rng(seed)
    image = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for cells, amplitude in ((4, 60), (16, 30), (64, 15), (200, 8)):
        noise = rng.normal(0, amplitude, (cells, cells, 3)).astype(np.float32)
        image += cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(path), np.clip(image + 120, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return str(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
