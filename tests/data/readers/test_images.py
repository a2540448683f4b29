"""One reader for images: what training sees is what prediction sees, whatever the format."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from semiseg.data.datasets.folder import Folder
from semiseg.data.readers import images as reader
from semiseg.data.readers.images import measure_range, orientation, read_image
from semiseg.data.readers.listing import find_images, list_images
from semiseg.errors import InputError
from semiseg.inference import Whole
from semiseg.training.predict import PredictResult, predict
from semiseg.training.predictor import Predictor

SIZE = (6, 9)
RGB = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
GRAY = RGB[..., 0].copy()
ALPHA = np.full((*SIZE, 1), 40, np.uint8)
DEEP = GRAY.astype(np.uint16) * 16  # 12 of 16 bits


def saved(array: np.ndarray, mode: str | None = None, **options: object) -> Callable[[Path], object]:
    image = Image.fromarray(array)
    return lambda path: (image.convert(mode) if mode else image).save(path, **options)


def palette_with_transparency(path: Path) -> None:
    Image.fromarray(RGB).quantize(16).save(path, transparency=3)


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(path, exif=exif, quality=95)


def written_by_opencv(array: np.ndarray) -> Callable[[Path], object]:
    return lambda path: cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)


FORMATS: dict[str, Callable[[Path], object]] = {
    "rgba.png": saved(np.concatenate([RGB, ALPHA], 2)),
    "la.png": saved(np.concatenate([GRAY[..., None], ALPHA], 2)),
    "palette.png": palette_with_transparency,
    "one_bit.png": saved(GRAY, "1"),
    "four_bands.tif": saved(np.concatenate([RGB, ALPHA], 2)),
    "cmyk.tif": saved(RGB, "CMYK"),
    "deep.png": saved(DEEP),
    "deep.tif": saved(DEEP),
    "deep_colors.png": written_by_opencv(RGB.astype(np.uint16) * 16),
    "deep_colors.tif": written_by_opencv(RGB.astype(np.uint16) * 16),
    "int32.tif": saved(GRAY.astype(np.int32) * 16),
    "float.tif": saved(GRAY.astype(np.float32) * 16),
    "a.gif": saved(RGB),
    "a.ppm": saved(RGB),
    "a.pgm": saved(GRAY),
    "a.pbm": saved(GRAY, "1"),
    "a.bmp": saved(RGB),
    "a.webp": saved(RGB, lossless=True),
    "a.JPG": turned,
    "a.tiff": turned,
}


class Recorder(nn.Module):
    """Keeps the pixels it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[np.ndarray] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen += list((x * 255).round().byte().permute(0, 2, 3, 1).numpy())
        return torch.zeros(len(x), 2, *x.shape[2:])


def predicted(
    source: Path, output: Path, value_range: tuple[float, float] | None = None, **options: object
) -> tuple[PredictResult, list[np.ndarray]]:
    model = Recorder()
    colors = ((0, 0, 0), (9, 9, 9))
    predictor = Predictor(model, Whole(), ("a", "b"), colors, (0, 0, 0), (1, 1, 1), value_range)
    return predict(predictor, source, output, **options), model.seen


def folder(root: Path, write: Callable[[Path], object], name: str, **options: object) -> Folder:
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True, exist_ok=True)
    write(root / "images" / name)
    Image.fromarray(RGB).save(root / "images" / "other.png")
    for image in (name, "other.png"):
        Image.fromarray(GRAY % 2).save(root / "masks" / f"{Path(image).stem}.png")
    (root / "classes.yaml").write_text("[a, b]")
    return Folder(root, val_fraction=0.5, **options)


@pytest.mark.parametrize("name", FORMATS)
def test_training_and_prediction_read_the_same_pixels(name: str, tmp_path: Path) -> None:
    dataset = folder(tmp_path / "d", FORMATS[name], name, range=[0, 4080])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained = dataset.load_image(Path(name).stem)
        result, seen = predicted(tmp_path / "d/images" / name, tmp_path / "out", value_range=dataset.value_range)
    assert not result.skipped
    np.testing.assert_array_equal(seen[0], trained)
    assert trained.shape == ((9, 6, 3) if FORMATS[name] is turned else (6, 9, 3))
    if name.startswith(("rgba", "four", "deep_colors", "a.ppm", "a.bmp", "a.webp")):
        np.testing.assert_array_equal(trained, RGB)  # alpha is dropped, 12 bits become 8
    if name.startswith(("la", "deep.", "int32", "float", "a.pgm")):
        np.testing.assert_array_equal(trained, np.repeat(GRAY[..., None], 3, 2))


def test_a_folder_of_all_formats_behind_links(tmp_path: Path) -> None:
    real = tmp_path / "elsewhere"
    real.mkdir()
    Image.fromarray(RGB).save(real / "in_linked_folder.png")
    Image.fromarray(RGB).save(tmp_path / "file.png")
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "linked").symlink_to(real)
    (photos / "linked.png").symlink_to(tmp_path / "file.png")
    (real / "back").symlink_to(photos)  # a cycle
    (photos / "self").symlink_to("self")
    assert list(list_images(photos, recursive=True)) == ["linked", "linked/in_linked_folder"]
    result, seen = predicted(photos, tmp_path / "out")
    assert len(result.written) == len(seen) == 2


