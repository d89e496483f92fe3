"""Outlines of the objects of the synthetic world, as polygons in the object's own frame.

Every outline has the area of the unit disc, so that an object's size means the same for every
shape and cannot give its class away.
"""

from __future__ import annotations

import math

import numpy as np


def disc(rng: np.random.Generator) -> np.ndarray:
    """A circle."""
    angles = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def square(rng: np.random.Generator) -> np.ndarray:
    """A square."""
    return np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])


def triangle(rng: np.random.Generator) -> np.ndarray:
    """An equilateral triangle around its centroid."""
    angles = -math.pi / 2 + np.arange(3) * 2 * math.pi / 3
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def star(rng: np.random.Generator) -> np.ndarray:
    """A five-pointed star, sharper or blunter."""
    angles = -math.pi / 2 + np.arange(10) * math.pi / 5
    radii = np.where(np.arange(10) % 2 == 0, 1.0, rng.uniform(0.38, 0.48))
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def cross(rng: np.random.Generator) -> np.ndarray:
    """A plus sign with thinner or thicker arms."""
    a = rng.uniform(0.26, 0.36)
    return np.array([
        (-a, -1.0), (a, -1.0), (a, -a), (1.0, -a), (1.0, a), (a, a),
        (a, 1.0), (-a, 1.0), (-a, a), (-1.0, a), (-1.0, -a), (-a, -a),
    ])  # fmt: skip


def blob(rng: np.random.Generator) -> np.ndarray:
    """A random smooth star-convex outline, the shape of no class."""
    angles = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    orders = np.arange(2, 6)
    waves = np.cos(orders[:, None] * angles + rng.uniform(0, 2 * math.pi, (4, 1)))
    radii = 1 + (rng.uniform(0, 0.55, (4, 1)) / orders[:, None] * waves).sum(axis=0)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


OUTLINES = {
    'disc': disc,
    'square': square,
    'triangle': triangle,
    'star': star,
    'cross': cross,
    'blob': blob,
}


def polygon_area(points: np.ndarray) -> float:
    """Area of a simple polygon by the shoelace formula.

    Args:
        points: (K, 2) vertices in order; the unit of the result is theirs squared.
    """
    x, y = points.T
    return 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))


def make_outline(shape: str, rng: np.random.Generator) -> np.ndarray:
    """Draws one outline of the named shape.

    Args:
        shape: A key of ``OUTLINES``.
        rng: Decides the small variations within a shape.

    Returns:
        (K, 2) vertices around the origin, enclosing the area of the unit disc (pi).

    Raises:
        KeyError: If there is no such shape.
    """
    points = OUTLINES[shape](rng)
    return points * math.sqrt(math.pi / polygon_area(points))
