"""Local folders in which the images of an annotation file may be."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from .file_names import image_prefix

MOST_NAMES = 20
# Folders of images beside that of the annotations are looked for, and in these.
_INSIDE = ('', 'images', 'data', 'imgs', 'JPEGImages')


def best_folder(root: Path, file: Path, names: Sequence[str]) -> tuple[Path, int]:
    """Return the folder in which most of the images are, and how many of the first ones are there.

    Args:
        root: folder of the data set.
        file: the annotation file.
        names: file names in it; those of another system count by their last part.
    """
    names = names[:MOST_NAMES]
    bases = [name.replace('\\', '/').rpartition('/')[2] for name in names]
    found = {
        folder: (
            sum((folder / name).is_file() for name in names),
            sum((folder / base).is_file() for base in bases),
        )
        for folder in dict.fromkeys(_candidates(root, file))
    }
    best = max(found, key=lambda folder: 2 * found[folder][0] + found[folder][1])
    return best, max(found[best])


def folder_hint(root: str | Path, file: str | Path, missing: Sequence[str], data_root: str | None) -> str:
    """Return how a folder near an annotation file is set that has images that are missing; '' without one.

    Args:
        root: folder of the data set.
        file: the annotation file.
        missing: names of images that do not exist in the folder that is set.
        data_root: ``data_root`` of the data set, to which the folder is relative.
    """
    if '://' in str(file) or not missing or not Path(file).is_file():
        return ''
    folder, number = best_folder(Path(root), Path(file), missing)
    if not number:
        return ''
    prefix = image_prefix(str(folder), '', data_root)
    return (
        f'{number} of the first {min(len(missing), MOST_NAMES)} are in {folder}: set '
        f'data_prefix=dict(img={prefix!r}) of the data set'
    )


def _candidates(root: Path, file: Path) -> Iterator[Path]:
    """Yield the folders that may have the images, those that share a name with the file first."""
    bases = [root, file.parent, *([file.parent.parent] if file.parent.name == 'annotations' else [])]
    parents = [base / name for base in bases for name in _INSIDE]
    inside = [
        Path(entry.path)
        for parent in dict.fromkeys(parents)
        if parent.is_dir()
        for entry in sorted(os.scandir(parent), key=lambda entry: entry.name)
        if entry.is_dir() and entry.name != 'annotations'
    ]
    # The split: `val` in instances_val2017.json, or in val/annotations.json.
    yield from (path for path in inside if path.name in file.stem or path.name == file.parent.name)
    yield from inside
    yield from parents
