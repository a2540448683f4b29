"""Videos that OpenCV wrote in the test, predicted frame by frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from semiseg.errors import InputError
from semiseg.inference import Whole
from semiseg.training.overlay import draw_overlay
from semiseg.training.predict import PredictResult
from semiseg.training.predictor import Predictor
from semiseg.training.video import is_video, predict_video

CLASSES = ("reddish", "greenish", "bluish")
PALETTE = ((200, 10, 20), (30, 210, 40), (50, 60, 220))
HEIGHT, WIDTH, FRAMES = 48, 64, 5


class Dominant(nn.Module):
    """Class of a pixel: its strongest channel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 10


def run(source: Path, output: Path, **options) -> PredictResult:
    predictor = Predictor(Dominant(), Whole(), CLASSES, PALETTE, (0, 0, 0), (1, 1, 1))
    return predict_video(predictor, source, output, **options)


def frame(k: int) -> np.ndarray:
    """RGB: green left, blue right; the border moves by 8 pixels a frame."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, : 16 + 8 * k, 1] = 220
    pixels[:, 16 + 8 * k :, 2] = 220
    return pixels


def write_video(path: Path, codec: str = "mp4v", fps: float = 10) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for k in range(FRAMES):
        writer.write(frame(k)[..., ::-1])
    writer.release()
    return path


def read_video(path: Path) -> tuple[list[np.ndarray], float]:
    capture = cv2.VideoCapture(str(path))
    found = []
    while (read := capture.read())[0]:
        found.append(read[1][..., ::-1])
    return found, capture.get(cv2.CAP_PROP_FPS)


def expected(k: int) -> np.ndarray:
    mask = np.full((HEIGHT, WIDTH), 2, np.uint8)
    mask[:, : 16 + 8 * k] = 1
    return mask


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mp4v"), ("b.avi", "MJPG")])
def test_every_frame_has_a_mask_and_an_overlay(tmp_path: Path, name: str, codec: str) -> None:
    video = write_video(tmp_path / name, codec)
    assert is_video(video)
    result = run(video, tmp_path / "out", confidence=True, batch=2)
    stem = video.stem
    assert [p.relative_to(tmp_path / "out").as_posix() for p in result.written] == [
        f"index/{stem}/{k:06d}.png" for k in range(FRAMES)
    ]
    for k, path in enumerate(result.written):
        with Image.open(path) as image:
            assert image.mode == "P" and image.getpalette()[:9] == [v for c in PALETTE for v in c]
            assert (np.asarray(image) == expected(k)).mean() > 0.97  # the codec blurs the border
        confidence = np.asarray(Image.open(tmp_path / f"out/confidence/{stem}/{k:06d}.png"))
        assert confidence.shape == (HEIGHT, WIDTH) and np.median(confidence) > 240
    overlays, fps = read_video(tmp_path / f"out/overlay/{stem}.mp4")
    assert len(overlays) == FRAMES and fps == pytest.approx(10)
    for k, found in enumerate(overlays):
        drawn = np.asarray(draw_overlay(Image.fromarray(frame(k)), expected(k), PALETTE))
        assert found.shape == drawn.shape and np.abs(found.astype(int) - drawn).mean() < 12
    assert (tmp_path / "out/overlay/legend.png").exists()


def test_numbered_images_are_a_video_without_a_rate_of_its_own(tmp_path: Path) -> None:
    for k in range(FRAMES):
        Image.fromarray(frame(k)).save(tmp_path / f"frame_{k:04d}.png")
    source = tmp_path / "frame_%04d.png"
    assert is_video(source)
    result = run(source, tmp_path / "out", fps=5)
    for k, path in enumerate(result.written):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), expected(k))
    overlays, fps = read_video(tmp_path / "out/overlay/frame__04d.mp4")
    assert len(overlays) == FRAMES and fps == pytest.approx(5)


def test_unsure_pixels_are_ignored_and_a_finished_video_is_left(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4")
    result = run(video, tmp_path / "out", threshold=1.0)
    assert all((np.asarray(Image.open(p)) == 255).mean() > 0.9 for p in result.written)
    before = (tmp_path / "out/overlay/a.mp4").stat().st_mtime_ns
    again = run(video, tmp_path / "out", threshold=1.0)
    assert (again.kept, again.written) == (1, []) and (tmp_path / "out/overlay/a.mp4").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="another prediction \\(threshold differ"):
        run(video, tmp_path / "out")
    assert len(run(video, tmp_path / "out", overwrite=True).written) == FRAMES


def test_an_end_half_way_leaves_no_video(tmp_path: Path, monkeypatch) -> None:
    video = write_video(tmp_path / "a.mp4")
    calls = []

    def fail(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return draw_overlay(*arguments, **options)

    monkeypatch.setattr("semiseg.training.video.draw_overlay", fail)
    with pytest.raises(KeyboardInterrupt):
        run(video, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out/overlay").iterdir()) == ["legend.png"]
    monkeypatch.undo()
    assert len(run(video, tmp_path / "out").written) == FRAMES


def test_files_of_the_user_are_kept(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4")
    (tmp_path / "out/overlay").mkdir(parents=True)
    (tmp_path / "out/overlay/a.mp4").write_bytes(b"mine")
    with pytest.raises(InputError, match="holds files of that name"):
        run(video, tmp_path / "out")
    assert (tmp_path / "out/overlay/a.mp4").read_bytes() == b"mine"


def test_what_is_no_video(tmp_path: Path) -> None:
    Image.fromarray(frame(0)).save(tmp_path / "a.png")
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    assert not is_video(tmp_path / "a.png") and not is_video(tmp_path) and not is_video(tmp_path / "broken.mp4")
    Image.fromarray(frame(0)).save(tmp_path / "IMG_0001.jfif", format="JPEG")
    assert not is_video(tmp_path / "nowhere.mp4") and not is_video(tmp_path / "IMG_0001.jfif")
    with pytest.raises(InputError, match="cannot open it as a video"):
        run(tmp_path / "broken.mp4", tmp_path / "out")
    with pytest.raises(InputError, match=r"OpenCV (cannot open|finds no frame)"):
        run(tmp_path / "f_%03d.png", tmp_path / "out")
    with pytest.raises(InputError, match="more than max_pixels=100"):
        run(write_video(tmp_path / "a.mp4"), tmp_path / "out", max_pixels=100)
