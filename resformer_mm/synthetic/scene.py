"""Description of synthetic scenes: objects of ten classes in front of a cluttered background.

A class is a shape *and* a surface texture. Each of the five shapes occurs with two of the eight textures, and
two of the textures occur with two shapes, so neither shape nor texture alone determines the class. Some
textures differ only in fine detail. Colours are drawn independently of the class.

A :class:`Scene` does not depend on an image size. Lengths are in units of the shorter side of the image, so
one scene can be rendered at any size (:mod:`.render`). For motion, make a scene for every frame:
``dataclasses.replace(instance, centre=...)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .shapes import OUTLINES, make_outline

_PAIRS = (
    ('disc', 'checks'),
    ('triangle', 'checks'),
    ('disc', 'stripes'),
    ('star', 'stripes'),
    ('star', 'zigzag'),
    ('square', 'waves'),
    ('square', 'dots'),
    ('cross', 'rings'),
    ('cross', 'bricks'),
    ('triangle', 'grid'),
)

CLASSES = tuple(f'{shape}_{texture}' for shape, texture in _PAIRS)
"""Class names, ``shape_texture``; a label is an index into this tuple."""

CLUTTER = -1
"""Label of instances that do not belong to a class."""

SIZE_RANGE = (0.24, 0.96)
"""Smallest and largest object; see :attr:`Instance.size`."""

CYCLES = 4.0
"""Texture periods across an object of any size, so the texture of a smaller object is finer."""


@dataclass(frozen=True, eq=False)
class Texture:
    """Surface of an instance, in the coordinates of its outline.

    ``frequency`` is in periods per unit of these coordinates (in which the disc has diameter 2), ``angle`` in
    radians, ``phase`` (2,) in periods. ``colours`` (2, 3) are linear RGB in [0, 1]: the ground and the
    brighter figure of the pattern. ``seed`` determines irregular patterns.
    """

    kind: str
    frequency: float
    angle: float
    phase: tuple[float, float]
    colours: np.ndarray
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Instance:
    """One object.

    ``label`` is an index into ``CLASSES``, or ``CLUTTER``. ``outline`` is a (K, 2) polygon of area pi in its
    own coordinates. ``centre`` is (x, y) and ``size`` the diameter of the disc of equal area, both in units
    of the image's shorter side. The outline is scaled by ``stretch`` (height over width, area preserved) and
    then rotated by ``angle`` radians.
    """

    label: int
    outline: np.ndarray
    centre: tuple[float, float]
    size: float
    angle: float
    stretch: float
    texture: Texture

    def frame(self) -> np.ndarray:
        """Return the (2, 2) matrix from the outline's coordinates to scene units."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        squeeze = np.array([1 / math.sqrt(self.stretch), math.sqrt(self.stretch)])
        return np.array([[cos, -sin], [sin, cos]]) * squeeze * (self.size / 2)

    def polygon(self) -> np.ndarray:
        """Return (K, 2) vertices (x, y) in scene units, not clipped by other instances or the image."""
        return self.outline @ self.frame().T + np.asarray(self.centre)


@dataclass(frozen=True, eq=False)
class Background:
    """Cloudy background: ``colours`` (2, 3) mixed by noise of several octaves, determined by ``seed``.

    ``detail`` in [0, 1] is the strength of the fine octaves.
    """

    colours: np.ndarray
    detail: float
    seed: int


