"""Images of any number of channels: what is read, mapped and measured."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semiseg.data.readers.bands import as_rgb, measure_channel_range, measure_statistics, read_channels
from semiseg.errors import InputError

rasterio = pytest.importorskip("rasterio")


def write_tiff(path: Path, bands: np.ndarray, **more: object) -> Path:
    """(H, W, N) as a TIFF of N bands."""
    height, width, count = bands.shape
    how = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": bands.dtype.name, **more}
    with rasterio.open(path, "w", **how) as file:
        file.write(bands.transpose(2, 0, 1))
    return path


def some(channels: int, dtype: type = np.uint8, top: int = 256) -> np.ndarray:
    return np.random.default_rng(channels).integers(0, top, (6, 9, channels)).astype(dtype)


@pytest.mark.parametrize("mode,channels", [("L", 1), ("RGBA", 4), ("LA", 2)])
def test_channels_of_the_file_in_its_order(mode: str, channels: int, tmp_path: Path) -> None:
    pixels = some(channels)
    Image.fromarray(pixels if channels > 1 else pixels[..., 0], mode).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_channels(tmp_path / "a.png", channels), pixels)


def test_reading_in_threads_prints_no_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = write_tiff(tmp_path / "a.tif", some(5))
    recwarn.clear()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: read_channels(path, 5), range(64)))
    assert not list(recwarn)


@pytest.mark.parametrize("channels", [1, 2, 5, 12])
def test_bands_of_a_tiff(channels: int, tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", some(channels))
    np.testing.assert_array_equal(read_channels(path, channels), some(channels))


def test_colors_become_gray_for_one_channel_and_transparency_is_dropped(tmp_path: Path) -> None:
    Image.fromarray(some(3)).save(tmp_path / "a.png")
    gray = np.array(Image.fromarray(some(3)).convert("L"))
    np.testing.assert_array_equal(read_channels(tmp_path / "a.png", 1)[..., 0], gray)
    Image.fromarray(some(2), "LA").save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_channels(tmp_path / "b.png", 1), some(2)[..., :1])
    np.testing.assert_array_equal(read_channels(tmp_path / "a.png", 3), some(3))


def test_another_number_of_channels_is_told(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", some(5))
    with pytest.raises(InputError, match=r"a\.tif: 5 channels, data\.channels=4 asked for"):
        read_channels(path, 4)
    Image.fromarray(some(3)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: 3 channels, data\.channels=4"):
        read_channels(tmp_path / "a.png", 4)
    with pytest.raises(InputError, match=r"54 pixels|6 pixels are more than max_pixels=9"):
        read_channels(path, 5, max_pixels=9)
    (tmp_path / "broken.tif").write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"broken\.tif"):
        read_channels(tmp_path / "broken.tif", 5)


def test_wide_samples_are_mapped_from_one_range(tmp_path: Path) -> None:
    wide = some(5, np.uint16, 4000)
    path = write_tiff(tmp_path / "a.tif", wide)
    ends = measure_channel_range([path], 5)
    assert ends is not None and 0 <= ends[0] < ends[1] <= 4000
    found = read_channels(path, 5, value_range=lambda: (0.0, 4000.0))
    np.testing.assert_array_equal(found, np.floor(wide.astype(float) * 255 / 4000 + 0.5))
    with pytest.raises(InputError, match="uint16 values of unknown range"):
        read_channels(path, 5)
    assert measure_channel_range([write_tiff(tmp_path / "b.tif", some(5))], 5) is None


def test_statistics_by_hand() -> None:
    images = {"a": np.zeros((2, 2, 2), np.uint8), "b": np.full((2, 2, 2), 255, np.uint8)}
    images["b"][..., 1] = 0
    mean, std = measure_statistics(images.__getitem__, ["a", "b"], 2)
    assert mean == pytest.approx((0.5, 0)) and std == pytest.approx((0.5, 1 / 255))


def test_something_to_look_at() -> None:
    assert as_rgb(some(5)).shape == as_rgb(some(1)).shape == as_rgb(some(2)).shape == (6, 9, 3)
    np.testing.assert_array_equal(as_rgb(some(5)), some(5)[..., :3])
