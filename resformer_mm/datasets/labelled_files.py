"""Images and videos with one class each: class folders, and lists of files with labels."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from resformer_mm.hidden_files import is_hidden
from resformer_mm.repairs import collected

from .label_lists import (
    BAD_LABEL,
    LabelListError,
    read_label_list,
    read_lines,
    read_local_list,
    unquoted,
)
from .regular_files import list_files
from .splits import split_name

# Folders of annotations, and of the images that they are of.
NO_CLASSES = frozenset(
    'annotations ann_dir images imagesets img_dir imgs jpegimages labels masks segmentationclass'.split()
)
_MOST_LISTS = 20
_LISTS = ('.txt', '.csv')
_NO_CLASSES = NO_CLASSES | {'meta'}


@dataclass(frozen=True)
class LabelledFiles:
    """Files of one split with their classes.

    Attributes:
        split: 'train', 'val', 'test' or another name; '' if the data is not split.
        folder: folder that the paths are relative to.
        files: (path, class) of each file.
        ann_file: the list that they are from; None for class folders.
        is_numbered: whether the classes of a list are numbers.
        bad: what is wrong with lines of the list.
    """

    split: str
    folder: Path
    files: tuple[tuple[str, str], ...]
    ann_file: Path | None = None
    is_numbered: bool = False
    bad: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Return the number of files of each class that has some."""
        return dict(Counter(name for _, name in self.files))


def class_folders(root: Path, endings: tuple[str, ...]) -> list[LabelledFiles]:
    """Return the files with the given endings in class folders, those of each split if there are splits."""
    folders = _folders(root)
    splits = [path for path in folders if split_name(path.name) in ('train', 'val', 'test')]
    found = [in_class_folders(split_name(path.name), path, endings) for path in splits]
    if not splits:
        found = [in_class_folders('', root, endings)]
    return _training_first([files for files in found if files is not None])


def listed_files(root: Path, endings: tuple[str, ...]) -> list[LabelledFiles]:
    """Return the files of the lists in a folder or in ``meta`` whose paths have the given endings."""
    found = []
    files = sorted(
        path for folder in (root, root / 'meta') for path in folder.glob('*') if path.suffix in _LISTS
    )
    for path in files[:_MOST_LISTS]:
        listed = _read_list(root, path, endings)
        if listed is not None:
            found.append(listed)
    return _training_first(found)


def class_names(splits: Sequence[LabelledFiles]) -> tuple[str, ...]:
    """Return the classes of the first split in order, then those that only others have."""
    names: dict[str, None] = {}
    for split in splits:
        present = {name for _, name in split.files}
        numbers = [int(name) for name in present if name.isdecimal()]
        if split.is_numbered and numbers:
            names.update(dict.fromkeys(map(str, range(max(numbers) + 1))))
        names.update(dict.fromkeys(sorted(present)))
    if splits and all(split.is_numbered for split in splits):
        return tuple(sorted(names, key=int))
    return tuple(names)


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not is_hidden(path.name))


def in_class_folders(split: str, root: Path, endings: tuple[str, ...]) -> LabelledFiles | None:
    """Return the files with the given endings in the class folders of one split; None if there are none."""
    folders = _folders(root)
    if any(folder.name.lower() in _NO_CLASSES for folder in folders):
        return None
    files = [
        (f'{folder.name}/{name}', folder.name)
        for folder in folders
        for name in sorted(list_files(folder))
        if name.lower().endswith(endings) and not is_hidden(name)
    ]
    return LabelledFiles(split, root, tuple(files)) if files else None


def _training_first(splits: list[LabelledFiles]) -> list[LabelledFiles]:
    return sorted(splits, key=lambda files: ('train', 'val', 'test', files.split).index(files.split))


def _read_list(root: Path, path: Path, endings: tuple[str, ...]) -> LabelledFiles | None:
    """Return the files of a list; None if it has other paths, or paths without labels."""
    with collected():
        try:
            listed, bad = read_label_list(str(path))
            words = None
            if not listed and bad and all(line.kind == BAD_LABEL for line in bad):
                words = sorted({_last_word(line) for line in read_lines(str(path)) if line.strip()})
                if any(word.lower().endswith(endings) for word in words):
                    return None  # pairs of images and masks, or paths alone
                listed, bad = read_label_list(str(path), classes=words)
            names = [entry.path for entry in listed if entry.path.lower().endswith(endings)]
            if len(names) < len(listed) - 1 or not names:  # one may be a header
                return None
            folder = _folder_of(root, names)
            listed, bad = read_local_list(str(path), str(folder), classes=words)
        except (LabelListError, OSError, ValueError):
            return None
    if words and not listed[0].path.lower().endswith(endings):
        listed = listed[1:]
    files = tuple((entry.path, words[entry.label] if words else str(entry.label)) for entry in listed)
    known = [split_name(word) for word in path.stem.replace('-', '_').split('_')]
    split = next((word for word in known if word in ('train', 'val', 'test')), path.stem)
    faults = tuple(f'line {line.line}: {line.detail}' for line in bad)
    return LabelledFiles(split, folder, files, path, words is None, faults)


def _last_word(line: str) -> str:
    return unquoted(re.split(r'[\s,;]+', line.strip())[-1])


def _folder_of(root: Path, names: Sequence[str]) -> Path:
    """Return the folder in which most of the first files are."""
    names = [name.replace('\\', '/') for name in names[:20]]
    folders = [root, *_folders(root)]
    return max(folders, key=lambda folder: sum(os.path.isfile(folder / name) for name in names))