@dataclass(frozen=True, eq=False)
class Lighting:
    """Lighting and camera settings.

    ``tint`` (3,) are gains, ``gradient`` (x, y) is the change of relative brightness per unit of length,
    ``gamma`` is an exponent, and ``noise`` is the standard deviation of the pixel values in [0, 1], drawn
    from ``seed``.
    """

    tint: np.ndarray
    gradient: tuple[float, float]
    gamma: float
    noise: float
    seed: int


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything a renderer needs.

    ``instances`` are ordered from back to front. ``extent`` is the (width, height) of the image in scene
    units; the shorter side is 1.
    """

    instances: tuple[Instance, ...]
    background: Background
    lighting: Lighting
    extent: tuple[float, float] = (1.0, 1.0)


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _two_colours(rng: np.random.Generator, contrast: tuple[float, float]) -> np.ndarray:
    """Return two random colours; the second is brighter by a value from the range ``contrast``."""
    difference = rng.uniform(*contrast)
    middle = rng.uniform(0.15 + difference / 2, 0.85 - difference / 2)
    levels = middle + difference / 2 * np.array([-1.0, 1.0])
    # Chroma does not change the brightness, so the contrast is the difference above.
    chroma = rng.normal(0, 0.07, (2, 3))
    chroma -= chroma.mean(axis=1, keepdims=True)
    return np.clip(levels[:, None] + chroma, 0, 1)


def _sample_texture(
    rng: np.random.Generator, kind: str, cycles: float, contrast: tuple[float, float]
) -> Texture:
    return Texture(
        kind=kind,
        frequency=cycles / 2 * rng.uniform(0.8, 1.25),
        angle=rng.uniform(-0.2, 0.2),
        phase=(rng.uniform(), rng.uniform()),
        colours=_two_colours(rng, contrast),
        seed=_seed(rng),
    )


def sample_object(
    rng: np.random.Generator,
    label: int,
    extent: tuple[float, float] = (1.0, 1.0),
    size_range: tuple[float, float] = SIZE_RANGE,
) -> Instance:
    """Draw a random object of a class: log-uniform size, tilted, usually near the centre.

    Args:
        rng: Source of all random values.
        label: Index into ``CLASSES``.
        extent: (width, height) of the image in scene units.
        size_range: Smallest and largest size in scene units.
    """
    shape, texture = _PAIRS[label]
    size = math.exp(rng.uniform(*np.log(size_range)))
    centre = []
    for length in extent:
        # At most about a tenth of a disc's diameter may be outside the image.
        room = max(length / 2 - 0.4 * size, 0)
        centre.append(length / 2 + room * rng.triangular(-1, 0, 1))
    return Instance(
        label=label,
        outline=make_outline(shape, rng),
        centre=(centre[0], centre[1]),
        size=size,
        # Objects are roughly upright: tilted by at most 26 degrees.
        angle=rng.uniform(-0.45, 0.45),
        stretch=rng.uniform(0.75, 1.0),
        texture=_sample_texture(rng, texture, CYCLES, (0.3, 0.65)),
    )


def sample_clutter(rng: np.random.Generator, centre: tuple[float, float], size: float) -> Instance:
    """Draw a random instance without a class, plain or mottled, at ``centre`` and of ``size`` scene units.

    It may have the shape of a class, but never the texture of one.
    """
    shape = 'blob' if rng.uniform() < 0.6 else str(rng.choice(list(OUTLINES)))
    return Instance(
        label=CLUTTER,
        outline=make_outline(shape, rng),
        centre=centre,
        size=size,
        angle=rng.uniform(0, 2 * math.pi),
        stretch=math.exp(rng.uniform(math.log(0.2), 0)),
        texture=_sample_texture(rng, str(rng.choice(['plain', 'mottle'])), 3.0, (0.1, 0.4)),
    )


def sample_scene(
    rng: np.random.Generator,
    labels: Sequence[int],
    extent: tuple[float, float] = (1.0, 1.0),
    size_range: tuple[float, float] = SIZE_RANGE,
) -> Scene:
    """Draw a random scene with one object per label, clutter behind them and sometimes in front.

    Args:
        rng: Source of all random values; the same state gives the same scene.
        labels: Indices into ``CLASSES``, from back to front; may be empty.
        extent: (width, height) of the image in scene units.
        size_range: Smallest and largest object in scene units.
    """
    objects = [sample_object(rng, label, extent, size_range) for label in labels]
    # Clutter is always smaller than the objects.
    limit = min([0.35 * item.size for item in objects] + [0.25])
    behind = []
    for _ in range(rng.integers(3, 9)):
        centre = (rng.uniform(0, extent[0]), rng.uniform(0, extent[1]))
        behind.append(sample_clutter(rng, centre, rng.uniform(0.2, 1.0) * limit))
    front = []
    for item in objects:
        if rng.uniform() < 0.3:
            # Away from the centre, so that most of the object remains visible.
            direction = rng.uniform(0, 2 * math.pi)
            reach = item.size / 2 * rng.uniform(0.5, 1.0)
            centre = (
                item.centre[0] + reach * math.cos(direction),
                item.centre[1] + reach * math.sin(direction),
            )
            front.append(sample_clutter(rng, centre, item.size * rng.uniform(0.3, 0.5)))
    background = Background(
        colours=_two_colours(rng, (0.05, 0.2)), detail=rng.uniform(0.1, 0.6), seed=_seed(rng)
    )
    lighting = Lighting(
        tint=rng.uniform(0.8, 1.2) * rng.uniform(0.85, 1.15, 3),
        gradient=(rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.4)),
        gamma=math.exp(rng.uniform(-0.3, 0.3)),
        noise=rng.uniform(0.0, 0.03),
        seed=_seed(rng),
    )
    return Scene((*behind, *objects, *front), background, lighting, extent)
