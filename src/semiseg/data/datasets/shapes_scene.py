"""Draw one scene of the built-in data set."""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import cv2
import numpy as np

Rng = np.random.Generator

CLASSES = ("background", "disc", "striped disc", "square", "striped square", "ring", "triangle")

# Area of an object relative to the squared shorter side. The same for every class, so classes are balanced in pixels.
_AREA = (0.08, 0.2)
# Typical hue of each outline, and the standard deviation around it, in turns. A color cast comes on top.
_HUES = {"disc": 0.03, "ring": 0.28, "square": 0.53, "triangle": 0.78}
_HUE_SPREAD = 0.03
_SUBPIXEL_BITS = 4  # OpenCV takes corners in 1/16 pixel


def draw_scene(rng: Rng, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw one scene.

    Returns:
        Image (H, W, 3) uint8 RGB, and mask (H, W) uint8 with the index of `CLASSES`.
    """
    canvas = _background(rng, height, width)
    mask = np.zeros((height, width), np.uint8)
    for _ in range(rng.integers(2, 6)):
        _draw_clutter(rng, canvas)
    placed: list[tuple[np.ndarray, float]] = []
    for _ in range(rng.integers(2, 6)):
        radius = min(height, width) * np.sqrt(rng.uniform(*_AREA) / np.pi)
        center = _place(rng, placed, radius, height, width)
        placed.append((center, radius))
        _draw_object(rng, canvas, mask, int(rng.integers(1, len(CLASSES))), center, radius)
    if rng.random() < 0.4:
        _cover_with_bar(rng, canvas, mask)
    return _light(rng, canvas), mask


def _color(rng: Rng, away_from: np.ndarray | None = None) -> np.ndarray:
    """Draw a color in [0, 1]^3; with ``away_from``, the farthest of four draws from that color."""
    draws = np.array(
        [
            colorsys.hsv_to_rgb(*hsv)
            for hsv in rng.uniform((0, 0.1, 0.25), (1, 0.85, 0.95), (1 if away_from is None else 4, 3))
        ],
        np.float32,
    )
    return draws[0] if away_from is None else draws[np.abs(draws - away_from).sum(1).argmax()]


def _noise(rng: Rng, height: int, width: int, cells: int) -> np.ndarray:
    """Smooth noise, (H, W) float32 around [0, 1], with ``cells`` bumps along each side."""
    coarse = rng.random((cells + 1, cells + 1), dtype=np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def _stripes(rng: Rng, height: int, width: int, unit: int) -> np.ndarray:
    """Soft stripes of random direction, (H, W) float32 in [0, 1]; period 5 to 8.5 % of ``unit`` pixels."""
    frequency = 2 * np.pi / (rng.uniform(0.05, 0.085) * unit)
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    x = (np.arange(width) * (frequency * np.cos(angle)) + phase).astype(np.float32)
    y = (np.arange(height) * (frequency * np.sin(angle))).astype(np.float32)
    # sin(x + y) from the two axes: four short vectors instead of a sine for each pixel
    wave = np.outer(np.cos(y), np.sin(x)) + np.outer(np.sin(y), np.cos(x))
    return np.clip(1.5 * wave + 0.5, 0, 1)


def _background(rng: Rng, height: int, width: int) -> np.ndarray:
    """Two dull colors mixed by noise, sometimes with faint stripes. (H, W, 3) float32 in [0, 1]."""
    first, second = (0.4 * color + 0.6 * color.mean() for color in (_color(rng), _color(rng)))
    second = (first + second) / 2
    blend = _noise(rng, height, width, int(rng.integers(2, 12)))
    if rng.random() < 0.3:
        blend = 0.7 * blend + 0.3 * _stripes(rng, height, width, min(height, width))
    return first + blend[..., None] * (second - first)


def _place(rng: Rng, placed: list[tuple[np.ndarray, float]], radius: float, height: int, width: int) -> np.ndarray:
    """Find a center (x, y) with little overlap with earlier objects, trying up to ten draws."""
    margin = 0.5 * radius  # objects may extend past the image by a quarter of their width
    draws = rng.uniform((margin, margin), (width - margin, height - margin), (10, 2))
    for center in draws:
        if all(np.hypot(*(center - other)) > 0.7 * (radius + size) for other, size in placed):
            return center
    return draws[-1]


def _stretch_and_rotate(rng: Rng, points: np.ndarray) -> np.ndarray:
    """Stretch (x, y) points by up to a third along an axis at constant area, then rotate them by a random angle."""
    stretch = np.sqrt(rng.uniform(0.75, 1.33))
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    return points * (stretch, 1 / stretch) @ np.array([[cos, sin], [-sin, cos]])


def _polygon(rng: Rng, corners: int, area: float) -> np.ndarray:
    """Regular polygon of ``area`` square pixels around the origin, stretched and rotated. (corners, 2)."""
    # Half a step off the axes: the sides of a square are parallel to them, so it stretches to a rectangle.
    angles = 2 * np.pi * (np.arange(corners) + 0.5) / corners
    radius = np.sqrt(2 * area / (corners * np.sin(2 * np.pi / corners)))
    return _stretch_and_rotate(rng, radius * np.stack([np.cos(angles), np.sin(angles)], 1))


def _ring(rng: Rng, area: float) -> list[np.ndarray]:
    hole = rng.uniform(0.45, 0.6)  # inner over outer radius
    outer = _polygon(rng, 28, area / (1 - hole**2))
    return [outer, hole * outer]


_OUTLINES: dict[str, Callable[[Rng, float], list[np.ndarray]]] = {
    "disc": lambda rng, area: [_polygon(rng, 28, area)],
    "square": lambda rng, area: [_polygon(rng, 4, area)],
    "ring": _ring,
    "triangle": lambda rng, area: [_polygon(rng, 3, area)],
}


def _draw_object(rng: Rng, canvas: np.ndarray, mask: np.ndarray, label: int, center: np.ndarray, radius: float) -> None:
    """Paint one object of class ``label``, with a shadow, into ``canvas`` and ``mask``."""
    name = CLASSES[label]
    outline = name.removeprefix("striped ")
    contours = _OUTLINES[outline](rng, np.pi * radius**2)
    window, cover = _rasterize(contours, center, mask.shape, margin=5)
    view = canvas[window]
    height, width = cover.shape

    shadow = cv2.blur(np.roll(cover, tuple(rng.integers(-2, 3, 2)), (0, 1)), (5, 5)).astype(np.float32)
    view *= 1 - np.float32(rng.uniform(0, 0.5) / 255) * shadow[..., None]

    hue = (_HUES[outline] + rng.normal(0, _HUE_SPREAD)) % 1
    color = np.array(colorsys.hsv_to_rgb(hue, rng.uniform(0.45, 0.9), rng.uniform(0.35, 0.95)), np.float32)
    if name.startswith("striped "):
        other = _color(rng, away_from=color)
        paint = color + _stripes(rng, height, width, min(mask.shape))[..., None] * (other - color)
    else:
        paint = np.broadcast_to(color, view.shape)
    shade = np.float32(rng.uniform(0, 0.5)) * (_noise(rng, height, width, 2) - 0.5)
    _paint(view, cover, paint * (1 + shade[..., None]))
    mask[window][cover > 127] = label


def _draw_clutter(rng: Rng, canvas: np.ndarray) -> None:
    """Paint background that looks like part of an object: a stroke, an empty outline or a blob."""
    height, width = canvas.shape[:2]
    unit = min(height, width)
    center = rng.uniform((0, 0), (width, height))
    kind = rng.integers(3)
    if kind == 0:
        walk = np.cumsum(rng.normal(0, 0.12 * unit, (5, 2)), 0)
        window, cover = _rasterize([walk], center, (height, width), stroke=int(rng.integers(1, 4)), closed=False)
    elif kind == 1:
        outline = list(_OUTLINES.values())[rng.integers(len(_OUTLINES))]
        contours = outline(rng, rng.uniform(*_AREA) * unit**2)[:1]
        window, cover = _rasterize(contours, center, (height, width), stroke=1)
    else:
        blob = _polygon(rng, 9, 0.4 * rng.uniform(*_AREA) * unit**2) * rng.uniform(0.5, 1.3, (9, 1))
        window, cover = _rasterize([blob], center, (height, width))
    _paint(canvas[window], cover, _color(rng))


def _cover_with_bar(rng: Rng, canvas: np.ndarray, mask: np.ndarray) -> None:
    """Draw a bar across the scene that belongs to the background and occludes what is behind it."""
    height, width = mask.shape
    ends = rng.uniform(-0.1, 1.1, (2, 2)) * (width, height)
    thickness = max(2, round(min(height, width) * rng.uniform(0.02, 0.05)))
    window, cover = _rasterize([ends], np.zeros(2), mask.shape, stroke=thickness, closed=False, margin=thickness)
    _paint(canvas[window], cover, _color(rng))
    mask[window][cover > 127] = 0


def _rasterize(
    contours: list[np.ndarray],
    center: np.ndarray,
    shape: tuple[int, int],
    *,
    stroke: int = 0,
    closed: bool = True,
    margin: int = 3,
) -> tuple[tuple[slice, slice], np.ndarray]:
    """Draw contours of (x, y) points around ``center``: filled (even-odd), or lines ``stroke`` pixels thick.

    Returns:
        The smallest window of the (H, W) ``shape`` that contains them, ``margin`` pixels wider on each side, and
        the coverage of each of its pixels, uint8 in 0..255. Drawing in windows is fast.
    """
    limit = np.array([shape[1], shape[0]])
    points = np.concatenate(contours) + center
    low = np.clip(np.floor(points.min(0)).astype(int) - margin, 0, limit - 1)
    high = np.clip(np.ceil(points.max(0)).astype(int) + margin + 1, low + 1, limit)
    cover = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    corners = [np.round((c + center - low) * 2**_SUBPIXEL_BITS).astype(np.int32) for c in contours]
    if stroke:
        cv2.polylines(cover, corners, closed, 255, stroke, cv2.LINE_AA, _SUBPIXEL_BITS)
    else:
        cv2.fillPoly(cover, corners, 255, cv2.LINE_AA, _SUBPIXEL_BITS)
    return (slice(low[1], high[1]), slice(low[0], high[0])), cover


def _paint(view: np.ndarray, cover: np.ndarray, paint: np.ndarray) -> None:
    """Blend ``paint`` into ``view`` in place, with ``cover`` (0..255) as alpha."""
    alpha = cover.astype(np.float32)[..., None] * np.float32(1 / 255)
    view += alpha * (paint - view)


def _light(rng: Rng, canvas: np.ndarray) -> np.ndarray:
    """Directional light, a color cast, exposure change, blur and sensor noise. Returns uint8."""
    height, width = canvas.shape[:2]
    slope = rng.uniform(-0.35, 0.35, 2).astype(np.float32)
    light = 1 + slope[0] * np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    light = light + slope[1] * np.linspace(-1, 1, width, dtype=np.float32)
    cast = rng.uniform(0.8, 1.1, 3).astype(np.float32)
    image = np.clip(canvas * light[..., None] * cast, 0, 1) ** np.float32(rng.uniform(0.6, 1.6))
    if rng.random() < 0.4:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.0))
    image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(0, 0.05))
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)
