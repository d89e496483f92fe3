"""Creation and saving of figures, shared by the modules of this package."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from resformer_mm.picture_text import literal_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

PICTURE_SUFFIXES = ('.png', '.pdf', '.svg')


def check_picture_path(path: str | Path) -> Path:
    """Check the path of an image file that is to be written, and return it.

    Raises:
        ValueError: the image format is not supported, or the path is a folder.
    """
    path = Path(path)
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise ValueError(f'unsupported image format {path}: expected {", ".join(PICTURE_SUFFIXES)}')
    if path.is_dir():
        raise ValueError(f'{path} is a folder: give the name of an image file')
    return path


def new_figure(width: float, height: float) -> Figure:
    """Return a figure with a size in inches, which can be drawn without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def new_map_figure(rows: int, columns: int, title: str) -> tuple[Figure, np.ndarray, list[Axes]]:
    """Return a figure for heat maps, its panels (rows, columns), and the axes of each row's colour bar."""
    figure = new_figure(1.4 + 2.4 * columns, 0.5 + 2.8 * rows)
    widths = [1] * columns + [0.05]
    panels = figure.subplots(rows, columns + 1, squeeze=False, gridspec_kw=dict(width_ratios=widths))
    for axes in panels[:, :-1].flat:
        axes.tick_params(labelsize=7)
    if title:  # about 13 characters of this size per inch
        figure.suptitle(fill(title, int(13 * figure.get_figwidth())), fontsize=10)
    return figure, panels[:, :-1], list(panels[:, -1])


def add_colour_bar(drawn: AxesImage, axes: Axes, label: str, **style) -> None:
    """Draw the colour bar of a row of maps."""
    bar = axes.figure.colorbar(drawn, cax=axes, **style)
    bar.set_label(label, fontsize=8)
    axes.tick_params(labelsize=7)


def figure_pixels(figure: Figure) -> np.ndarray:
    """Return a figure as an RGB picture, ``(height, width, 3)`` uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    with literal_figure(figure):
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure in the format given by the suffix. Missing folders are created."""
    path = check_picture_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with literal_figure(figure):
        figure.savefig(path, dpi=150)
