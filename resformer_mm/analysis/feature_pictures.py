"""Figures of patch features as colours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .figures import new_map_figure, save_figure
from .patch_colours import PatchMap, patch_colours


def plot_patch_colours(
    rows: Sequence[Sequence[PatchMap]], path: str | Path, title: str = '', foreground: bool = False
) -> None:
    """Draw images, and beside them the colours of their patches, one column per resolution.

    Args:
        rows: for each image its maps, one per resolution. The image is drawn at the largest.
        path: the image file.
        title: title of the figure.
        foreground: whether to leave out the background; see
            :func:`~resformer_mm.analysis.patch_colours.patch_colours`.

    Raises:
        ValueError: there are too few patches, or all are equal.
    """
    colours, components = patch_colours([one for row in rows for one in row], foreground)
    shares = ', '.join(f'{100 * share:.0f}' for share in components.shares)
    kind = 'of the foreground' if foreground else 'of the patches'
    subtitle = f'red, green, blue: principal components {kind}, {shares} % of the variance'
    heading = f'{title}: {subtitle}' if title else subtitle
    figure, panels, bars = new_map_figure(len(rows), 1 + len(rows[0]), heading)
    for axes in [*panels.flat, *bars]:
        axes.axis('off')
    drawn = iter(colours)
    for row, line in zip(rows, panels):
        largest = max(row, key=lambda one: one.image.shape[0] * one.image.shape[1])
        line[0].imshow(largest.image, interpolation='nearest')
        for one, axes in zip(row, line[1:]):
            height, width = one.image.shape[:2]
            patches = next(drawn)
            axes.imshow(patches, interpolation='nearest')
            axes.set_title(f'{height} × {width} px, {patches.shape[0]} × {patches.shape[1]}', fontsize=8)
    save_figure(figure, path)
