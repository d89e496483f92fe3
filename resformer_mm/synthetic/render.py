"""Renderer for images and instance masks of a scene, at any size.

Everything is drawn at ``SUPERSAMPLING`` times the output size and then averaged. As in a camera, edges and
textures that are too fine to be resolved fade into their mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from .scene import Background, Instance, Lighting, Scene, Texture

SUPERSAMPLING = 2

_FINER = 4  # outlines are drawn on a finer grid than the canvas; OpenCV's antialiasing would thicken them
_SHIFT = 6  # fractional bits of the vertices given to OpenCV
_OCTAVES = (3, 6, 12, 24, 48)  # cells of noise per scene unit

Window = tuple[int, int, int, int]
"""Part of the canvas: first row, end row, first column, end column."""


def _soft_step(value: np.ndarray, width: float) -> np.ndarray:
    """Return 0 below zero and 1 above, linear over ``width`` to avoid aliasing at pattern edges."""
    return np.clip(value * (1 / width) + 0.5, 0, 1)


def _triangle_wave(x: np.ndarray) -> np.ndarray:
    """Return a triangle wave with period 1, range -0.25 to 0.25 and slopes of 1 and -1."""
    return np.abs(x - np.floor(x) - 0.5) - 0.25


def _stripes(u: np.ndarray, v: np.ndarray, seed: int) -> np.ndarray:
    return _soft_step(_triangle_wave(u), 0.1)


def _checks(u: np.ndarray, v: np.ndarray, seed: int) -> np.ndarray:
    return _soft_step(_triangle_wave(u) * _triangle_wave(v), 0.02)


def _dots(u: np.ndarray, v: np.ndarray, seed: int) -> np.ndarray:
    du, dv = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    return _soft_step(0.33 - np.sqrt(du * du + dv * dv), 0.1)


def _rings(u: np.ndarray, v: np.ndarray, seed: int) -> np.ndarray:
    du, dv = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    return _soft_step(0.11 - np.abs(np.sqrt(du * du + dv * dv) - 0.29), 0.1)


def _grid(u: np.ndarray, v: np.ndarray, seed: int) -> np.ndarray:
    return _soft_step(np.maximum(_triangle_wave(u), _triangle_wave(v)) - 0.11, 0.1)


def _waves(u: np.ndarray, v: np.ndarray, seed: int) -> np.ndarray:
    return _soft_step(_triangle_wave(u + 0.3 * np.sin(0.7 * 2 * math.pi * v)), 0.1)


def _zigzag(u: np.ndarray, v: np.ndarray, seed: int) -> np.ndarray:
    return _soft_step(_triangle_wave(u + 1.4 * _triangle_wave(0.7 * v)), 0.1)


def _bricks(u: np.ndarray, v: np.ndarray, seed: int) -> np.ndarray:
    row = np.floor(v)
    along = 0.6 * u + 0.5 * row
    to_joint = np.minimum(
        np.abs(v - row - 0.5) * -1 + 0.5, (0.5 - np.abs(along - np.floor(along) - 0.5)) / 0.6
    )
    return _soft_step(to_joint - 0.14, 0.1)


def _plain(u: np.ndarray, v: np.ndarray, seed: int) -> np.ndarray:
    return np.zeros_like(u)


def _mottle(u: np.ndarray, v: np.ndarray, seed: int) -> np.ndarray:
    """Return irregular patches, the sum of a few waves in random directions."""
    rng = np.random.default_rng(seed)
    total = np.zeros_like(u)
    for _ in range(6):
        angle, phase, turns = rng.uniform((0, 0, 0.3), 1).tolist()
        turns, angle = 2 * math.pi * turns, 2 * math.pi * angle
        total += np.sin(turns * math.cos(angle) * u + turns * math.sin(angle) * v + 2 * math.pi * phase)
    return _soft_step(total, 1.5)


_PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    'stripes': _stripes,
    'checks': _checks,
    'dots': _dots,
    'rings': _rings,
    'grid': _grid,
    'zigzag': _zigzag,
    'waves': _waves,
    'bricks': _bricks,
    'plain': _plain,
    'mottle': _mottle,
}


def texture_pattern(texture: Texture, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return figure (1) or ground (0) of a texture at points in the coordinates of the outline.

    Args:
        texture: The texture; its colours are not used.
        x: Coordinates in an array of any shape.
        y: Coordinates in an array of the same shape.

    Returns:
        Values in [0, 1] of the same shape.

    Raises:
        KeyError: If the kind of texture is unknown.
    """
    cos = texture.frequency * math.cos(texture.angle)
    sin = texture.frequency * math.sin(texture.angle)
    u = cos * x + sin * y + texture.phase[0]
    v = cos * y - sin * x + texture.phase[1]
    return _PATTERNS[texture.kind](u, v, texture.seed)


def _canvas_shape(scene: Scene, size: int) -> tuple[int, int]:
    if size < 1:
        raise ValueError(f'size is the shorter side in pixels and must be positive, got {size}')
    width, height = scene.extent
    return round(height * size) * SUPERSAMPLING, round(width * size) * SUPERSAMPLING


