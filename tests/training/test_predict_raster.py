"""GeoTIFF in, GeoTIFF out, window by window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from semiseg.inference import Whole
from semiseg.training import predict_raster
from semiseg.training.predict import predict
from semiseg.training.predictor import Predictor

rasterio = pytest.importorskip("rasterio")
PLACE = {"crs": "EPSG:32632", "transform": rasterio.Affine(0.5, 0, 500000, 0, -0.5, 5400000)}


class Bright(nn.Module):
    """Class 1 where a pixel is bright, class 0 elsewhere."""

    def forward(self, x: Tensor) -> Tensor:
        bright = 20 * (x.mean(1, keepdim=True) - 0.5)
        return torch.cat([-bright, bright], 1)


def predictor(channels: int = 3) -> Predictor:
    black_white = ((0, 0, 0), (255, 255, 255))
    return Predictor(Bright(), Whole(), ("dark", "bright"), black_white, [0.0] * channels, [1.0] * channels)


def write(path: Path, pixels: np.ndarray, **more: object) -> Path:
    height, width, count = pixels.shape
    how = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": pixels.dtype.name, **more}
    with rasterio.open(path, "w", **how) as file:
        file.write(pixels.transpose(2, 0, 1))
    return path


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_raster, "CORE", 32)
    monkeypatch.setattr(predict_raster, "MARGIN", 8)
    monkeypatch.setattr(predict_raster, "BLOCK", 16)


@pytest.mark.parametrize("channels", [3, 5])
def test_the_reference_is_kept_and_windows_leave_no_seam(channels: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (75, 101, channels), np.uint8)
    source = write(tmp_path / "field.tif", pixels, **PLACE)
    result = predict(predictor(channels), source, tmp_path / "out", confidence=True)
    assert result.skipped == [] and result.written == [tmp_path / "out/index/field.tif"]
    expected = (pixels.mean(2) > 127.5).astype(np.uint8)
    with rasterio.open(tmp_path / "out/index/field.tif") as found:
        np.testing.assert_array_equal(found.read(1), expected)
        assert found.crs.to_epsg() == 32632 and found.transform == PLACE["transform"]
        assert found.is_tiled and found.block_shapes == [(16, 16)] and found.nodata == 255
        assert found.colormap(1)[1] == (255, 255, 255, 255)
    with rasterio.open(tmp_path / "out/confidence/field.tif") as found:
        assert found.read(1).min() >= 127 and found.crs.to_epsg() == 32632
    assert Image.open(tmp_path / "out/overlay/field.jpg").size == (101, 75)
    again = predict(predictor(channels), source, tmp_path / "out", confidence=True)
    assert again.kept == 1 and not again.written


def test_missing_and_unsure_pixels_become_255(tmp_path: Path) -> None:
    pixels = np.full((40, 40, 1), 200, np.uint8)
    pixels[:10] = 7
    pixels[30:] = 128
    source = write(tmp_path / "a.tif", pixels, nodata=7, **PLACE)
    predict(predictor(), source, tmp_path / "out", threshold=0.9)
    with rasterio.open(tmp_path / "out/index/a.tif") as found:
        index = found.read(1)
    assert (index[:10] == 255).all() and (index[10:30] == 1).all() and (index[30:] == 255).all()


def test_a_plain_tiff_stays_an_image_unless_it_is_too_large(tmp_path: Path) -> None:
    pixels = np.zeros((40, 50, 3), np.uint8)
    source = write(tmp_path / "a.tif", pixels)
    assert predict(predictor(), source, tmp_path / "plain").written == [tmp_path / "plain/index/a.png"]
    large = predict(predictor(), source, tmp_path / "large", max_pixels=100)
    assert large.written == [tmp_path / "large/index/a.tif"]


def test_what_cannot_be_predicted_is_listed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in/two.tif", np.zeros((20, 20, 2), np.uint8), **PLACE)
    write(tmp_path / "in/wide.tif", np.zeros((20, 20, 3), np.uint16), **PLACE)
    write(tmp_path / "in/good.tif", np.zeros((20, 20, 3), np.uint8), **PLACE)
    result = predict(predictor(), tmp_path / "in", tmp_path / "out")
    told = {path.name: why for path, why in result.skipped}
    assert "2 channels, expected 3 as in training" in told["two.tif"]
    assert "uint16 values of unknown range" in told["wide.tif"]
    assert [p.name for p in result.written] == ["good.tif"]
    assert not (tmp_path / "out/index/two.tif").exists()
