"""Pictures of a prediction: the photo tinted by class with contours, and a separate legend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont

from semiseg.data.batch import IGNORE

Color = tuple[int, int, int]


def paletted(index: np.ndarray, palette: Sequence[Color]) -> Image.Image:
    """(H, W) uint8 class indices as an image with the colors of the classes; ``IGNORE`` is white."""
    image = Image.fromarray(index)  # mode L, which a palette turns into P
    colors = [value for color in palette for value in color]
    image.putpalette(colors + [255] * (768 - len(colors)))
    return image


def draw_overlay(image: Image.Image, index: np.ndarray, palette: Sequence[Color], *, alpha: float = 0.5) -> Image.Image:
    """The image tinted by class, with contours. Class 0 and pixels without a class are not tinted.

    Args:
        image: RGB.
        index: (H, W) uint8 class indices.
        palette: colors by index.
        alpha: opacity of the colors, in [0, 1].

    Returns:
        RGB, of the size of the image.
    """
    colors = paletted(index, palette).convert("RGB")
    opacity = np.full(256, round(255 * alpha), np.uint8)
    opacity[[0, IGNORE]] = 0
    picture = Image.composite(colors, image, Image.fromarray(opacity[index]))
    picture.paste(colors, mask=_contours(Image.fromarray(index), max(1, round(max(image.size) / 800))))
    return picture


def draw_legend(classes: Sequence[str], palette: Sequence[Color], unit: int = 18) -> Image.Image:
    """White panel with swatch and name of each class. ``unit`` is the font size in pixels."""
    font = ImageFont.load_default(unit)
    pitch = round(1.7 * unit)
    width = round(max(font.getlength(name) for name in classes) + 4 * unit)
    panel = Image.new("RGB", (width, len(classes) * pitch + unit), "white")
    draw = ImageDraw.Draw(panel)
    for k, (color, name) in enumerate(zip(palette, classes, strict=True)):
        middle = unit // 2 + k * pitch + pitch // 2
        swatch = (unit, middle - unit // 2, round(2.4 * unit), middle + unit // 2)
        draw.rectangle(swatch, fill=tuple(color), outline=(90, 90, 90))
        draw.text((3 * unit, middle), name, fill=(20, 20, 20), font=font, anchor="lm")
    return panel


def _contours(labels: Image.Image, width: int) -> Image.Image:
    """Mask of the pixels whose class differs from that ``width`` pixels to the right or below, except class 0."""
    edges = Image.new("L", labels.size)
    for dx, dy in ((width, 0), (0, width)):
        if dx >= labels.width or dy >= labels.height:
            continue
        box = (0, 0, labels.width - dx, labels.height - dy)
        moved = labels.crop((dx, dy, labels.width, labels.height))
        change = ImageChops.difference(labels.crop(box), moved).point(lambda value: 255 if value else 0)
        edges.paste(ImageChops.lighter(edges.crop(box), change), box)
        after = (dx, dy, labels.width, labels.height)
        edges.paste(ImageChops.lighter(edges.crop(after), change), after)
    return ImageChops.multiply(edges, labels.point(lambda value: 255 if value not in (0, IGNORE) else 0))
