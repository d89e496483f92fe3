"""CSV files and text tables of a sweep."""

from __future__ import annotations

import math
from pathlib import Path

from resformer_mm.files import write_csv
from resformer_mm.text import table

from .summary import COSTS, Row, Summary


def write_tables(summary: Summary, folder: Path) -> list[Path]:
    """Write ``sweep.csv``, one line per model and resolution, and ``cascade.csv`` if there are cascades."""
    written = [folder / 'sweep.csv']
    write_csv(written[0], table_rows(summary))
    if summary.cascades:
        written.append(folder / 'cascade.csv')
        rows = []
        for cascade in summary.cascades:
            rows.append(
                {
                    'model': cascade.model,
                    'cost': cascade.cost_name,
                    'mean_cost': f'{cascade.cost:.4f}',
                    'metric': cascade.metric,
                    'value': f'{cascade.value:.4f}',
                    'resolutions': ' '.join(map(str, cascade.rule.resolutions)),
                    'thresholds': ' '.join(f'{value:.4f}' for value in cascade.rule.thresholds),
                }
            )
        write_csv(written[1], rows)
    return written


def table_rows(summary: Summary) -> list[dict[str, object]]:
    """Return column -> value of every line of ``sweep.csv``."""
    return [
        {
            'model': row.model,
            'resolution': row.resolution,
            'trained_on': row.trained,
            **{name: f'{row.metrics[name]:.4f}' for name in summary.metrics},
            'gflops': f'{row.gflops:.4f}',
            'parameters': row.parameters,
            'latency_ms': f'{row.latency_ms:.3f}',
            'latency_ms_p10': f'{row.latency_low:.3f}',
            'latency_ms_p90': f'{row.latency_high:.3f}',
            'peak_memory_mib': '' if math.isnan(row.memory_mib) else f'{row.memory_mib:.2f}',
            **({'file_mib': _file_size(row)} if summary.has_exported else {}),
            'samples': summary.samples[row.model],
            **summary.conditions,
        }
        for row in summary.rows
    ]


def format_rows(summary: Summary) -> str:
    """Return the points as an aligned table for a terminal; ``*`` marks the Pareto front of each cost."""
    metric = summary.metrics[0]
    decimals = 4 if max(row.metrics[metric] for row in summary.rows) <= 1 else 2  # a fraction, or percent
    fronts = {cost: set(summary.front(metric, cost)) for cost in COSTS}
    header = ['model', 'resolution', metric, 'ms', 'p10-p90', 'GFLOPs', 'MiB', 'parameters']
    header += ['file (MiB)'] if summary.has_exported else []
    lines = []
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
                '' if math.isnan(row.memory_mib) else f'{row.memory_mib:.1f}{stars["memory_mib"]}',
                f'{row.parameters:,}',
                *([_file_size(row)] if summary.has_exported else []),
            ]
        )
    return table(header, lines, markdown=False)


def _file_size(row: Row) -> str:
    return '' if math.isnan(row.file_mib) else f'{row.file_mib:.2f}'
