"""Outlines of synthetic objects, as polygons in the coordinates of the object.

Every outline has the area of the unit disc, so that size has the same meaning for every shape and does not
reveal the class.
"""

from __future__ import annotations

import math

import numpy as np


def disc(rng: np.random.Generator) -> np.ndarray:
    """Return a circle."""
    angles = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def square(rng: np.random.Generator) -> np.ndarray:
    """Return a square."""
    return np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])


def triangle(rng: np.random.Generator) -> np.ndarray:
    """Return an equilateral triangle around its centroid."""
    angles = -math.pi / 2 + np.arange(3) * 2 * math.pi / 3
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def star(rng: np.random.Generator) -> np.ndarray:
    """Return a five-pointed star of random sharpness."""
    angles = -math.pi / 2 + np.arange(10) * math.pi / 5
    radii = np.where(np.arange(10) % 2 == 0, 1.0, rng.uniform(0.38, 0.48))
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def cross(rng: np.random.Generator) -> np.ndarray:
    """Return a plus sign with arms of random thickness."""
    a = rng.uniform(0.26, 0.36)
    return np.array([
        (-a, -1.0), (a, -1.0), (a, -a), (1.0, -a), (1.0, a), (a, a),
        (a, 1.0), (-a, 1.0), (-a, a), (-1.0, a), (-1.0, -a), (-a, -a),
    ])  # fmt: skip


def blob(rng: np.random.Generator) -> np.ndarray:
    """Return a random smooth star-convex outline, which is not the shape of any class."""
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
    """Return the area of a simple polygon, by the shoelace formula.

    Args:
        points: (K, 2) vertices in order; the area is in their unit squared.
    """
    x, y = points.T
    return 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))


def make_outline(shape: str, rng: np.random.Generator) -> np.ndarray:
    """Draw a random outline of the named shape.

    Args:
        shape: A key of ``OUTLINES``.
        rng: Source of the small variations within a shape.

    Returns:
        (K, 2) vertices around the origin, enclosing the area of the unit disc (pi).

    Raises:
        KeyError: If the shape is unknown.
    """
    points = OUTLINES[shape](rng)
    return points * math.sqrt(math.pi / polygon_area(points))
