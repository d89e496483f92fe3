"""Image classification data sets on disk, with input validation."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence

import mmpretrain.datasets
from mmengine import fileio
from mmengine.fileio import BaseStorageBackend

from resformer_mm.datasets.label_lists import (
    PROBES,
    ListedFile,
    clean_class_names,
    read_label_list,
    read_lines,
    with_forward_slashes,
    wrong_beginning,
)
from resformer_mm.datasets.regular_files import list_files
from resformer_mm.datasets.samplers import KeepResolution
from resformer_mm.hidden_files import visible
from resformer_mm.registry import DATASETS
from resformer_mm.repairs import remark
from resformer_mm.text import shorten_list

from .nested import by_folder, nested_text

MOST_LINES = 5
SPLITS = frozenset({'train', 'training', 'val', 'valid', 'validation', 'test', 'testing'})


class CheckedFolders(KeepResolution, mmpretrain.datasets.CustomDataset):
    """A folder data set of mmpretrain with input validation.

    Hidden files and folders, such as ``.ipynb_checkpoints``, are neither data nor classes. Where
    ``metainfo.classes`` has the names of the folders, it numbers the classes; a class may have no folder.
    Where it has other names for them, the folders get these names in alphabetical order. Without it, the
    folders are the classes.

    Raises:
        FileNotFoundError: the folder or the annotation file does not exist, or the files that it lists do
            not.
        RuntimeError: the folder contains no images.
        ValueError: the folders do not match ``metainfo.classes``, or are splits instead of classes; a line of
            the annotation file has no label, or a label outside the classes.
    """

    def load_data_list(self) -> list[dict]:
        """Return one dict with ``img_path`` and ``gt_label`` per image."""
        self._check_class_names()
        if self.ann_file:
            if not fileio.exists(self.ann_file):
                raise FileNotFoundError(
                    f'{self._kind}: there is no annotation file {self.ann_file}: check ann_file'
                )
            samples = self._read_list()
        elif not fileio.isdir(self.img_prefix):
            raise FileNotFoundError(
                f'{self._kind}: there is no folder {self.img_prefix}: check data_root, split and data_prefix'
            )
        else:
            samples = self._find_samples()
        if not samples:
            raise RuntimeError(f'{self._kind}: {self.ann_file or self.img_prefix} lists no images')
        backend = self._backend
        paths = [backend.join_path(self.img_prefix, name) for name, _ in samples]
        if not self.with_label:
            return [dict(img_path=path) for path in paths]
        return [dict(img_path=path, gt_label=label) for path, (_, label) in zip(paths, samples)]

    @property
    def _kind(self) -> str:
        return type(self).__name__

    @property
    def _backend(self) -> BaseStorageBackend:
        return fileio.get_file_backend(self.img_prefix, enable_singleton=True)

    def _check_class_names(self) -> None:
        classes = self.CLASSES
        if isinstance(classes, str):
            raise ValueError(
                f'{self._kind}: metainfo.classes={classes!r} is neither a list of names nor a file of '
                'them, one per line'
            )
        if not classes:
            return
        names = clean_class_names(classes, self._kind)
        if names != tuple(classes):
            self._metainfo['classes'] = names

    def _find_samples(self) -> list[tuple[str, int]]:
        """Return the images in the class folders, relative to the folder, with their labels."""
        root, backend = self.img_prefix, self._backend
        if not self.with_label:
            return [(name, 0) for name in self._images(root, sorted(list_files(root)))]
        inside = sorted(backend.list_dir_or_file(root, list_dir=True, list_file=False, recursive=False))
        folders = visible(root, inside, 'folders')
        self.folder_to_idx = self._number(folders)
        files = {folder: sorted(list_files(backend.join_path(root, folder))) for folder in folders}
        listed = [f'{folder}/{name}' for folder in folders for name in files[folder]]
        images = self._images(root, listed)
        occupied = {name.partition('/')[0] for name in images}
        if not images:
            raise RuntimeError(
                f'{self._kind}: {root} contains no images in class folders: check data_root, split and '
                'data_prefix, that each class has its own folder, and the suffixes '
                f'{", ".join(sorted(self.extensions))}'
            )
        if empty := [folder for folder in folders if folder not in occupied]:
            remark(root, f'classes without an image: {len(empty)} ({shorten_list(empty)})')
        for folder, inside in by_folder(images).items():
            if (nested := nested_text(folder, inside)) is not None:
                remark(root, nested)
        beside = backend.list_dir_or_file(root, list_dir=False, recursive=False)
        if loose := [name for name in visible(root, beside) if self.is_valid_file(name)]:
            remark(root, f'images outside the class folders left out: {len(loose)} ({shorten_list(loose)})')
        return [(name, self.folder_to_idx[name.partition('/')[0]]) for name in images]

    def _images(self, root: str, files: Iterable[str]) -> list[str]:
        """Return the files that are images by their suffix, and tell what was left out."""
        names = visible(root, files)
        images = [name for name in names if self.is_valid_file(name)]
        if len(images) < len(names):
            suffixes = Counter(
                os.path.splitext(name)[1].lower() or 'without suffix'
                for name in names
                if not self.is_valid_file(name)
            )
            counts = ', '.join(f'{count} {suffix}' for suffix, count in suffixes.most_common())
            remark(root, f'files with other suffixes left out: {counts}')
        return images

    def _number(self, folders: Sequence[str]) -> dict[str, int]:
        """Return the label of every folder.

        Raises:
            ValueError: the folders do not match the classes, or are splits.
        """
        root, classes = self.img_prefix, self.CLASSES
        if classes is None:
            if len(folders) > 1 and {folder.lower() for folder in folders} <= SPLITS:
                raise ValueError(
                    f'{self._kind}: the folders of {root} are {", ".join(folders)}, which are splits, not '
                    'classes: set data_prefix to one of them, or metainfo.classes if they are classes'
                )
            spellings = Counter(folder.casefold() for folder in folders)
            if alike := [folder for folder in folders if spellings[folder.casefold()] > 1]:
                remark(root, f'classes that differ in upper and lower case alone: {shorten_list(alike)}')
            self._metainfo['classes'] = tuple(folders)
            return {folder: label for label, folder in enumerate(folders)}
        numbers = {name: label for label, name in enumerate(classes)}
        unknown = [folder for folder in folders if folder not in numbers]
        if not unknown:
            if absent := [name for name in classes if name not in folders]:
                remark(
                    root,
                    f'classes without a folder: {len(absent)} of {len(classes)} ({shorten_list(absent)})',
                )
            return {folder: numbers[folder] for folder in folders}
        absent = [name for name in classes if name not in folders]
        if len(unknown) == len(folders) == len(classes) and not _equal_but_case(unknown, absent):
            return {folder: label for label, folder in enumerate(folders)}
        raise ValueError(
            f'{self._kind}: the number of class folders of {root} ({len(folders)}) and of classes '
            f'({len(classes)}), or their names, differ. Folders without a class: {shorten_list(unknown)}; '
            f'classes without a folder: {shorten_list(absent) or "none"}. Rename or move the folders, or '
            'correct metainfo.classes'
        )

    def _read_list(self) -> list[tuple[str, int]]:
        """Return the images in the annotation file, with their labels.

        Raises:
            FileNotFoundError: the images do not exist.
            ValueError: lines have no label, or a label outside the classes.
        """
        if not self.with_label:
            listed = [
                ListedFile(number, line.strip(), 0)
                for number, line in enumerate(read_lines(self.ann_file), 1)
                if line.strip()
            ]
        else:
            classes = self.CLASSES
            listed, bad = read_label_list(
                self.ann_file, None if classes is None else len(classes), classes=classes
            )
            if bad:
                bound = '0 or more' if classes is None else f'0..{len(classes) - 1}'
                shown = '; '.join(f'line {line.line}: {line.detail}' for line in bad[:MOST_LINES])
                more = f'; and {len(bad) - MOST_LINES} more lines' if len(bad) > MOST_LINES else ''
                raise ValueError(
                    f'{self.ann_file}, {shown}{more}. Lines are `PATH LABEL`, labels {bound}: correct the '
                    'lines, or metainfo.classes (which must list the names, if the labels are names)'
                )
            self._check_repeated(listed)
        return [(entry.path, entry.label) for entry in self._find_listed(listed)]

    def _check_repeated(self, listed: Sequence[ListedFile]) -> None:
        first: dict[str, ListedFile] = {}
        repeated = []
        for entry in listed:
            before = first.setdefault(entry.path, entry)
            if before.label != entry.label:
                raise ValueError(
                    f'{self.ann_file}, lines {before.line} and {entry.line}: {entry.path} has the labels '
                    f'{before.label} and {entry.label}: remove one of the lines'
                )
            if before is not entry:
                repeated.append(entry.path)
        if repeated:
            remark(
                self.ann_file,
                f'lines that repeat a file and its label: {len(repeated)} ({shorten_list(repeated)})',
            )

    def _find_listed(self, listed: Sequence[ListedFile]) -> Sequence[ListedFile]:
        """Return the entries with paths that exist, as far as a few of them show.

        Raises:
            FileNotFoundError: none of those that were looked for exists.
        """
        listed = with_forward_slashes(self.ann_file, listed, self._exists)
        probes = listed[:: max(1, len(listed) // PROBES)]
        if not probes or any(self._exists(entry.path) for entry in probes):
            return listed
        hint = f'check data_prefix={self.img_prefix!r}'
        if (beginning := wrong_beginning(probes[0].path, self._exists)) is not None:
            hint = (
                f'without {beginning!r} it exists: take that off the lines, or set data_prefix to the folder '
                'that the paths are relative to'
            )
        raise FileNotFoundError(
            f'{self.ann_file}, line {probes[0].line}: there is no file {probes[0].path} in '
            f'{self.img_prefix}, nor any other of the {len(probes)} that were looked for: {hint}'
        )

    def _exists(self, path: str) -> bool:
        return fileio.exists(self._backend.join_path(self.img_prefix, path))


def _equal_but_case(names: Sequence[str], others: Sequence[str]) -> bool:
    return bool({name.casefold() for name in names} & {name.casefold() for name in others})


@DATASETS.register_module()
class ImageFolder(CheckedFolders):
    """Images in one folder per class, or listed as ``PATH LABEL`` lines in an annotation file."""


@DATASETS.register_module()
class ImageNet(CheckedFolders, mmpretrain.datasets.ImageNet):
    """ImageNet-1k in one folder per class, or listed in ``meta/{train,val}.txt``."""
