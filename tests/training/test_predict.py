from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from semiseg.data.readers.bands import read_channels
from semiseg.errors import InputError
from semiseg.inference import CenterCrop, Resize, Sliding, Whole
from semiseg.training.overlay import draw_legend, draw_overlay
from semiseg.training.predict import PredictResult, predict
from semiseg.training.predictor import Predictor

CLASSES = ("reddish", "greenish", "bluish")
ALWAYS = {"predict.json", "overlay/legend.png"}
PALETTE = ((200, 10, 20), (30, 210, 40), (50, 60, 220))


class Dominant(nn.Module):
    """Class of a pixel: its strongest channel. Keeps the batches it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        self.seen.append(x)
        return x * 10


def run(source: Path, output: Path, model: nn.Module | None = None, **options) -> PredictResult:
    facts = {"inference": Whole(), "classes": CLASSES, "palette": PALETTE, "mean": (0, 0, 0), "std": (1, 1, 1)}
    facts = {
        key: options.pop(key, value) for key, value in (facts | {"value_range": None, "window": (512, 512)}).items()
    }
    return predict(Predictor(model or Dominant(), **facts), source, output, **options)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(path: Path, height: int = 6, width: int = 9, seed: int = 0) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = noise(height, width, seed)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return tmp_path / "photos"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


def written(output: Path) -> set[str]:
    return {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}


# What is written


def test_one_file(photos: Path, output: Path) -> None:
    pixels = write(photos / "street.png", 7, 5)
    result = run(photos / "street.png", output, probabilities=True)
    assert result == PredictResult(written=[output / "index/street.png"])
    assert result.exit_code == 0
    assert written(output) == {"index/street.png", "overlay/street.jpg", "probabilities/street.npz", *ALWAYS}

    with Image.open(output / "index/street.png") as index:
        assert index.mode == "P"
        assert np.array_equal(np.array(index), pixels.argmax(-1))
        assert tuple(index.getpalette()[:9]) == sum(PALETTE, ())
    archive = np.load(output / "probabilities/street.npz")
    assert archive["probabilities"].dtype == np.float16
    assert archive["classes"].tolist() == list(CLASSES)
    expected = torch.from_numpy(pixels / 25.5).softmax(-1).permute(2, 0, 1).numpy()
    np.testing.assert_allclose(archive["probabilities"], expected, atol=1e-3)


def test_probabilities_only_on_request(photos: Path, output: Path) -> None:
    write(photos / "a.png")
    run(photos, output)
    assert written(output) == {"index/a.png", "overlay/a.jpg", *ALWAYS}


def test_the_model_sees_normalized_pixels(photos: Path, output: Path) -> None:
    pixels, model = write(photos / "a.png"), Dominant().train()
    run(photos, output, model, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    expected = (pixels / 255 - np.array([0.1, 0.2, 0.3])) / np.array([0.4, 0.5, 0.6])
    np.testing.assert_allclose(model.seen[0][0].permute(1, 2, 0), expected, atol=1e-5)


def test_256_classes_and_any_mode_of_inference(photos: Path, output: Path) -> None:
    write(photos / "a.png", 20, 30)
    model = nn.Conv2d(3, 256, 1)
    nn.init.zeros_(model.weight)
    model.bias.data = torch.arange(256.0)
    palette = [(i, 255 - i, i // 2) for i in range(256)]
    run(photos, output, model, classes=[f"c{i}" for i in range(256)], palette=palette, inference=Sliding(8))
    with Image.open(output / "index/a.png") as index:
        assert np.unique(np.array(index)) == [255]
        assert index.convert("RGB").getpixel((0, 0)) == palette[255]


# Folders and names


def test_folder_is_searched_below_and_keeps_its_structure(photos: Path, output: Path) -> None:
    for name in ("b.png", "day/a.JPG", "day/deep/c.Tiff", "d.webp", "e.bmp", "f.jpeg", "g.tif"):
        write(photos / name)
    write(photos / ".hidden/x.png")
    write(photos / ".x.png")
    (photos / "notes.txt").write_text("no image")
    result = run(photos, output)
    names = ["b", "d", "e", "f", "g", "day/a", "day/deep/c"]
    assert result.written == [output / "index" / f"{name}.png" for name in names]
    assert result.exit_code == 0


@pytest.mark.parametrize("below", ["results", "."])
def test_earlier_results_are_no_input(below: str, photos: Path) -> None:
    write(photos / "a.png")
    run(photos, photos / below)
    again = run(photos, photos / below, overwrite=True)
    assert len(again.written) == 1


def test_names_that_collide_keep_their_suffix(photos: Path, output: Path) -> None:
    pixels = {name: write(photos / name, seed=k) for k, name in enumerate(["a.bmp", "a.png", "a.png.bmp", "b.png"])}
    run(photos, output)
    assert written(output / "index") == {"a.bmp.png", "a.png.png", "a.png.bmp.png", "b.png"}
    for name, values in pixels.items():
        stem = "b" if name == "b.png" else name
        assert np.array_equal(np.array(Image.open(output / f"index/{stem}.png")), values.argmax(-1))


def test_a_file_is_tried_whatever_its_suffix(photos: Path, output: Path) -> None:
    pixels = write(photos / "a.png")
    (photos / "a.png").rename(photos / "a.data")
    run(photos / "a.data", output)
    assert np.array_equal(np.array(Image.open(output / "index/a.png")), pixels.argmax(-1))


# Batches


def test_equal_sizes_share_forwards_also_when_mixed(photos: Path, output: Path) -> None:
    for k in range(6):
        write(photos / f"{k}.png", *((4, 8) if k % 2 else (8, 4)), seed=k)
    model = Dominant()
    result = run(photos, output, model, batch=3)
    assert [tuple(x.shape) for x in model.seen] == [(3, 3, 8, 4), (3, 3, 4, 8)]
    assert len(result.written) == 6
    for k in range(6):
        expected = noise(*((4, 8) if k % 2 else (8, 4)), seed=k).argmax(-1)
        assert np.array_equal(np.array(Image.open(output / f"index/{k}.png")), expected)


def test_many_sizes_do_not_pile_up(photos: Path, output: Path, monkeypatch) -> None:
    for k in range(20):
        write(photos / f"{k:02}.png", 4, 4 + k)
    read, most = [], 0

    class Counting(Dominant):
        def forward(self, x: Tensor) -> Tensor:
            nonlocal most
            most = max(most, len(read) - sum(map(len, self.seen)))
            return super().forward(x)

    monkeypatch.setattr(
        "semiseg.training.predict.read_channels",
        lambda path, channels, **rules: read.append(path) or read_channels(path, channels, **rules),
    )
    assert len(run(photos, output, Counting(), batch=2).written) == 20
    assert most == 8


# Reading


@pytest.mark.parametrize(
    ("orientation", "shown"),
    [
        (1, lambda x: x),
        (2, lambda x: x[:, ::-1]),
        (3, lambda x: x[::-1, ::-1]),
        (4, lambda x: x[::-1]),
        (5, lambda x: x.swapaxes(0, 1)),
        (6, lambda x: np.rot90(x, -1)),
        (7, lambda x: x.swapaxes(0, 1)[::-1, ::-1]),
        (8, lambda x: np.rot90(x)),
    ],
)
def test_results_have_the_displayed_orientation(orientation: int, shown, photos: Path, output: Path) -> None:
    photos.mkdir()
    pixels, exif = noise(4, 7), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(photos / "a.png", exif=exif)
    run(photos, output, probabilities=True)
    expected = shown(pixels).argmax(-1)
    assert np.array_equal(np.array(Image.open(output / "index/a.png")), expected)
    assert np.load(output / "probabilities/a.npz")["probabilities"].shape == (3, *expected.shape)


def test_what_cannot_be_read_is_named_and_skipped(photos: Path, output: Path) -> None:
    for name in ("a.png", "z.png"):
        write(photos / name)
    buffer = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(buffer, "JPEG")
    (photos / "b_truncated.jpg").write_bytes(buffer.getvalue()[:2000])
    (photos / "c_text.png").write_text("no image")
    (photos / "d_empty.tif").touch()
    result = run(photos, output, batch=8)
    assert [path.name for path in result.written] == ["a.png", "z.png"]
    assert [path.name for path, _ in result.skipped] == ["b_truncated.jpg", "c_text.png", "d_empty.tif"]
    assert all(str(path) in reason and "\n" not in reason for path, reason in result.skipped)
    assert all(path.name in reason for path, reason in result.skipped)
    assert result.exit_code == 1


def test_nothing_readable_is_no_crash(photos: Path, output: Path) -> None:
    photos.mkdir()
    (photos / "a.png").touch()
    result = run(photos, output)
    assert (result.written, len(result.skipped)) == ([], 1)


# Wrong input


@pytest.mark.parametrize("kind", ["index/a.png", "overlay/a.jpg", "probabilities/a.npz"])
def test_existing_results_are_kept_unless_told(kind: str, photos: Path, output: Path) -> None:
    write(photos / "a.png")
    (output / kind).parent.mkdir(parents=True)
    (output / kind).write_text("precious")
    with pytest.raises(InputError, match=f"{kind} already exists"):
        run(photos, output, probabilities=True)
    assert written(output) == {kind}
    assert (output / kind).read_text() == "precious"
    run(photos, output, probabilities=True, overwrite=True)
    assert (output / kind).read_bytes() != b"precious"


def test_missing_and_empty_sources(photos: Path, output: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        run(photos, output)
    photos.mkdir()
    (photos / "notes.txt").write_text("no image")
    with pytest.raises(InputError, match=r"no image below this folder; expected \*.bmp, .*\*.jpg"):
        run(photos, output)
    assert not output.exists()


def test_output_that_cannot_be_made(photos: Path, output: Path) -> None:
    write(photos / "a.png")
    output.write_text("a file")
    for path in (output, output / "below"):
        with pytest.raises(InputError, match="cannot be created"):
            run(photos, path)


def test_output_without_permission(photos: Path, output: Path, monkeypatch) -> None:
    write(photos / "a.png")
    monkeypatch.setattr(os, "access", lambda *_: False)  # the tests may run as root, who may write everywhere
    with pytest.raises(InputError, match="no permission"):
        run(photos, output)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ("a", "b"), "palette": PALETTE[:2]}, "predicts 3 classes, but 2 are named"),
        ({"palette": PALETTE[:2]}, "3 classes and 2 colors"),
        ({"classes": ["x"] * 257, "palette": [(0, 0, 0)] * 257}, "257 classes"),
        ({"inference": CenterCrop(3)}, "does not cover the whole image"),
        ({"batch": 0}, "batch=0"),
    ],
)
def test_parts_that_do_not_agree(options: dict, message: str, photos: Path, output: Path) -> None:
    write(photos / "a.png")
    with pytest.raises(InputError, match=message):
        run(photos, output, **options)


# A folder that grows


def test_new_photos_are_added_and_finished_ones_left(photos: Path, output: Path) -> None:
    write(photos / "a.png")
    run(photos, output, made_with={"network": "one"})
    before = (output / "index/a.png").stat().st_mtime_ns
    write(photos / "b.png", seed=1)
    model = Dominant()
    result = run(photos, output, model, made_with={"network": "one"})
    assert [path.name for path in result.written] == ["b.png"] and result.kept == 1 and len(model.seen) == 1
    assert (output / "index/a.png").stat().st_mtime_ns == before
    with pytest.raises(InputError, match=r"results of another prediction \(network differ\)"):
        run(photos, output, made_with={"network": "two"})
    with pytest.raises(InputError, match="threshold differ"):
        run(photos, output, made_with={"network": "one"}, threshold=0.5)
    assert len(run(photos, output, made_with={"network": "two"}, overwrite=True).written) == 2


def test_a_file_that_is_not_a_record_is_not_replaced(photos: Path, output: Path) -> None:
    write(photos / "a.png")
    output.mkdir()
    (output / "predict.json").write_text("[1]")
    with pytest.raises(InputError, match="already exists"):
        run(photos, output)
    assert (output / "predict.json").read_text() == "[1]"


def test_a_kind_that_is_asked_for_later_is_added(photos: Path, output: Path) -> None:
    write(photos / "a.png")
    run(photos, output)
    assert len(run(photos, output, confidence=True).written) == 1
    assert (output / "confidence/a.png").exists()


def test_images_that_are_left_out(photos: Path, output: Path) -> None:
    for name in ("a.png", "b.png"):
        write(photos / name)
    assert [p.name for p in run(photos, output, without={(photos / "a.png").resolve()}).written] == ["b.png"]
    with pytest.raises(InputError, match="every image below it is labeled"):
        run(photos, output, without={p.resolve() for p in photos.iterdir()})


# Confidence


def test_confidence_is_the_probability_of_the_class_and_unsure_pixels_are_ignored(photos: Path, output: Path) -> None:
    pixels = write(photos / "a.png", 12, 13)
    run(photos, output, confidence=True, threshold=0.9)
    sure = torch.from_numpy(pixels / 25.5).softmax(-1).amax(-1).numpy()
    np.testing.assert_allclose(np.array(Image.open(output / "confidence/a.png")) / 255, sure, atol=1 / 255)
    index = np.array(Image.open(output / "index/a.png"))
    assert ((index == 255) == (sure < 0.9)).all() and 0 < (index == 255).sum() < index.size
    assert (index[index != 255] == pixels.argmax(-1)[index != 255]).all()


def test_a_threshold_needs_a_free_value(photos: Path, output: Path) -> None:
    write(photos / "a.png")
    classes, palette = [str(i) for i in range(256)], [(i, i, i) for i in range(256)]
    with pytest.raises(InputError, match="255 is a class"):
        run(photos, output, classes=classes, palette=palette, threshold=0.5)


# Images that do not fit the memory


@pytest.fixture
def little_memory(monkeypatch) -> None:
    monkeypatch.setattr("semiseg.training.predictor.SMALL", 500)
    monkeypatch.setattr("semiseg.training.predictor.PROBE", 16)
    monkeypatch.setattr("semiseg.training.predictor.free_memory", lambda device: 100_000)


@pytest.mark.parametrize("inference", [Whole(), Resize(multiple=4)])
def test_large_images_are_predicted_by_windows(inference, little_memory, photos: Path, output: Path, caplog) -> None:
    pixels, model = write(photos / "a.png", 90, 100), Dominant()
    run(photos, output, model, inference=inference, window=(20, 20))
    sizes = {tuple(x.shape[2:]) for x in model.seen}
    assert all(h < 90 and w < 100 for h, w in sizes)
    assert "90 x 100" not in caplog.text and "100 x 90 pixels do not fit into memory" in caplog.text
    assert np.array_equal(np.array(Image.open(output / "index/a.png")), pixels.argmax(-1))


def test_a_batch_that_does_not_fit_goes_one_by_one(little_memory, photos: Path, output: Path) -> None:
    for k in range(4):
        write(photos / f"{k}.png", 30, 30, seed=k)
    model = Dominant()
    assert len(run(photos, output, model, batch=4).written) == 4
    assert {len(x) for x in model.seen} == {1}


def test_what_cannot_be_tiled_is_skipped_with_its_reason(little_memory, photos: Path, output: Path) -> None:
    write(photos / "a.png", 90, 100)
    write(photos / "b.png", 6, 6)
    result = run(photos, output, inference=Resize(size=40))
    assert [p.name for p in result.written] == ["b.png"]
    assert "a.png: 100 x 90 pixels do not fit into memory with this eval=; choose eval=sliding" in result.skipped[0][1]


# The overlay


@pytest.mark.parametrize("size", [(1, 1), (48, 64), (30, 900), (900, 30)])
def test_the_overlay_has_the_size_of_the_photo(size: tuple[int, int]) -> None:
    height, width = size
    image, index = Image.new("RGB", (width, height), "white"), np.ones(size, np.uint8)
    overlay = draw_overlay(image, index, PALETTE, alpha=1.0)
    assert overlay.size == (width, height) and (np.array(overlay) == PALETTE[1]).all()


def test_class_0_and_unsure_pixels_are_clear_and_borders_drawn() -> None:
    index = np.zeros((500, 600), np.uint8)
    index[:, 200:] = 1
    index[:, 400:] = 255
    overlay = np.array(draw_overlay(Image.new("RGB", (600, 500), "white"), index, PALETTE))
    assert (overlay[:, :200] == 255).all() and (overlay[:, 400:] == 255).all()
    np.testing.assert_allclose(overlay[250, 300], (np.array(PALETTE[1]) + 255) / 2, atol=1)
    assert (overlay[:, [200, 399]] == PALETTE[1]).all()  # the contour, in full color


def test_the_legend_names_every_class() -> None:
    legend = np.array(draw_legend(CLASSES, PALETTE))
    assert all((legend == color).all(-1).any() for color in PALETTE)
    assert (legend.sum(-1) < 120).any()  # dark text
    assert (legend[:, -1] == 255).all()  # nothing is cut off


def test_results_of_other_calls_are_no_input(photos: Path) -> None:
    write(photos / "a.png")
    run(photos, photos)
    run(photos, photos / "other")
    result = run(photos, photos / "third")
    assert [path.name for path in result.written] == ["a.png"]
    assert not list((photos / "third/index").glob("*/"))