def test_a_folder_is_listed_under_its_own_name_rather_than_a_link(tmp_path: Path) -> None:
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "1.png").touch()
    (tmp_path / "a").symlink_to("z")
    assert find_images(tmp_path) == [tmp_path / "z" / "1.png"]


# the value range


def test_12_bits_in_16_are_not_black(tmp_path: Path) -> None:
    dataset = folder(tmp_path, FORMATS["deep.png"], "a.png")
    assert dataset.value_range == pytest.approx((DEEP.min(), DEEP.max()), rel=0.02, abs=16)
    assert dataset.load_image("a").max() > 250
    assert dataset.load_image("other").max() == RGB.max()


def test_the_range_is_measured_over_the_training_images_only(tmp_path: Path) -> None:
    folder(tmp_path, FORMATS["float.tif"], "a.tif")
    (tmp_path / "val.txt").write_text("a")
    dataset = Folder(tmp_path)
    assert dataset.value_range is None
    with pytest.raises(InputError, match=r"a.tif: float32 values of unknown range"):
        dataset.load_image("a")


def test_the_range_leaves_out_hot_pixels_and_what_is_no_number(tmp_path: Path) -> None:
    values = np.tile(np.linspace(100, 900, 400, dtype=np.float32), (100, 1))
    values[0, 0], values[1, 1] = 1e9, np.nan
    saved(values)(tmp_path / "a.tif")
    low, high = measure_range([tmp_path / "a.tif"]) or (0, 0)
    assert 99 < low < 110 and 890 < high < 901
    pixels = read_image(tmp_path / "a.tif", value_range=lambda: (low, high))
    assert pixels[0, 0].tolist() == [255] * 3 and pixels[1, 1].tolist() == [0] * 3


def test_a_constant_wide_image_has_a_range(tmp_path: Path) -> None:
    saved(np.full(SIZE, 7, np.uint16))(tmp_path / "a.png")
    assert measure_range([tmp_path / "a.png"]) == (7, 8)


def test_unknown_range_is_asked_for(tmp_path: Path) -> None:
    for name in ("deep.png", "int32.tif", "float.tif", "deep_colors.png"):
        FORMATS[name](tmp_path / name)
        with pytest.raises(InputError, match=rf"{name}: .* unknown range; set data.range="):
            read_image(tmp_path / name)
    result, _ = predicted(tmp_path / "deep.png", tmp_path / "out")
    assert "unknown range" in result.skipped[0][1]


def test_range_must_rise(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data.range=\[5, 5\]: expected \[low, high\]"):
        folder(tmp_path, saved(RGB), "a.png", range=[5, 5])


# files that are no plain images


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match=r"pipe.png: not a regular file"):
        read_image(tmp_path / "pipe.png")
    saved(RGB)(tmp_path / "b.png")
    result, seen = predicted(tmp_path, tmp_path / "out")
    assert len(seen) == 1 and "not a regular file" in result.skipped[0][1]


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    bad = os.fsdecode(os.fsencode(tmp_path) + b"/ph\xff.png")
    saved(RGB)(Path(bad))
    with pytest.raises(InputError, match=r"not UTF-8: .*ph\\xff.png; rename"):
        list_images(tmp_path)
    saved(RGB)(tmp_path / "b.png")
    result, seen = predicted(tmp_path, tmp_path / "out")
    assert len(seen) == 1 and r"ph\xff.png" in result.skipped[0][1]
    result.skipped[0][1].encode()  # can be printed and stored


def test_large_images_need_to_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(RGB)(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"9 x 6 pixels are more than max_pixels=53; .* set max_pixels=54"):
        read_image(tmp_path / "a.png", max_pixels=53)
    result, _ = predicted(tmp_path / "a.png", tmp_path / "out", max_pixels=53)
    assert "max_pixels" in result.skipped[0][1]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)  # Pillow's limit is not ours
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_image(tmp_path / "a.png", max_pixels=54), RGB)
    assert Image.MAX_IMAGE_PIXELS == 1


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    header = b"P6 60000 60000 255 "
    (tmp_path / "a.ppm").write_bytes(header + b"\0" * 100)
    with pytest.raises(InputError, match="max_pixels"):
        read_image(tmp_path / "a.ppm")


def test_too_little_memory_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise MemoryError

    saved(RGB)(tmp_path / "a.png")
    monkeypatch.setattr(reader, "_orientation", fail)
    with pytest.raises(InputError, match="too large for the memory"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_wide_images_are_turned_as_pillow_turns_them(value: int, suffix: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    Image.fromarray(GRAY).save(tmp_path / f"a{suffix}", exif=exif)
    Image.fromarray(GRAY.astype(np.uint16)).save(tmp_path / f"b{suffix}", exif=exif)
    narrow, wide = (read_image(tmp_path / f"{n}{suffix}", value_range=lambda: (0, 255)) for n in "ab")
    np.testing.assert_array_equal(narrow, wide)
    assert orientation(tmp_path / f"a{suffix}") == value
