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
            **(_patch_columns(row) if summary.has_patches else {}),
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


def format_by_patches(summary: Summary) -> str:
    """Return tables of the first metric by resolution and patch size, with the tokens and GFLOPs, as text."""
    metric, tables = summary.metrics[0], []
    by_model: dict[str, dict[tuple[int, str], str]] = {}
    for row in summary.rows:
        if (patches := row.patches) is not None:
            cell = f'{row.metrics[metric]:.2f} ({patches.tokens:.4g}, {row.gflops:.3f})'
            by_model.setdefault(patches.of_model, {})[row.resolution, patches.label] = cell
    for name, cells in by_model.items():
        labels = list(dict.fromkeys(label for _, label in cells))
        sides = sorted({side for side, _ in cells})
        lines = [[str(side), *(cells.get((side, label), '') for label in labels)] for side in sides]
        title = f'{name}: {metric} (tokens, GFLOPs) by resolution and patches'
        tables.append(f'{title}\n{table(["resolution", *labels], lines, markdown=False)}')
    return '\n\n'.join(tables)


def _patch_columns(row: Row) -> dict[str, object]:
    patches = row.patches
    if patches is None:
        return dict.fromkeys(('patch_size', 'wanted_tokens', 'tokens'), '')
    return {
        'patch_size': '' if patches.size is None else patches.size,
        'wanted_tokens': '' if patches.wanted is None else patches.wanted,
        'tokens': f'{patches.tokens:g}',
    }


def _file_size(row: Row) -> str:
    return '' if math.isnan(row.file_mib) else f'{row.file_mib:.2f}'
