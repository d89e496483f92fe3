"""Features of patches as colours: their principal components over several maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

COLOURS = 3
# Values beyond these percentiles have the darkest and the brightest colour.
RANGE = (1.0, 99.0)


@dataclass(frozen=True)
class PatchMap:
    """Features of the patches of one image at one resolution.

    Attributes:
        image: the image as the model sees it, RGB uint8 ``(h, w, 3)``.
        features: ``(H, W, C)``; patches whose tokens are merged have the features of the merged token.
        patch_size: side of a patch in pixels.
    """

    image: np.ndarray
    features: np.ndarray
    patch_size: int


@dataclass(frozen=True)
class Components:
    """Principal components.

    Attributes:
        mean: ``(C,)``.
        directions: unit vectors ``(C, K)``, the largest variance first.
        shares: share of the variance of each, ``(K,)``.
    """

    mean: np.ndarray
    directions: np.ndarray
    shares: np.ndarray

    def project(self, features: np.ndarray) -> np.ndarray:
        """Return the components of features, ``(..., C) -> (..., K)``."""
        return (features - self.mean) @ self.directions


def principal_components(parts: Sequence[np.ndarray], number: int = COLOURS) -> Components:
    """Return the principal components of features in several parts, each of which has the same weight.

    A map of many patches does not outweigh one of few. The largest entry of every direction is positive, so
    that colours do not depend on the signs that a solver happens to choose.

    Args:
        parts: features ``(N_i, C)``; parts without any are left out.
        number: number of components.

    Raises:
        ValueError: there are fewer features or channels than components, or all features are equal.
    """
    used = [np.asarray(part, np.float64) for part in parts if len(part)]
    total = sum(map(len, used))
    if not used or min(total, used[0].shape[1]) < number:
        raise ValueError(f'{total} patches are too few for {number} principal components')
    mean = np.mean([part.mean(axis=0) for part in used], axis=0)
    moment = np.mean([(part - mean).T @ (part - mean) / len(part) for part in used], axis=0)
    variances, directions = np.linalg.eigh(moment)
    variances, directions = variances[::-1].clip(0), directions[:, ::-1][:, :number]
    if not variances.sum() > 0:
        raise ValueError('the features of all patches are equal: there is nothing to draw')
    largest = np.abs(directions).argmax(axis=0)
    directions = directions * np.sign(directions[largest, np.arange(number)])
    return Components(mean, directions, variances[:number] / variances.sum())


def patch_colours(maps: Sequence[PatchMap], foreground: bool = False) -> tuple[list[np.ndarray], Components]:
    """Return the first three components of every patch as red, green and blue, from 0 to 1.

    The components are those of all maps together, and each is stretched over all maps: equal colours are
    equal features, at any resolution and in any image.

    Args:
        maps: the maps.
        foreground: leave out the background, which becomes black (0). It is the side of the first component
            of all patches that has the larger share of the patches at the borders of the maps. The colours
            are then the components of the other patches.

    Raises:
        ValueError: there are too few patches, or all are equal.
    """
    flat = [one.features.reshape(-1, one.features.shape[-1]) for one in maps]
    seen = [np.ones(len(part), bool) for part in flat]
    components = principal_components(flat)
    if foreground:
        seen = _foreground([components.project(part)[:, 0] for part in flat], maps)
        components = principal_components([part[mask] for part, mask in zip(flat, seen)])
    projected = [components.project(part) for part in flat]
    shown = np.concatenate([part[mask] for part, mask in zip(projected, seen)])
    low, high = np.percentile(shown, RANGE, axis=0)
    span = np.where(high > low, high - low, 1.0)
    colours = []
    for one, part, mask in zip(maps, projected, seen):
        scaled = ((part - low) / span).clip(0, 1)
        scaled[~mask] = 0
        colours.append(scaled.reshape(*one.features.shape[:2], COLOURS))
    return colours, components


def _foreground(values: Sequence[np.ndarray], maps: Sequence[PatchMap]) -> list[np.ndarray]:
    """Return which patches are on the side of the first component that is rarer at the borders."""
    positive = [part > 0 for part in values]
    borders = []
    for one, mask in zip(maps, positive):
        grid = mask.reshape(one.features.shape[:2])
        borders.append(np.concatenate([grid[0], grid[-1], grid[:, 0], grid[:, -1]]).mean())
    inside = np.mean([mask.mean() for mask in positive])
    return [~mask for mask in positive] if np.mean(borders) > inside else positive
