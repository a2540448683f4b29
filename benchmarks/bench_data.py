"""What training views cost on one core, against decoding the image alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from table import Row
from timing import best_of

from semiseg.data.batch import ViewSpec
from semiseg.data.loading.sampling import Draw, Stream, sample_rng
from semiseg.data.views.transforms import TrainViews

HEIGHT, WIDTH, CROP, CLASSES = 375, 500, 321, 21


def measure(*, quick: bool) -> list[Row]:
    """A JPEG of the size of Pascal VOC, its weak view, and that with two strong ones."""
    n_images, rounds = (2, 1) if quick else (20, 9)
    with tempfile.TemporaryDirectory() as folder:
        files = [_write_image(Path(folder) / f"{k}.jpg", seed=k) for k in range(n_images)]
        views = TrainViews(CROP)

        def decode() -> None:
            for file in files:
                _decode(file)

        def unlabeled(spec: ViewSpec) -> Callable[[], None]:
            def work() -> None:
                for k, file in enumerate(files):
                    rng = sample_rng(0, Draw(Stream.UNLABELED, k, 0))
                    views.unlabeled(_decode(file), rng, spec=spec, n_classes=CLASSES)

            return work

        seconds = best_of(
            {"decode": decode, "weak": unlabeled(ViewSpec()), "strong": unlabeled(ViewSpec(strong=2))}, rounds
        )
    rate = {name: n_images / s for name, s in seconds.items()}
    against = f"decoding the {WIDTH}x{HEIGHT} JPEG alone ({rate['decode']:.0f} images/s)"
    return [
        Row(
            f"{label}, crop {CROP}",
            seconds[name] / seconds["decode"],
            against,
            detail=f"{rate[name]:.0f} images/s",
        )
        for name, label in (("weak", "decode + weak view"), ("strong", "decode + weak + two strong views"))
    ]


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
