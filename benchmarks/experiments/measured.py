"""Measured metrics and times of an experiment, in CSV files that runs append to, and their tables."""

from __future__ import annotations

import csv
import fcntl
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from experiment import Experiment

from resformer_mm.analysis.resolution_curves import ResolutionCurve
from resformer_mm.files import csv_text
from resformer_mm.text import table

Row = Mapping[str, object]
COSTS_OF = ('variant', 'resolution', 'dtype', 'threads')
"""Columns of a cost that say what it is the cost of."""


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file; none if it does not exist."""
    if not path.exists():
        return []
    with open(path, newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def measured_rows(experiment: Experiment, results: Path, length: int | None = None) -> list[dict[str, str]]:
    """Return the measured metrics of an experiment, with those of variants that belong to others.

    The latter have their names in this experiment, and the resolutions of its tests.

    Args:
        experiment: the experiment.
        results: folder of the CSV files.
        length: that of the trainings; by default that of the experiment.
    """
    length = experiment.schedule.length if length is None else length
    files: dict[Path, list[dict[str, str]]] = {}
    found = []
    for name in experiment.tested:
        key = experiment.key(name)
        path = results / key.owner.metrics_file
        rows = files[path] if path in files else files.setdefault(path, read_rows(path))
        wanted = {'variant': key.variant, key.schedule.column: str(key.trained.length(length))}
        found += [
            dict(row, variant=name)
            for row in rows
            if wanted.items() <= row.items()
            and (key.experiment == experiment.name or int(row['resolution']) in experiment.resolutions)
        ]
    return found


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
            raise ValueError(f'{path} has the columns {found}, not {header}: name another file')
        file.write(lines if found else f'{header}\r\n{lines}')


def has_row(rows: Iterable[Mapping[str, str]], identity: Row) -> bool:
    """Return whether there is a row with some values."""
    wanted = {name: str(value) for name, value in identity.items()}
    return any(wanted.items() <= row.items() for row in rows)


def on_the_same_images(rows: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Return the rows that have, at each resolution, the number of images that most of them have.

    Args:
        rows: those of the metric.
    """
    numbers = images_at(rows)
    return [row for row in rows if int(row['images']) == numbers[int(row['resolution'])]]


def images_at(rows: Sequence[Mapping[str, str]]) -> dict[int, int]:
    """Return resolution -> number of test images that most rows have; of two as frequent, the larger."""
    found: dict[int, Counter[int]] = {}
    for row in rows:
        found.setdefault(int(row['resolution']), Counter())[int(row['images'])] += 1
    return {
        resolution: max(counts, key=lambda number: (counts[number], number))
        for resolution, counts in sorted(found.items())
    }


def caption(rows: Sequence[Mapping[str, str]]) -> str:
    """Return a sentence that says on how many images the rows were tested."""
    sizes: dict[int, list[int]] = {}
    for resolution, number in images_at(rows).items():
        sizes.setdefault(number, []).append(resolution)
    parts = [f'{number} at {", ".join(map(str, found))} pixels' for number, found in sizes.items()]
    return f'Test images: {"; ".join(parts)}.'


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


def values_of_seeds(rows: Iterable[Mapping[str, str]], column: str) -> dict[str, dict[int, dict[str, float]]]:
    """Return variant -> resolution -> seed -> value.

    Args:
        rows: those of the metric.
        column: name of the metric.
    """
    found: dict[str, dict[int, dict[str, float]]] = {}
    for row in rows:
        at_resolution = found.setdefault(row['variant'], {}).setdefault(int(row['resolution']), {})
        at_resolution[row['seed']] = float(row[column])
    return found


def metric_table(
    experiment: Experiment,
    rows: Iterable[Mapping[str, str]],
    names: Sequence[str],
    column: str,
    baseline: str | None = None,
) -> str:
    """Return a Markdown table of a metric: a row per variant, a column per test resolution.

    A cell has the mean of the seeds, and the standard error of the mean if there are at least two. A star
    marks resolutions of the training.

    Args:
        experiment: the experiment.
        rows: those of the metric.
        names: variants in their order; those without rows are left out.
        column: name of the metric.
        baseline: variant to subtract, seed by seed; None for the metric itself.
    """
    found = values_of_seeds(rows, column)
    if baseline is not None:
        reference = found.get(baseline, {})
        found = {
            name: {
                resolution: {
                    seed: value - reference[resolution][seed]
                    for seed, value in values.items()
                    if seed in reference.get(resolution, {})
                }
                for resolution, values in by_resolution.items()
            }
            for name, by_resolution in found.items()
            if name != baseline
        }
    names = [name for name in names if name in found]
    resolutions = sorted({resolution for name in names for resolution in found[name]})
    lines = []
    for name in names:
        variant, by_resolution = experiment.variants[name], found[name]
        seeds = sorted({len(values) for values in by_resolution.values()})
        cells = []
        for resolution in resolutions:
            star = '*' if resolution in variant.trained_on else ''
            sign = '+' if baseline is not None else ''
            cells.append(_cell(list(by_resolution.get(resolution, {}).values()), sign, star))
        lines.append([f'`{name}`', variant.title, '-'.join(map(str, seeds)), *cells])
    return table(['variant', 'model', 'seeds', *map(str, resolutions)], lines)


def _cell(values: Sequence[float], sign: str, star: str) -> str:
    if not values:
        return ''
    mean = f'{statistics.fmean(values):{sign}.1f}{star}'
    return mean if len(values) == 1 else f'{mean} ± {standard_error(values):.1f}'


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean of at least two values."""
    return statistics.stdev(values) / len(values) ** 0.5


def cost_table(
    experiment: Experiment, rows: Iterable[Mapping[str, str]], names: Sequence[str], column: str
) -> str:
    """Return a Markdown table of one of the costs: a row per variant, a column per resolution.

    Args:
        experiment: the experiment.
        rows: those of the costs, of one type and number of threads.
        names: variants in their order; those without rows are left out.
        column: 'gflops', 'mib' or 'ms'.
    """
    found: dict[str, dict[int, str]] = {}
    for row in rows:
        found.setdefault(row['variant'], {})[int(row['resolution'])] = row[column]
    names = [name for name in names if name in found]
    resolutions = sorted({resolution for name in names for resolution in found[name]})
    lines = [
        [f'`{name}`', experiment.variants[name].title, *(found[name].get(size, '') for size in resolutions)]
        for name in names
    ]
    return table(['variant', 'model', *map(str, resolutions)], lines)


def mean_curves(
    experiment: Experiment, rows: Iterable[Mapping[str, str]], names: Sequence[str], column: str
) -> list[ResolutionCurve]:
    """Return the means of the seeds of a metric, with standard errors where there are two seeds or more.

    Arguments are those of :func:`metric_table`.
    """
    found = values_of_seeds(rows, column)
    return [
        ResolutionCurve(
            f'{name}: {experiment.variants[name].title}',
            {size: statistics.fmean(values.values()) for size, values in sorted(found[name].items())},
            experiment.variants[name].trained_on,
            {
                size: standard_error(list(values.values()))
                for size, values in found[name].items()
                if len(values) > 1
            },
        )
        for name in names
        if name in found
    ]
