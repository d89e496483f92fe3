"""Writer for generated data sets: complete, reproducible, and without overwriting other files."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

Item = TypeVar('Item')
Track = Callable[[Iterable[Any], str, int], Iterable[Any]]

GENERATOR_VERSION = 1
"""Increase this number with every change that alters the images of a seed."""

_MANIFEST = 'manifest.json'
_UNFINISHED = 'manifest.unfinished.json'
_JPEG_QUALITY = 95
_REMEDY = 'choose another folder, or remove this one if nothing in it is needed'


def untracked(items: Iterable[Item], title: str, total: int) -> Iterable[Item]:
    """Return the items, without showing how many were used."""
    return items


class FolderConflictError(RuntimeError):
    """The target folder contains something other than the requested data set."""


def encode_jpeg(image: np.ndarray) -> bytes:
    """Encode an RGB uint8 image ``(H, W, 3)`` as JPEG.

    Raises:
        RuntimeError: this OpenCV build cannot write JPEG files.
    """
    # Full chroma resolution, because a texture may consist of colour alone.
    options = [
        cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]  # fmt: skip
    return _encode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)


def encode_png(labels: np.ndarray) -> bytes:
    """Encode a uint8 array ``(H, W)`` as grayscale PNG.

    Raises:
        RuntimeError: this OpenCV build cannot write PNG files.
    """
    return _encode('.png', labels, [])


def _encode(ending: str, array: np.ndarray, options: list[int]) -> bytes:
    encoded, data = cv2.imencode(ending, array, options)
    if not encoded:
        raise RuntimeError(f'this OpenCV build cannot write *{ending} files: install one that can')
    return data.tobytes()


def check_at_least(**values: tuple[int, int]) -> None:
    """Check that values, given by name as pairs (value, minimum), are not below their minimum.

    Raises:
        ValueError: a value is below its minimum.
    """
    for name, (value, least) in values.items():
        if value < least:
            raise ValueError(f'{name} must be at least {least}, got {value}')


def write_once(
    root: Path,
    settings: Mapping[str, object],
    folders: Iterable[str],
    items: Sequence[Item],
    files: Callable[[Path, Item], Sequence[Path]],
    write: Callable[[Item], None],
    workers: int,
    texts: Mapping[str, str] | None = None,
    track: Track = untracked,
) -> bool:
    """Write a data set of many items, unless it already exists.

    ``manifest.json``, written last, records the settings. Calling again completes an unfinished run. Nothing
    is ever deleted.

    Args:
        root: folder to write; absent, empty, or written by this function with the same settings.
        settings: everything that the files depend on, serialisable as JSON.
        folders: the folders of the files, relative to ``root``.
        items: the items to write.
        files: function of ``root`` and an item that returns the paths of the item's files.
        write: function that writes the files of one item; must be picklable.
        workers: number of processes.
        texts: further text files in the folder, file name -> content.
        track: function that yields what it is given, with title and number, and shows how far that is.

    Returns:
        True if the data set was written, False if it already existed.

    Raises:
        FolderConflictError: ``root`` is a file, or contains other files or other settings.
    """
    settings = {'generator': 'resformer_mm.synthetic', 'version': GENERATOR_VERSION, **settings}
    finished = _find_finished(root, settings)
    paths = [path for item in items for path in files(root, item)]
    if finished and all(path.is_file() for path in (*paths, *(root / name for name in texts or {}))):
        return False
    for folder in ('', *folders):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / _UNFINISHED).write_text(json.dumps(settings, indent=2) + '\n')
    for name, text in (texts or {}).items():
        (root / name).write_text(text)
    if workers == 1:
        for item in track(items, str(root), len(items)):
            write(item)
    else:
        # Start fresh interpreters, because forking a process with running threads (PyTorch's) may hang.
        context = multiprocessing.get_context('spawn')
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            for _ in track(pool.map(write, items, chunksize=16), str(root), len(items)):
                pass
    os.replace(root / _UNFINISHED, root / _MANIFEST)
    return True


def _find_finished(root: Path, settings: Mapping[str, object]) -> bool:
    """Return whether the folder contains the complete data set; raise if it contains something else."""
    if root.exists() and not root.is_dir():
        raise FolderConflictError(f'{root} is a file, not a folder: {_REMEDY}')
    if not root.is_dir() or not any(root.iterdir()):
        return False
    finished = _read_settings(root / _MANIFEST)
    found = finished or _read_settings(root / _UNFINISHED)
    if found is None:
        raise FolderConflictError(f'{root} is not empty and was not written by this generator: {_REMEDY}')
    if found != settings:
        differing = sorted(
            key for key in settings.keys() | found.keys() if settings.get(key) != found.get(key)
        )
        changes = ', '.join(f'{k} {found.get(k)}, not {settings.get(k)}' for k in differing)
        raise FolderConflictError(f'{root} contains a data set with other settings ({changes}): {_REMEDY}')
    return finished is not None


def _read_settings(path: Path) -> dict | None:
    """Return the settings in a manifest; None if there is no readable manifest."""
    try:
        settings = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return settings if isinstance(settings, dict) else None
