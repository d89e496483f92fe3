"""Figures of attention and feature similarity in an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .attention_maps import ImageMaps
from .figures import add_colour_bar, new_map_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage


def plot_image_maps(
    columns: Sequence[ImageMaps], path: str | Path, attention_of: str, title: str = ''
) -> None:
    """Draw the image, the attention and the feature similarity as three rows, one column per resolution.

    The maps are drawn over the image in light grey. Each row has one colour scale for all resolutions. The
    scale of the attention is logarithmic, because a few tokens get most of it, especially among many tokens.

    Args:
        columns: maps of each resolution.
        path: the image file.
        attention_of: the query of the attention, e.g. 'class token'.
        title: title of the figure.
    """
    from matplotlib.colors import LogNorm, Normalize

    figure, panels, bars = new_map_figure(3, len(columns), title)
    bars[0].axis('off')
    for column, axes in zip(columns, panels[0]):
        height, width = column.image.shape[:2]
        rows, columns_of_patches = column.attention.shape
        token_rows, token_columns = column.tokens
        axes.imshow(column.image, extent=(0, width, height, 0), interpolation='nearest')
        axes.set(xlim=(0, columns_of_patches * column.patch_size), ylim=(rows * column.patch_size, 0))
        axes.set_title(f'{height} × {width} px\n{token_rows} × {token_columns} tokens', fontsize=9)
    highest = max(column.attention.max() for column in columns)
    scale: Normalize = LogNorm(0.1, max(10, highest), clip=True)
    for column, axes in zip(columns, panels[1]):
        drawn = _draw_over(axes, column, column.attention, cmap='inferno', norm=scale)
    label = f'attention of the {attention_of}\n(1: uniform)'
    add_colour_bar(drawn, bars[1], label, extend='min', format='%g')
    scale = Normalize(min(column.similarity.min() for column in columns), 1)
    for column, axes in zip(columns, panels[2]):
        drawn = _draw_over(axes, column, column.similarity, cmap='viridis', norm=scale)
    add_colour_bar(drawn, bars[2], 'cosine similarity of features\nto those at the cross')
    for axes in panels[:, 0]:
        axes.set_ylabel('y (pixels)', fontsize=8)
    for axes in panels[-1]:
        axes.set_xlabel('x (pixels)', fontsize=8)
    save_figure(figure, path)


def _draw_over(axes: Axes, column: ImageMaps, values: np.ndarray, **style) -> AxesImage:
    """Draw a map over the image, with a cross at the point."""
    height, width = column.image.shape[:2]
    rows, columns = (side * column.patch_size for side in values.shape)
    # Half white, to keep the colours of the map close to those of the colour bar.
    faint = 0.5 + 0.5 * column.image.mean(axis=2) / 255
    axes.imshow(faint, extent=(0, width, height, 0), cmap='gray', vmin=0, vmax=1)
    drawn = axes.imshow(values, extent=(0, columns, rows, 0), alpha=0.75, interpolation='nearest', **style)
    axes.plot(*column.point, marker='+', color='red', markersize=10, markeredgewidth=1.5)
    return drawn
