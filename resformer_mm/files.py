"""Writing of files."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path


@contextlib.contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Yield the path of an empty file that replaces ``path`` when the block ends without an error.

    Missing folders are created. The yielded path has the suffix of ``path``. If the block ends with an error,
    the file is removed.

    Raises:
        IsADirectoryError: ``path`` is a folder.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f'{path} is a folder: name the file')
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.stem}.{os.getpid()}.partial{path.suffix}')
    try:
        partial.touch()  # fails before the work if the folder cannot be written
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_csv(path: str | Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a CSV file with one line per row and the names of the first row as header; create its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(csv_text(rows), newline='')


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Return the text of a CSV file with one line per row and the names of the first row as header."""
    text = io.StringIO(newline='')
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
