"""A hostile file, how it is read, and what must become of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REFUSED, HARMLESS = 'refused', 'harmless'
# What code in a file would make, in the folder of the case.
TRACE = 'trace'


@dataclass(frozen=True)
class Case:
    """A hostile file.

    Attributes:
        kind: what the file is taken for.
        file: what it is.
        attack: what it is meant to do.
        make: function from a folder to what is read, usually the path of a file that it writes there.
        read: function that reads it as this package does. It may write to the folder ``out`` beside the given
            one.
        outcome: 'refused' with an error that names the reason, or 'harmless'.
        reason: regular expression of the error.
    """

    kind: str
    file: str
    attack: str
    make: Callable[[Path], Any]
    read: Callable[[Any], object]
    outcome: str = REFUSED
    reason: str = ''


def written(name: str, content: bytes | Callable[[Path], bytes]) -> Callable[[Path], Path]:
    """Return a function that writes a file of this content."""

    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content(folder))
        return folder / name

    return make


def run_case(case: Case, folder: Path) -> str:
    """Return the result of a file: an outcome with its reason, or 'FAILED' with what went wrong.

    Args:
        case: the case.
        folder: an empty folder for it.
    """
    given = folder / 'given'
    given.mkdir()
    made = case.make(given)
    before = _files(folder)
    try:
        found = case.read(made)
        text = f'{HARMLESS}: {" ".join(str(found)[:200].split())}'
    except (OSError, ValueError, RuntimeError) as error:
        text = f'{REFUSED}: {" ".join(str(error)[:1000].split())}'
    except MemoryError:
        text = 'FAILED: the memory was full'
    if (given / TRACE).exists():
        return f'FAILED: it ran code ({text})'
    if strange := {path for path in _files(folder) ^ before if path.parts[0] != 'out'}:
        return f'FAILED: it wrote {strange} ({text})'
    return text.replace(f'{folder}/', '')


def _files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob('*')}