def _shrink(canvas: np.ndarray) -> np.ndarray:
    height, width = canvas.shape[:2]
    return cv2.resize(canvas, (width // SUPERSAMPLING, height // SUPERSAMPLING), interpolation=cv2.INTER_AREA)


def _draw_coverage(
    instance: Instance, scale: float, shape: tuple[int, int]
) -> tuple[Window, np.ndarray] | None:
    """Return the window of the canvas around an instance and its coverage in [0, 1]; None if outside."""
    points = instance.polygon() * scale
    left, top = np.maximum(np.floor(points.min(axis=0)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(points.max(axis=0)).astype(int) + 1, shape[::-1])
    if left >= right or top >= bottom:
        return None
    height, width = bottom - top, right - left
    fine = np.zeros((height * _FINER, width * _FINER), np.uint8)
    # OpenCV's coordinates refer to pixel centres.
    vertices = (points - (left, top)) * _FINER - 0.5
    cv2.fillPoly(fine, [np.rint(vertices * (1 << _SHIFT)).astype(np.int32)], 255, shift=_SHIFT)
    coverage = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
    return (top, bottom, left, right), coverage.astype(np.float32) / 255


def _draw_surface(instance: Instance, scale: float, window: Window) -> np.ndarray:
    """Return the (h, w, 3) colours of an instance in a window of the canvas, ignoring its outline."""
    top, bottom, left, right = window
    inverse = np.linalg.inv(instance.frame()).astype(np.float32)
    x = ((np.arange(left, right) + 0.5) / scale - instance.centre[0]).astype(np.float32)
    y = ((np.arange(top, bottom) + 0.5) / scale - instance.centre[1]).astype(np.float32)[:, None]
    across, along = (inverse[row, 0] * x + inverse[row, 1] * y for row in range(2))
    figure = texture_pattern(instance.texture, across, along)
    ground, mark = instance.texture.colours.astype(np.float32)
    return ground + figure[..., None] * (mark - ground)


def _draw_background(background: Background, scene: Scene, shape: tuple[int, int]) -> np.ndarray:
    """Return the (h, w, 3) colours of the background."""
    rng = np.random.default_rng(background.seed)
    total: np.ndarray = np.zeros((1, 1), np.float32)
    for octave, cells in enumerate(_OCTAVES):
        rows, columns = (math.ceil(length * cells) for length in scene.extent[::-1])
        weight = 1.0 if octave == 0 else background.detail * 0.8**octave
        total = cv2.resize(total, (columns, rows), interpolation=cv2.INTER_CUBIC)
        total = total + weight * rng.standard_normal((rows, columns), dtype=np.float32)
    total = cv2.resize(total, shape[::-1], interpolation=cv2.INTER_CUBIC)
    first, second = background.colours.astype(np.float32)
    return first + (0.5 + 0.4 * total)[..., None] * (second - first)


def _expose(image: np.ndarray, lighting: Lighting, scene: Scene) -> np.ndarray:
    """Apply lighting, gamma and noise to an image of the final size; return uint8."""
    height, width = image.shape[:2]
    x = (np.arange(width, dtype=np.float32) + 0.5) / width * scene.extent[0] - scene.extent[0] / 2
    y = (np.arange(height, dtype=np.float32) + 0.5) / height * scene.extent[1] - scene.extent[1] / 2
    light = 1 + lighting.gradient[0] * x + lighting.gradient[1] * y[:, None]
    image = np.clip(image * light[..., None] * lighting.tint.astype(np.float32), 0, 1)
    image **= np.float32(lighting.gamma)
    noise = np.random.default_rng(lighting.seed).standard_normal(image.shape, dtype=np.float32)
    image += np.float32(lighting.noise) * noise
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def render_image(scene: Scene, size: int) -> np.ndarray:
    """Render the image of a scene.

    Args:
        scene: The scene.
        size: Shorter side in pixels.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: If the size is not positive.
    """
    shape = _canvas_shape(scene, size)
    scale = size * SUPERSAMPLING
    canvas = _draw_background(scene.background, scene, shape)
    for instance in scene.instances:
        drawn = _draw_coverage(instance, scale, shape)
        if drawn is None:
            continue
        (top, bottom, left, right), coverage = drawn
        part = canvas[top:bottom, left:right]
        part += coverage[..., None] * (_draw_surface(instance, scale, drawn[0]) - part)
    return _expose(_shrink(canvas), scene.lighting, scene)


def render_masks(scene: Scene, size: int) -> np.ndarray:
    """Render the visible part of each instance.

    Args:
        scene: The scene.
        size: Shorter side in pixels.

    Returns:
        (N, H, W) float32, in the order of ``scene.instances``: the fraction of every pixel, 0 to 1, in which
        the instance is visible. The sum over the instances is at most 1; the rest is background.

    Raises:
        ValueError: If the size is not positive.
    """
    shape = _canvas_shape(scene, size)
    height, width = shape[0] // SUPERSAMPLING, shape[1] // SUPERSAMPLING
    masks = np.zeros((len(scene.instances), height, width), np.float32)
    free = np.ones(shape, np.float32)
    for index in reversed(range(len(scene.instances))):
        drawn = _draw_coverage(scene.instances[index], size * SUPERSAMPLING, shape)
        if drawn is None:
            continue
        (top, bottom, left, right), coverage = drawn
        visible = np.zeros(shape, np.float32)
        visible[top:bottom, left:right] = coverage * free[top:bottom, left:right]
        free[top:bottom, left:right] *= 1 - coverage
        masks[index] = _shrink(visible)
    return masks


def shares_in_sight(scene: Scene, size: int = 32) -> np.ndarray:
    """Return the visible fraction of each instance, estimated from a small image.

    Args:
        scene: The scene.
        size: Shorter side of the image in pixels.

    Returns:
        (N,) fractions of the instances' areas, in the order of ``scene.instances``.
    """
    areas = [math.pi / 4 * (item.size * size) ** 2 for item in scene.instances]
    return np.array([mask.sum() / area for mask, area in zip(render_masks(scene, size), areas, strict=True)])
