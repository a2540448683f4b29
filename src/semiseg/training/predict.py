"""Prediction of a person's own images: index PNG, color overlay with a legend, optional probabilities."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageChops, ImageDraw, ImageFont
from torch import Tensor, nn
from tqdm import tqdm

from semiseg.data.readers.images import MAX_PIXELS, ValueRange, read_image
from semiseg.data.readers.listing import IMAGE_SUFFIXES, find_images, is_utf8, printable
from semiseg.errors import InputError
from semiseg.inference import Inference, most_probable

RESULTS = {"index": ".png", "overlay": ".jpg", "probabilities": ".npz"}
"""What is written for each image: subfolder and suffix."""

Color = tuple[int, int, int]


@dataclass
class PredictResult:
    """What became of the images."""

    written: list[Path] = field(default_factory=list)  # index PNGs, one per predicted image
    skipped: list[tuple[Path, str]] = field(default_factory=list)  # unreadable images, and why

    @property
    def exit_code(self) -> int:
        """0 when every image was predicted, else 1."""
        return 1 if self.skipped else 0


@torch.inference_mode()
def predict(
    model: nn.Module,
    inference: Inference,
    classes: Sequence[str],
    palette: Sequence[Color],
    mean: Sequence[float],
    std: Sequence[float],
    source: str | Path,
    output: str | Path,
    *,
    probabilities: bool = False,
    batch: int = 1,
    device: torch.device | str = "cpu",
    overwrite: bool = False,
    value_range: ValueRange | None = None,
    max_pixels: int = MAX_PIXELS,
) -> PredictResult:
    """Predict one image or all images below a folder, and write the results below ``output``.

    ``index/NAME.png`` holds class indices with the palette embedded, ``overlay/NAME.jpg`` a picture to look
    at, ``probabilities/NAME.npz`` float16 (C, H, W) ``probabilities`` and the ``classes``. NAME is the path
    below ``source`` without its suffix, or with it where two images differ in nothing else. Indices and
    probabilities have the size and orientation in which the image is displayed (EXIF). An image that cannot
    be read is skipped and listed in the result. Hidden files and earlier results are not searched. Images are read
    as in training, see `semiseg.data.readers.images`.

    Args:
        model: (B, 3, H, W) normalized images to (B, C, H, W) logits; moved to ``device``, into eval mode.
        inference: how the model is applied; must cover the whole image.
        classes: C names, in the order of the model's channels; at most 256.
        palette: C colors, 0..255.
        mean: of the three channels of images scaled to [0, 1], as in training.
        std: likewise.
        source: an image file, or a folder that is searched recursively.
        output: a folder; made if missing.
        probabilities: write them too.
        batch: images of equal size per forward.
        device: where to compute.
        overwrite: replace results that are there already, instead of refusing.
        value_range: values that become 0 and 255 in images of more than 8 bits a sample, as in training; None: such
            images are skipped.
        max_pixels: larger images are skipped.

    Raises:
        InputError: nothing to predict; ``output`` holds results already or cannot be written to; classes,
            palette and model do not agree; ``inference`` leaves part of the image out.
    """
    if len(classes) != len(palette) or not 0 < len(classes) <= 256:
        raise InputError(f"{len(classes)} classes and {len(palette)} colors: expected as many, 1 to 256")
    if batch < 1:
        raise InputError(f"batch={batch}: expected at least 1 image per forward")
    source, output = Path(source), Path(output)
    kinds = [kind for kind in RESULTS if kind != "probabilities" or probabilities]
    targets = {
        path: {kind: output / kind / f"{name}{RESULTS[kind]}" for kind in kinds}
        for path, name in _names(source, _find_images(source, output)).items()
    }
    _keep_sources(targets)
    _prepare(output, [target for files in targets.values() for target in files.values()], overwrite)

    model = model.to(device).eval()
    shift, scale = (torch.tensor(x, device=device).view(3, 1, 1) for x in (mean, std))
    result = PredictResult()
    with tqdm(total=len(targets), unit="image", disable=None) as progress:
        for group in _batches(_read_all(targets, result, progress, value_range, max_pixels), batch):
            # uint8 travels to the device, a quarter of the bytes of float32.
            pixels = torch.stack([torch.from_numpy(np.array(image)) for _, image in group]).to(device)
            pixels = pixels.permute(0, 3, 1, 2).contiguous()
            probs = inference(model, (pixels / 255 - shift) / scale)
            _check_output(probs, pixels, len(classes))
            indices = most_probable(probs).byte().cpu().numpy()
            for (path, image), index, image_probs in zip(group, indices, probs, strict=True):
                files = targets[path]
                for file in files.values():
                    file.parent.mkdir(parents=True, exist_ok=True)
                # 8 bits even for few classes: not every reader unpacks fewer.
                _paletted(index, palette).save(files["index"], bits=8)
                draw_overlay(image, index, classes, palette).save(files["overlay"], quality=90)
                if probabilities:
                    values = {"probabilities": image_probs.half().cpu().numpy(), "classes": np.array(classes)}
                    np.savez_compressed(files["probabilities"], **values)
                result.written.append(files["index"])
                progress.update()
    return result


def draw_overlay(
    image: Image.Image,
    index: np.ndarray,
    classes: Sequence[str],
    palette: Sequence[Color],
    *,
    alpha: float = 0.5,
) -> Image.Image:
    """The image tinted by class, outlined, above a legend of the classes that occur, by falling area.

    Args:
        image: RGB.
        index: (H, W) uint8 class indices.
        classes: names by index.
        palette: colors by index.
        alpha: opacity of the colors, in [0, 1].

    Returns:
        RGB. The longer side of a small image is enlarged to 480 pixels or more, by a whole factor.
    """
    factor = max(1, -(-480 // max(image.size)))
    size = (image.width * factor, image.height * factor)
    colors = _paletted(index, palette).convert("RGB").resize(size, Image.Resampling.NEAREST)
    labels = Image.fromarray(index).resize(size, Image.Resampling.NEAREST)
    picture = Image.blend(image.resize(size, Image.Resampling.BICUBIC), colors, alpha)
    line = max(1, round(max(size) / 1000))
    picture.paste(colors, mask=_outline(labels, line))

    legend = _legend(np.bincount(index.ravel(), minlength=len(classes)), classes, palette, picture.size)
    canvas = Image.new("RGB", (max(picture.width, legend.width), picture.height + legend.height), "white")
    canvas.paste(picture, (0, 0))
    canvas.paste(legend, (0, picture.height))
    return canvas


def _outline(labels: Image.Image, width: int) -> Image.Image:
    """Mask of the pixels whose class differs ``width`` pixels further right or down."""
    edges = Image.new("L", labels.size)
    for dx, dy in ((width, 0), (0, width)):
        box = (0, 0, labels.width - dx, labels.height - dy)
        moved = labels.crop((dx, dy, labels.width, labels.height))
        change = ImageChops.difference(labels.crop(box), moved).point(lambda value: 255 if value else 0)
        edges.paste(ImageChops.lighter(edges.crop(box), change), box)
    return edges


def _legend(
    areas: np.ndarray, classes: Sequence[str], palette: Sequence[Color], picture: tuple[int, int]
) -> Image.Image:
    """White panel, at least as wide as the picture, of swatch, name and share of each class that occurs."""
    unit = max(14, round(max(picture) / 48))  # font size, which all other measures follow
    font = ImageFont.load_default(unit)
    shares = 100 * areas / areas.sum()
    present = [i for i in np.argsort(-areas, kind="stable") if areas[i]]
    entries = [(palette[i], f"{classes[i]}  {shares[i]:.1f} %") for i in present]
    cell = round(max(font.getlength(text) for _, text in entries) + 3.4 * unit)
    columns = max(1, min(len(entries), (picture[0] - unit) // cell))
    rows = -(-len(entries) // columns)
    pitch = round(1.7 * unit)
    panel = Image.new("RGB", (max(picture[0], columns * cell + unit), rows * pitch + unit), "white")
    draw = ImageDraw.Draw(panel)
    for k, (color, text) in enumerate(entries):
        x, middle = unit + k % columns * cell, unit // 2 + k // columns * pitch + pitch // 2
        swatch = (x, middle - unit // 2, x + round(1.4 * unit), middle + unit // 2)
        draw.rectangle(swatch, fill=tuple(color), outline=(90, 90, 90))
        draw.text((x + 2 * unit, middle), text, fill=(20, 20, 20), font=font, anchor="lm")
    return panel


def _find_images(source: Path, output: Path) -> list[Path]:
    if source.is_file():
        return [source]  # named by a person: its suffix does not matter
    if not source.is_dir():
        raise InputError(f"source={source}: no such file or folder; expected an image or a folder of images")

    results = {(output / kind).resolve() for kind in RESULTS}  # of an earlier call: no input
    found = find_images(source, skip=results)
    if not found:
        raise InputError(f"source={source}: no image below this folder; expected *{', *'.join(sorted(IMAGE_SUFFIXES))}")
    return found


def _names(source: Path, images: list[Path]) -> dict[Path, str]:
    """Name of each image's results: path below the source, with suffix only to tell two apart."""
    root = source.parent if source.is_file() else source
    names = {path: str(path.relative_to(root).with_suffix("")) for path in images}
    while True:  # again, for a name with its suffix may be the bare name of a third image: a.jpg, a.png and a.jpg.png
        count = Counter(names.values())
        full = {path: str(path.relative_to(root)) for path, name in names.items() if count[name] > 1}
        if not full:
            return names
        names |= full


