"""Curves of a metric against the test resolution."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from resformer_mm.files import write_csv
from resformer_mm.picture_text import literal_figure
from resformer_mm.text import table

from .figures import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = 'osD^vP*X'


@dataclass
class ResolutionCurve:
    """The metric of one model at each resolution.

    Attributes:
        name: name of the model.
        values: resolution in pixels -> metric.
        trained_on: resolutions on which the model was trained, which are marked in tables and figures.
        errors: resolution -> standard error of the metric, where it is known; drawn as error bars.
    """

    name: str
    values: dict[int, float]
    trained_on: Sequence[int] = field(default_factory=tuple)
    errors: Mapping[int, float] = field(default_factory=dict)


def read_curve(path: str | Path, name: str, metric: str, trained_on: Sequence[int] = ()) -> ResolutionCurve:
    """Read the metrics that ``tools/test.py --resolutions ... --out FILE --out-item metrics`` wrote.

    Raises:
        ValueError: the file has no metric of that name at any resolution.
    """
    metrics = json.loads(Path(path).read_text())
    values = {}
    for key, value in metrics.items():
        resolution, _, rest = key.partition('/')
        if resolution.isdigit() and rest == metric:
            values[int(resolution)] = float(value)
    if not values:
        raise ValueError(f'{path} has no metric RESOLUTION/{metric}; its metrics are {sorted(metrics)}')
    return ResolutionCurve(name, dict(sorted(values.items())), tuple(trained_on))


def format_table(curves: Sequence[ResolutionCurve]) -> str:
    """Return a Markdown table: a row per model, a column per resolution; * marks trained resolutions."""
    resolutions = sorted({resolution for curve in curves for resolution in curve.values})
    rows = []
    for curve in curves:
        row = [curve.name]
        for resolution in resolutions:
            value = curve.values.get(resolution)
            star = '*' if resolution in curve.trained_on else ''
            row.append('' if value is None else f'{value:.1f}{star}')
        rows.append(row)
    return table(['model', *map(str, resolutions)], rows)


def write_curves(curves: Sequence[ResolutionCurve], path: str | Path, metric: str) -> None:
    """Write a CSV file with a line per model and resolution."""
    rows = [
        {
            'model': curve.name,
            'trained_on': ' '.join(map(str, curve.trained_on)),
            'test_resolution': resolution,
            metric: f'{value:.2f}',
        }
        for curve in curves
        for resolution, value in curve.values.items()
    ]
    write_csv(path, rows)


def plot_curves(curves: Sequence[ResolutionCurve], path: str | Path, ylabel: str, title: str = '') -> None:
    """Draw the curves and write the figure; filled markers are at the resolutions of training."""
    figure = new_figure(7, 4.5)
    axes = figure.add_subplot()
    draw_curves(curves, axes, ylabel)
    axes.set_title(title)
    with literal_figure(figure):
        figure.savefig(path, dpi=150)


def draw_curves(curves: Sequence[ResolutionCurve], axes: Axes, ylabel: str) -> None:
    """Draw the curves into matplotlib axes."""
    for curve, marker in zip(curves, MARKERS * len(curves)):
        x, y = list(curve.values), list(curve.values.values())
        (line,) = axes.plot(x, y, marker=marker, markerfacecolor='white', label=curve.name)
        trained = [resolution for resolution in x if resolution in curve.trained_on]
        at_trained = [curve.values[resolution] for resolution in trained]
        axes.plot(trained, at_trained, marker=marker, linestyle='', color=line.get_color())
        if known := [resolution for resolution in x if resolution in curve.errors]:
            axes.errorbar(
                known,
                [curve.values[resolution] for resolution in known],
                [curve.errors[resolution] for resolution in known],
                fmt='none',
                ecolor=line.get_color(),
                capsize=2,
            )
    axes.set_xlabel('test resolution (pixels); filled: trained on')
    axes.set_ylabel(ylabel)
    axes.set_xticks(sorted({resolution for curve in curves for resolution in curve.values}))
    axes.tick_params(axis='x', labelsize=8)
    axes.grid(alpha=0.3)
    axes.legend()
