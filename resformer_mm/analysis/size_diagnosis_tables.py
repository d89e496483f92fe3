"""Tables of diagnoses of classifiers at several sizes, as CSV files and text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from resformer_mm.files import write_csv
from resformer_mm.text import table

from .size_causes import CAUSES, KERNELS
from .size_diagnosis import PARTS, Diagnosis, Row


def write_tables(diagnoses: Sequence[Diagnosis], folder: Path) -> list[Path]:
    """Write a CSV file for each part that was measured, with a line per row, and return the files."""
    written = []
    for part in PARTS:
        rows = [row for one in diagnoses for row in one.rows.get(part, ())]
        if rows:
            written.append(folder / f'{part}.csv')
            write_csv(written[-1], [{name: _rounded(value) for name, value in row.items()} for row in rows])
    return written


def format_tables(diagnoses: Sequence[Diagnosis]) -> str:
    """Return tables of the causes and the calibration, and means over blocks and heads of the rest."""
    texts = []
    for part, text_of in (('causes', _causes), ('calibration', _calibration), ('attention', _attention)):
        if rows := [row for one in diagnoses for row in one.rows.get(part, ())]:
            texts.append(text_of(rows))
    if rows := [row for one in diagnoses for row in one.rows.get('features', ())]:
        texts.append(_features(rows))
    return '\n\n'.join(texts)


def _causes(rows: Sequence[Row]) -> str:
    header = ['model', 'size', 'compared with', 'loss', *CAUSES, f'accuracy, {KERNELS}', '... itself']
    cells = []
    for row in rows:
        parts = [name.replace(' ', '_') for name in CAUSES]
        itself = row['accuracy_small' if row['resolution'] < row['reference'] else 'accuracy_large']
        kernels = row[f'accuracy_{KERNELS}']
        cells.append(
            [row['model'], row['resolution'], row['reference'], f'{row["loss"]:+.1f}']
            + [f'{row[name]:+.1f} ± {row[f"{name}_error"]:.1f}' for name in parts]
            + ['' if kernels == '' else f'{kernels:.1f}', f'{itself:.1f}']
        )
    return 'Points of accuracy lost, by cause:\n' + table(header, cells)


def _calibration(rows: Sequence[Row]) -> str:
    names = ('accuracy', 'confidence', 'ece', 'scaled_ece', 'temperature', 'nll')
    header = ['model', 'size', 'accuracy', 'confidence', 'ECE', 'ECE, scaled', 'temperature', 'NLL']
    cells = [
        [
            row['model'],
            row['resolution'],
            *(f'{row[name]:.{2 if name in names[4:] else 1}f}' for name in names),
        ]
        for row in rows
    ]
    return 'Calibration:\n' + table(header, cells)


def _attention(rows: Sequence[Row]) -> str:
    means = _means(rows, ('model', 'resolution', 'query'), 'entropy')
    cells = [[*key, f'{value:.3f}'] for key, value in means.items()]
    return 'Entropy of the attention over log N, mean of blocks and heads:\n' + table(
        ['model', 'size', 'attention of', 'entropy / log N'], cells
    )


def _features(rows: Sequence[Row]) -> str:
    last = max(row['block'] for row in rows)
    cells = [
        [row['model'], row['resolution'], row['part']]
        + [f'{row[name]:.3f}' for name in ('cosine', 'other_images', 'cka')]
        for row in rows
        if row['block'] == last
    ]
    header = ['model', 'size', 'part', 'cosine', '... of other images', 'CKA']
    return 'Features of the last block, compared with the reference:\n' + table(header, cells)


def _means(rows: Sequence[Row], names: tuple[str, ...], value: str) -> dict[tuple, float]:
    groups: dict[tuple, list[float]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row[value])
    return {key: sum(values) / len(values) for key, values in groups.items()}


def _rounded(value: object) -> object:
    return round(value, 4) if isinstance(value, float) else value
