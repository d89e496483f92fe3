"""Measured accuracies and times of the comparison over all test sizes, in CSV files that runs append to."""

from __future__ import annotations

import csv
import fcntl
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from every_size_variants import VARIANTS

from resformer_mm.files import csv_text
from resformer_mm.text import table

Row = Mapping[str, object]


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file; none if it does not exist."""
    if not path.exists():
        return []
    with open(path, newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def append_rows(path: Path, rows: Sequence[Row]) -> None:
    """Append rows to a CSV file, with a header if it is new; several processes may do so at once.

    Raises:
        ValueError: the file has other columns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    header, _, lines = csv_text(rows).partition('\r\n')
    with open(path, 'a+', newline='', encoding='utf-8') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        found = file.readline().rstrip('\r\n')
        if found and found != header:
            raise ValueError(
                f'{path} has the columns {found}, and {header} shall be added: name another --out'
            )
        file.write(lines if found else f'{header}\r\n{lines}')


def missing_resolutions(
    rows: Iterable[Mapping[str, str]], identity: Row, resolutions: Sequence[int]
) -> list[int]:
    """Return the resolutions at which a model was not tested.

    Args:
        rows: those of the accuracies.
        identity: values that the rows of the model have.
        resolutions: wanted resolutions.
    """
    tested = {int(row['resolution']) for row in rows if _has(row, identity)}
    return [resolution for resolution in resolutions if resolution not in tested]


def _has(row: Mapping[str, str], identity: Row) -> bool:
    return all(row[name] == str(value) for name, value in identity.items())


def expected_seconds(
    rows: Iterable[Mapping[str, str]], variant: str, part: str, amount: float
) -> float | None:
    """Return how long a part of a run will take, by those that were measured; None if none was.

    The rate is the median of the variant, or the slowest of all variants if it was not measured itself.

    Args:
        rows: those of the times.
        variant: name of the variant.
        part: 'training' or 'test'.
        amount: work in the unit of the column ``amount``.
    """
    rates: dict[str, list[float]] = {}
    for row in rows:
        if row['part'] == part and float(row['amount']):
            rates.setdefault(row['variant'], []).append(float(row['seconds']) / float(row['amount']))
    if not rates:
        return None
    medians = {name: statistics.median(found) for name, found in rates.items()}
    return amount * medians.get(variant, max(medians.values()))


def accuracy_table(rows: Iterable[Mapping[str, str]], variants: Sequence[str] | None = None) -> str:
    """Return a Markdown table of top-1 in %: a row per variant, a column per test resolution.

    A cell has the mean of the seeds, and the standard error of the mean if there are at least two. A star
    marks resolutions of the training.

    Args:
        rows: those of the accuracies.
        variants: names of the variants in their order; by default all that have rows.
    """
    found: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        values = found.setdefault(row['variant'], {}).setdefault(int(row['resolution']), [])
        values.append(float(row['top1']))
    names = [name for name in variants or VARIANTS if name in found]
    resolutions = sorted({resolution for name in names for resolution in found[name]})
    lines = []
    for name in names:
        variant, values = VARIANTS[name], found[name]
        seeds = sorted({len(tops) for tops in values.values()})
        lines.append(
            [
                f'`{name}`',
                variant.title,
                '-'.join(map(str, seeds)),
                *(
                    _cell(values.get(resolution, []), resolution in variant.trained_on)
                    for resolution in resolutions
                ),
            ]
        )
    return table(['variant', 'model', 'seeds', *map(str, resolutions)], lines)


def _cell(values: Sequence[float], is_trained: bool) -> str:
    if not values:
        return ''
    star = '*' if is_trained else ''
    mean = f'{statistics.fmean(values):.1f}{star}'
    return mean if len(values) == 1 else f'{mean} ± {statistics.stdev(values) / len(values) ** 0.5:.1f}'
