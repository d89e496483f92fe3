"""What MMEngine's backends do not offer: charts over resolutions, tables, and pictures under fitting names.

Nothing is written by the local backend. With several processes, call these functions in the first one alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from mmengine.visualization import (
    LocalVisBackend,
    MLflowVisBackend,
    TensorboardVisBackend,
    Visualizer,
    WandbVisBackend,
)
from mmengine.visualization.vis_backend import BaseVisBackend

from resformer_mm.files import csv_text
from resformer_mm.text import table


def trackers_of(visualizer: Visualizer) -> list[BaseVisBackend]:
    """Return the backends of a visualizer but for the local one."""
    backends = visualizer._vis_backends.values()
    return [backend for backend in backends if not isinstance(backend, LocalVisBackend)]


def log_picture(visualizer: Visualizer, name: str, pixels: np.ndarray, step: int) -> None:
    """Log an RGB picture, ``(height, width, 3)`` uint8."""
    for backend in trackers_of(visualizer):
        # MLflow stores files by their name, and needs a suffix.
        is_file = isinstance(backend, MLflowVisBackend)
        backend.add_image(f'{name}/{step:06d}.png' if is_file else name, pixels, step)


def log_table(visualizer: Visualizer, name: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Log a table, in TensorBoard, Weights & Biases and MLflow.

    Args:
        visualizer: the visualizer.
        name: name of the table.
        rows: column -> value of every row.
    """
    header = list(rows[0])
    cells = [[row[column] for column in header] for row in rows]
    for backend in trackers_of(visualizer):
        if isinstance(backend, TensorboardVisBackend):
            backend.experiment.add_text(name, table(header, cells))
        elif isinstance(backend, WandbVisBackend):
            wandb = backend.experiment
            texts = [[str(cell) for cell in row] for row in cells]
            wandb.log({name: wandb.Table(columns=header, data=texts)})
        elif isinstance(backend, MLflowVisBackend):
            backend.experiment.log_text(csv_text(rows), f'{name}.csv')


def log_by_resolution(visualizer: Visualizer, name: str, values: Mapping[int, float]) -> None:
    """Log a curve over the resolution: a scalar whose step is the resolution, in Weights & Biases a chart."""
    resolutions = sorted(values)
    for backend in trackers_of(visualizer):
        if isinstance(backend, WandbVisBackend):
            wandb = backend.experiment
            points = [[resolution, values[resolution]] for resolution in resolutions]
            data = wandb.Table(columns=['resolution', name], data=points)
            wandb.log({name: wandb.plot.line(data, 'resolution', name, title=name)})
        else:
            for resolution in resolutions:
                backend.add_scalar(name, values[resolution], resolution)


def log_history(
    visualizer: Visualizer, name: str, steps: Sequence[int], values: Mapping[str, Sequence[float]]
) -> None:
    """Log curves over time as one chart, in Weights & Biases, where a chart of logged values has one alone.

    Args:
        visualizer: the visualizer.
        name: name of the chart.
        steps: epochs or iterations.
        values: name of a curve -> its value at every step.
    """
    for backend in trackers_of(visualizer):
        if isinstance(backend, WandbVisBackend):
            wandb = backend.experiment
            chart = wandb.plot.line_series(
                steps, list(values.values()), list(values), title=name, xname='step'
            )
            wandb.log({name: chart})


def log_layout(visualizer: Visualizer, names: Iterable[str]) -> None:
    """Show scalars that differ in the resolution as one chart, on TensorBoard's page "Custom Scalars".

    Args:
        visualizer: the visualizer.
        names: names of scalars, e.g. 'loss_cls_224' and '224/accuracy/top1'.
    """
    metrics, losses = {}, {}
    for name in names:
        first, _, rest = name.partition('/')
        if first.isdigit():
            metrics[rest] = ['Multiline', [rf'^(\d+|mean)/{re.escape(rest)}$']]
        elif found := re.fullmatch(r'(.+)_(\d+|\d+x\d+)', name):
            losses[found[1]] = ['Multiline', [rf'^{re.escape(found[1])}_[\dx]+$']]
    layout = {'metrics by resolution': metrics, 'losses by resolution': losses}
    layout = {title: charts for title, charts in layout.items() if charts}
    for backend in trackers_of(visualizer):
        if layout and isinstance(backend, TensorboardVisBackend):
            backend.experiment.add_custom_scalars(layout)
