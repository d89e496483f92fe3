"""A sweep as CSV files and as text."""

from __future__ import annotations

import csv
from pathlib import Path

from .summary import COSTS, Summary


def write_tables(summary: Summary, folder: Path) -> list[Path]:
    """Write ``sweep.csv``, a line per model and resolution, and ``cascade.csv`` if there are cascades."""
    written = [folder / 'sweep.csv']
    with open(written[0], 'w', newline='') as file:
        writer = csv.writer(file)
        header = ['model', 'resolution', 'trained_on', *summary.metrics, 'gflops', 'parameters']
        header += ['latency_ms', 'latency_ms_p10', 'latency_ms_p90', 'peak_memory_mib', 'samples']
        writer.writerow([*header, *summary.conditions])
        for row in summary.rows:
            cells = [row.model, row.resolution, row.trained]
            cells += [f'{row.metrics[name]:.4f}' for name in summary.metrics]
            cells += [f'{row.gflops:.4f}', row.parameters]
            cells += [f'{value:.3f}' for value in (row.latency_ms, row.latency_low, row.latency_high)]
            cells += [f'{row.memory_mib:.2f}', summary.samples[row.model]]
            writer.writerow([*cells, *summary.conditions.values()])
    if summary.cascades:
        written.append(folder / 'cascade.csv')
        with open(written[1], 'w', newline='') as file:
            writer = csv.writer(file)
            writer.writerow(['model', 'cost', 'mean_cost', 'metric', 'value', 'resolutions', 'thresholds'])
            for row in summary.cascades:
                thresholds = ' '.join(f'{value:.4f}' for value in row.rule.thresholds)
                cells = [row.model, row.cost_name, f'{row.cost:.4f}', row.metric, f'{row.value:.4f}']
                writer.writerow([*cells, ' '.join(map(str, row.rule.resolutions)), thresholds])
    return written


def format_rows(summary: Summary) -> str:
    """Return the points as an aligned table for a terminal; ``*`` marks the Pareto front of each cost."""
    metric = summary.metrics[0]
    decimals = 4 if max(row.metrics[metric] for row in summary.rows) <= 1 else 2  # a fraction, or percent
    fronts = {cost: set(summary.front(metric, cost)) for cost in COSTS}
    lines = [['model', 'resolution', metric, 'ms', 'p10-p90', 'GFLOPs', 'MiB', 'parameters']]
    for index, row in enumerate(summary.rows):
        stars = {cost: '*' if index in front else '' for cost, front in fronts.items()}
        lines.append(
            [
                row.model,
                str(row.resolution),
                f'{row.metrics[metric]:.{decimals}f}',
                f'{row.latency_ms:.2f}{stars["latency_ms"]}',
                f'{row.latency_low:.2f}-{row.latency_high:.2f}',
                f'{row.gflops:.3f}{stars["gflops"]}',
                f'{row.memory_mib:.1f}{stars["memory_mib"]}',
                f'{row.parameters:,}',
            ]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return '\n'.join(
        '  '.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines
    )
