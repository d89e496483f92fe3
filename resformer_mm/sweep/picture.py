"""Picture of a sweep."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from resformer_mm.analysis.resolution_curves import MARKERS, ResolutionCurve, draw_curves
from resformer_mm.picture_text import literal_figure

from .summary import COSTS, Summary


def draw_picture(summary: Summary, path: Path) -> None:
    """Draw the first metric against resolution, latency and GFLOPs as a PNG.

    The Pareto front of all single resolutions is a grey line behind the points; cascades are dashed.
    """
    metric = summary.metrics[0]
    figure = Figure(figsize=(16, 4.8), layout='constrained')
    FigureCanvasAgg(figure)
    first, *others = figure.subplots(1, 3)
    names = list(dict.fromkeys(row.model for row in summary.rows))
    curves = []
    for name in names:
        rows = [row for row in summary.rows if row.model == name]
        values = {row.resolution: row.metrics[metric] for row in rows}
        curves.append(ResolutionCurve(name, values, [row.resolution for row in rows if row.trained]))
    draw_curves(curves, first, metric)
    first.set_title('by test resolution')
    for axes, cost_name in zip(others, ('latency_ms', 'gflops')):
        _draw_cost(summary, axes, metric, cost_name, names)
    conditions = ', '.join(f'{name} {value}' for name, value in summary.conditions.items())
    figure.supxlabel(conditions, fontsize=8, color='grey')
    with literal_figure(figure):
        figure.savefig(path, dpi=150)


def _draw_cost(summary: Summary, axes: Axes, metric: str, cost_name: str, names: list[str]) -> None:
    front = [summary.rows[index] for index in summary.front(metric, cost_name)]
    x, y = [getattr(row, cost_name) for row in front], [row.metrics[metric] for row in front]
    axes.plot(x, y, color='0.8', linewidth=7, solid_capstyle='round', zorder=0, label='Pareto front')
    for number, name in enumerate(names):
        colour, marker = f'C{number}', MARKERS[number % len(MARKERS)]
        rows = [row for row in summary.rows if row.model == name]
        axes.plot(
            [getattr(row, cost_name) for row in rows],
            [row.metrics[metric] for row in rows],
            color=colour,
            marker=marker,
            markerfacecolor='white',
            label=name,
        )
        cascades = [
            row
            for row in summary.cascades
            if (row.model, row.cost_name, row.metric) == (name, cost_name, metric)
        ]
        if cascades:
            cascades.sort(key=lambda row: row.cost)
            x, y = [row.cost for row in cascades], [row.value for row in cascades]
            axes.plot(x, y, color=colour, linestyle='--', marker='.', alpha=0.7, label=f'{name}, cascade')
    for row in front:
        axes.annotate(
            str(row.resolution),
            (getattr(row, cost_name), row.metrics[metric]),
            textcoords='offset points',
            xytext=(3, -12),
            fontsize=7,
        )
    axes.set_xscale('log')
    low, high = axes.get_xlim()
    subs = (1, 2, 5) if high > 5 * low else (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f'{COSTS[cost_name]}, logarithmic')
    axes.set_ylabel(metric)
    axes.set_title(f'by {COSTS[cost_name].partition(" ")[0]}')
    axes.grid(alpha=0.3, which='both')
    axes.legend(fontsize=8)
