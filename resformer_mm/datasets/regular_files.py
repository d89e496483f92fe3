"""Reading and listing of the files of a data set: no devices, no pipes, no links that lead back."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mmengine import fileio
from mmengine.fileio import LocalBackend

_MOST_PATHS = 100
"""Paths by which links may lead to one folder. More multiply with every level of folders."""


class FolderError(ValueError):
    """A folder with symbolic links that cannot be followed. The message names them."""


def read_file(path: str | Path, backend_args: dict | None = None) -> bytes:
    """Return the content of a file, by a file backend of MMEngine.

    Raises:
        OSError: the file does not exist or cannot be read, or is a device, pipe or socket, which may have no
            end.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # an address of other storage, or missing: the backend says so
        mode = stat.S_IFREG
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(f'{path} is a device, pipe or socket, not a file')
    return bytes(fileio.get(path, backend_args=backend_args))  # some backends return a memoryview


def list_files(
    folder: str | Path, suffix: str | tuple[str, ...] = '', backend_args: dict | None = None
) -> Iterator[str]:
    """Yield the files in a folder and its subfolders, relative to it, as MMEngine's backends do.

    Symbolic links are followed. Names that begin with a dot are left out.

    Raises:
        FolderError: links lead back, or to one folder on many paths.
    """
    backend = fileio.get_file_backend(str(folder), backend_args=backend_args, enable_singleton=True)
    if not isinstance(backend, LocalBackend):
        names = backend.list_dir_or_file(str(folder), list_dir=False, recursive=True)
        yield from (name for name in names if name.endswith(suffix))
        return
    for inside, files in walk_folders(folder):
        for name in files:
            if not name.startswith('.') and name.endswith(suffix):
                yield os.path.join(inside, name)


def walk_folders(folder: str | Path) -> Iterator[tuple[str, list[str]]]:
    """Yield every folder, relative to the given one ('' for itself), and the names of the files in it.

    Symbolic links are followed.

    Raises:
        FolderError: links lead back, or to one folder on many paths.
    """
    visits: Counter[tuple[int, int]] = Counter()
    pending: list[tuple[str, tuple]] = [('', ())]
    while pending:
        inside, above = pending.pop()
        path = os.path.join(folder, inside)
        found = os.stat(path)
        identity = found.st_dev, found.st_ino
        _check_links(path, identity, above, visits)
        files, folders = [], []
        with os.scandir(path) as entries:
            for entry in entries:
                # For links, `entry.is_file` may raise an error; for others, it asks nothing more of the disk.
                if os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file():
                    files.append(entry.name)
                elif os.path.isdir(entry.path):
                    folders.append(entry.name)
        pending += [(os.path.join(inside, name), (identity, above)) for name in reversed(folders)]
        yield inside, files


def _check_links(path: str, identity: tuple[int, int], above: tuple, visits: Counter) -> None:
    while above:
        outer, above = above
        if outer == identity:
            raise FolderError(
                f'{path} leads back to {os.path.realpath(path)}, a folder that it is in: remove the symbolic '
                'link'
            )
    visits[identity] += 1
    if visits[identity] > _MOST_PATHS:
        raise FolderError(
            f'symbolic links lead to {os.path.realpath(path)} on more than {_MOST_PATHS} paths, such as '
            f'{path}: remove some of them'
        )
