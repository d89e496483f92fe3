"""Writing of files."""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path


@contextlib.contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Yield the path of an empty file that replaces ``path`` when the block ends without an error.

    Missing folders are created. The file to write has the suffix of ``path``; nothing is left of one that was
    not finished.

    Raises:
        IsADirectoryError: ``path`` is a folder.
        OSError: the place cannot be written to.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f'{path} is a folder: name the file')
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.stem}.{os.getpid()}.partial{path.suffix}')
    try:
        partial.touch()  # a folder that cannot be written to shows before the work
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_csv(path: str | Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a CSV file with a line per row, under the names of the first row; missing folders are created."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'w', newline='') as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
