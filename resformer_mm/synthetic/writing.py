"""Writing a generated data set once: whole, the same from the same settings, and over nothing else."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

Item = TypeVar('Item')

GENERATOR_VERSION = 1
"""To be raised by every change that alters the pictures of a seed."""

_MANIFEST = 'manifest.json'
_UNFINISHED = 'manifest.unfinished.json'
_JPEG_QUALITY = 95
_REMEDY = 'choose another folder, or remove this one if nothing in it is needed'


class FolderConflictError(RuntimeError):
    """The target folder holds something else than what was asked for."""


def encode_jpeg(image: np.ndarray) -> bytes:
    """Encode an RGB uint8 picture ``(H, W, 3)`` as JPEG.

    Raises:
        RuntimeError: this OpenCV cannot.
    """
    # Chroma in full resolution: texture may consist of colour alone.
    options = [
        cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]  # fmt: skip
    return _encode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)


def encode_png(labels: np.ndarray) -> bytes:
    """Encode a uint8 array ``(H, W)`` as grayscale PNG.

    Raises:
        RuntimeError: this OpenCV cannot.
    """
    return _encode('.png', labels, [])


def _encode(ending: str, array: np.ndarray, options: list[int]) -> bytes:
    encoded, data = cv2.imencode(ending, array, options)
    if not encoded:
        raise RuntimeError(f'this OpenCV cannot write *{ending} files; install a build that can')
    return data.tobytes()


def check_at_least(**values: tuple[int, int]) -> None:
    """Check that each value, given by name with the least it may be, is that large.

    Raises:
        ValueError: one is smaller.
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
) -> bool:
    """Write a data set of many items, unless it is there already.

    ``manifest.json``, written last, records the settings. An unfinished run is completed by calling again.
    Nothing is ever deleted.

    Args:
        root: folder to write; absent, empty, or written by this function with the same settings.
        settings: everything that the files depend on, fit for JSON.
        folders: the folders of the files, relative to ``root``.
        items: what to write, one by one.
        files: the paths of the files of an item, from ``root`` and the item.
        write: writes the files of one item; can be pickled.
        workers: number of processes.
        texts: what else stands in the folder, name of a text file -> its content.

    Returns:
        True if the data set was written, False if it was there.

    Raises:
        FolderConflictError: ``root`` is a file, or holds anything else or other settings.
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
        for item in items:
            write(item)
    else:
        # Fresh interpreters: a fork of a process with running threads (PyTorch's) may hang.
        context = multiprocessing.get_context('spawn')
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            for _ in pool.map(write, items, chunksize=16):
                pass
    os.replace(root / _UNFINISHED, root / _MANIFEST)
    return True


def _find_finished(root: Path, settings: Mapping[str, object]) -> bool:
    """Return whether the folder says it holds the whole data set; raise if it holds something else."""
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
        changes = ', '.join(f'{k} {found.get(k)} not {settings.get(k)}' for k in differing)
        raise FolderConflictError(f'{root} holds a data set of other settings ({changes}): {_REMEDY}')
    return finished is not None


def _read_settings(path: Path) -> dict | None:
    """Return the settings in a manifest; None where there is none that can be read."""
    try:
        settings = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return settings if isinstance(settings, dict) else None
