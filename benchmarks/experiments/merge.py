"""Add results of experiments from other machines to those in a folder.

    python benchmarks/experiments/merge.py OTHER... --results benchmarks/results

OTHER is a folder of CSV files, such as the ``--results`` of run.py on another machine. Rows that the folder
does not have are appended. Where both measured the same with another outcome, the row of the folder stays.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from experiment import Experiment, experiment_names, find_experiment
from measured import COSTS_OF, append_rows, read_rows
from run import RESULTS


def mergeable(experiment: Experiment, folder: Path) -> Iterator[tuple[str, Sequence[str] | None]]:
    """Yield the names of the files of an experiment, and the columns that say what a row is; None for all.

    Args:
        experiment: the experiment.
        folder: folder of the files.
    """
    yield experiment.metrics_file, ('variant', 'seed', 'resolution', 'images', experiment.schedule.column)
    yield experiment.times_file, None
    for path in sorted(folder.glob(f'{experiment.name}_costs_*.csv')):
        yield path.name, COSTS_OF


def merge_file(source: Path, target: Path, columns: Sequence[str] | None) -> tuple[int, int]:
    """Append the rows of a file that another one lacks; return their number, and that of other outcomes.

    Args:
        source: the file that is read.
        target: the file that is written.
        columns: those that say what a row measures; None for all.

    Raises:
        ValueError: the files have different columns.
    """

    def identity(row: dict[str, str]) -> tuple[str, ...]:
        return tuple(row[name] for name in columns or row)

    known = {identity(row): row for row in read_rows(target)}
    added, different = [], 0
    for row in read_rows(source):
        found = known.setdefault(identity(row), row)
        if found is row:
            added.append(row)
        different += found != row
    if added:
        append_rows(target, added)
    return len(added), different


def main() -> None:
    """Merge, and print what was added."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('others', nargs='+', type=Path, metavar='OTHER', help='folder of results to add')
    parser.add_argument('--results', type=Path, default=RESULTS, help='folder to add to (benchmarks/results)')
    args = parser.parse_args()
    for other in args.others:
        if not other.is_dir():
            parser.error(f'{other} is not a folder')
        for name in experiment_names():
            for file, columns in mergeable(find_experiment(name), other):
                try:
                    added, different = merge_file(other / file, args.results / file, columns)
                except (KeyError, ValueError) as error:
                    parser.error(f'{other / file} is not a file of {name}: {error}')
                if added or different:
                    print(f'{file}: {added} rows added from {other}, {different} left out: another outcome')


if __name__ == '__main__':
    main()