def _keep_sources(targets: Mapping[Path, Mapping[str, Path]]) -> None:
    """Refuse to write a result over an image that is to be predicted.

    Raises:
        InputError: names the image.
    """
    sources = {path.resolve() for path in targets}
    for files in targets.values():
        for target in files.values():
            if target.resolve() in sources:
                raise InputError(f"{target} is one of the images to predict: choose an output outside of source=")


def _prepare(output: Path, targets: Iterable[Path], overwrite: bool) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output={output}: cannot be made: {error.strerror}; expected a folder") from error
    if not os.access(output, os.W_OK | os.X_OK):
        raise InputError(f"output={output}: no permission to write there; choose another folder")
    if not overwrite and (present := next((x for x in targets if x.exists()), None)):
        raise InputError(f"{present} is there already: choose another output, or overwrite=true")


def _read_all(
    paths: Iterable[Path],
    result: PredictResult,
    progress: tqdm[Any],
    value_range: ValueRange | None,
    max_pixels: int,
) -> Iterator[tuple[Path, Image.Image]]:
    """Read one image after another; those that cannot be read are noted in ``result``."""
    for path in paths:
        try:
            if not is_utf8(path):
                raise InputError(f"{printable(path)}: file name is not UTF-8; rename the file")
            samples = read_image(path, value_range=lambda: value_range, max_pixels=max_pixels)
            yield path, Image.fromarray(samples)
        except InputError as error:
            result.skipped.append((path, str(error)))
            progress.update()


def _batches(images: Iterable[tuple[Path, Image.Image]], batch: int) -> Iterator[list[tuple[Path, Image.Image]]]:
    """Group images of equal size by ``batch``, holding no more than four times as many at once."""
    waiting: dict[tuple[int, int], list[tuple[Path, Image.Image]]] = defaultdict(list)
    for path, image in images:
        waiting[image.size].append((path, image))
        if len(waiting[image.size]) == batch:
            yield waiting.pop(image.size)
        elif sum(map(len, waiting.values())) >= 4 * batch:
            yield waiting.pop(next(iter(waiting)))  # the size that has waited longest
    yield from waiting.values()


def _check_output(probs: Tensor, pixels: Tensor, n_classes: int) -> None:
    if probs.shape[1] != n_classes:
        raise InputError(f"the model predicts {probs.shape[1]} classes, but {n_classes} are named")
    if probs.shape[2:] != pixels.shape[2:]:
        raise InputError("eval: this mode leaves part of the image out; choose whole, resize or sliding")


def _paletted(index: np.ndarray, palette: Sequence[Color]) -> Image.Image:
    image = Image.fromarray(index)  # mode L, which a palette turns into P
    image.putpalette([value for color in palette for value in color])
    return image
