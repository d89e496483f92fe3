"""Pictures of diagnoses of classifiers at several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .figures import new_figure, save_figure
from .resolution_curves import ResolutionCurve, draw_curves
from .size_causes import CAUSES
from .size_diagnosis import Diagnosis, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ('tab:purple', 'tab:orange', 'tab:blue', 'tab:green')
"""Of the causes."""


def draw_diagnoses(diagnoses: Sequence[Diagnosis], folder: Path) -> list[Path]:
    """Draw the parts that were measured, a picture each, and return the files."""
    drawings = dict(
        causes=draw_causes, calibration=draw_calibration, attention=draw_attention, features=draw_features
    )
    written = []
    for part, draw in drawings.items():
        measured = [one for one in diagnoses if one.rows.get(part)]
        if measured:
            written.append(folder / f'{part}.png')
            draw(measured, written[-1])
    return written


def draw_causes(diagnoses: Sequence[Diagnosis], path: Path) -> None:
    """Draw the points lost to each cause, stacked, a panel per model; dots are their sums."""
    figure = new_figure(0.8 + 3.4 * len(diagnoses), 4)
    panels = figure.subplots(1, len(diagnoses), sharey=True, squeeze=False)[0]
    for axes, one in zip(panels, diagnoses):
        rows = one.rows['causes']
        places = range(len(rows))
        up, down = [0.0] * len(rows), [0.0] * len(rows)
        for cause, colour in zip(CAUSES, COLOURS):
            values = [row[cause.replace(' ', '_')] for row in rows]
            starts = [up[i] if value >= 0 else down[i] for i, value in enumerate(values)]
            axes.bar(places, values, bottom=starts, color=colour, label=cause, width=0.7)
            for i, value in enumerate(values):
                if value >= 0:
                    up[i] += value
                else:
                    down[i] += value
        sums = [row['loss'] for row in rows]
        axes.plot(places, sums, 'o', color='black', markersize=5, label='sum: loss of accuracy')
        axes.axhline(0, color='black', linewidth=0.8)
        axes.set_xticks(list(places), [_size_label(one, row['resolution']) for row in rows])
        axes.set_title(one.name, fontsize=10)
        axes.set_xlabel(f'test resolution (pixels; * trained on)\ncompared with {one.reference}')
        axes.grid(alpha=0.3, axis='y')
    panels[0].set_ylabel('points of accuracy lost')
    figure.legend(*panels[0].get_legend_handles_labels(), loc='outside lower center', ncols=5, fontsize=8)
    save_figure(figure, path)


def draw_calibration(diagnoses: Sequence[Diagnosis], path: Path) -> None:
    """Draw the calibration error, and by how much the confidence exceeds the accuracy, by resolution."""
    figure = new_figure(10, 4)
    panels = figure.subplots(1, 2)
    labels = ('expected calibration error (points)', 'mean confidence less accuracy (points)')
    for axes, label in zip(panels, labels):
        curves = []
        for one in diagnoses:
            rows = one.rows['calibration']
            values = {
                row['resolution']: row['ece'] if axes is panels[0] else row['confidence'] - row['accuracy']
                for row in rows
            }
            curves.append(ResolutionCurve(one.name, values, one.trained_on))
        draw_curves(curves, axes, label)
    panels[1].axhline(0, color='black', linewidth=0.8)
    save_figure(figure, path)


def draw_attention(diagnoses: Sequence[Diagnosis], path: Path) -> None:
    """Draw the entropy of the attention by block, a column per model; lines are means, dots are heads."""
    _draw_by_block(diagnoses, 'attention', 'query', 'entropy', 'entropy / log N', path)


def draw_features(diagnoses: Sequence[Diagnosis], path: Path) -> None:
    """Draw the likeness of the features to those at the reference by block, a column per model."""
    _draw_by_block(diagnoses, 'features', 'part', 'cka', 'CKA with the reference', path)


def _draw_by_block(
    diagnoses: Sequence[Diagnosis], part: str, kind: str, value: str, label: str, path: Path
) -> None:
    """Draw a value by block, a line per resolution, a row of panels for each kind."""
    kinds = list(dict.fromkeys(row[kind] for one in diagnoses for row in one.rows[part]))
    figure = new_figure(0.8 + 3.2 * len(diagnoses), 0.6 + 2.8 * len(kinds))
    panels = figure.subplots(len(kinds), len(diagnoses), sharex=True, sharey=True, squeeze=False)
    for column, one in zip(panels.T, diagnoses):
        for axes, name in zip(column, kinds):
            _draw_blocks(axes, one, [row for row in one.rows[part] if row[kind] == name], value)
            axes.set_title(f'{one.name}: {name}', fontsize=9)
            axes.grid(alpha=0.3)
        column[-1].set_xlabel('block')
    for axes in panels[:, 0]:
        axes.set_ylabel(label)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, title='pixels', loc='outside lower center', ncols=min(8, len(labels)), fontsize=8
    )
    save_figure(figure, path)


def _draw_blocks(axes: Axes, one: Diagnosis, rows: Sequence[Row], value: str) -> None:
    from matplotlib import colormaps

    sides = sorted({row['resolution'] for row in rows})
    for index, side in enumerate(sides):
        colour = colormaps['viridis'](index / max(1, len(sides) - 1) * 0.9)
        of_block: dict[int, list[float]] = {}
        for row in rows:
            if row['resolution'] == side:
                of_block.setdefault(row['block'], []).append(row[value])
        means = [sum(values) / len(values) for values in of_block.values()]
        axes.plot(list(of_block), means, color=colour, label=str(side))  # trained sizes differ by model
        for block, values in of_block.items():
            if len(values) > 1:
                axes.plot([block] * len(values), values, '.', color=colour, markersize=3, alpha=0.6)


def _size_label(one: Diagnosis, side: int) -> str:
    return f'{side}*' if side in one.trained_on else str(side)
