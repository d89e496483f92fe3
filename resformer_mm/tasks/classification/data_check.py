"""Layouts of image classification data, and their repaired copies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mmengine.config import Config

from resformer_mm.datasets.checks.configured import configured_sources
from resformer_mm.datasets.checks.images import IMAGE_ENDINGS
from resformer_mm.datasets.checks.reading import moved
from resformer_mm.datasets.checks.report import CheckReport
from resformer_mm.datasets.checks.task_check import CheckOptions, Copier, DataCheck
from resformer_mm.datasets.label_lists import read_local_list
from resformer_mm.datasets.labelled_files import NO_CLASSES, class_names, listed_files
from resformer_mm.hidden_files import is_hidden
from resformer_mm.repairs import collected

from .check import ClassFolders, check_class_folders

SPLITS = ('train', 'training', 'val', 'valid', 'validation', 'test', 'testing')


class ClassificationCheck(DataCheck):
    """Class folders, or lists of images."""

    is_general = True

    def in_config(self, cfg: Config) -> list[ClassFolders]:
        """Return what the data sets of a config read."""
        head = cfg.model.get('head') or {}
        number = head.get('num_classes') if isinstance(head, dict) else None
        sources = configured_sources(cfg, ClassFolders.from_config)
        return [replace(source, num_classes=number) for source in sources]

    def below(self, root: Path, options: CheckOptions) -> list[ClassFolders]:
        """Return the splits ``train``, ``val`` and ``test``, with lists in ``meta``; else the lists in the
        folder, or the folder itself."""
        number = options.num_classes
        by_name = {entry.name.lower(): entry for entry in root.iterdir() if entry.is_dir()}
        splits = [by_name[name] for name in SPLITS if name in by_name]
        sources = []
        for folder in splits:
            listed = root / 'meta' / f'{folder.name}.txt'
            if listed.is_file():
                sources.append(ClassFolders(str(folder), str(listed), num_classes=number, name=folder.name))
            elif _has_class_folders(folder):
                sources.append(ClassFolders(str(folder), num_classes=number, name=folder.name))
        listed_splits = listed_files(root, IMAGE_ENDINGS) if not sources else []
        for split in listed_splits:
            # Those of the first split; another class is a difference between the splits.
            names, own = class_names(listed_splits[:1]), class_names([split])
            names = names if set(own) <= set(names) else own
            known = None if split.is_numbered else names
            place = str(split.folder), str(split.ann_file)
            sources.append(ClassFolders(*place, known, num_classes=number, name=split.split))
        if not sources and not splits and _has_class_folders(root):
            sources.append(ClassFolders(str(root), num_classes=number))
        return sources

    def check(self, sources: Sequence[ClassFolders], options: CheckOptions) -> CheckReport:
        """Check all files."""
        return check_class_folders(sources, options.workers, options.show_progress)

    def places(self, source: ClassFolders) -> list[str]:
        """Return the folder, and the list."""
        return [source.folder, *([source.ann_file] if source.ann_file else [])]

    def repair(self, source: ClassFolders, copier: Copier) -> tuple[ClassFolders, list[str]]:
        """Leave hidden files out, and write a list as ``PATH LABEL`` in UTF-8."""
        repairs = []
        if count := copier.copy_folder(source.folder):
            repairs.append(f'{source.folder}: {count} hidden files left out')
        copied = replace(
            source, folder=copier.place(source.folder), foreign=moved(source.foreign, copier.place)
        )
        if source.ann_file is None:
            return copied, repairs
        before = Path(source.ann_file).read_bytes()
        number = len(source.classes) if source.classes else None
        with collected():
            listed, bad = read_local_list(source.ann_file, source.folder, number, classes=source.classes)
        if bad:
            raise ValueError(
                f'{source.ann_file}, line {bad[0].line}: {bad[0].detail}: correct the lines first'
            )
        after = ''.join(f'{entry.path} {entry.label}\n' for entry in listed).encode()
        copier.write(source.ann_file, after)
        if after.strip() != before.strip():
            repairs.append(f'{source.ann_file}: written as `PATH LABEL` lines in UTF-8')
        return replace(copied, ann_file=copier.place(source.ann_file)), repairs


def _has_class_folders(folder: Path) -> bool:
    """Whether a folder has subfolders with images, and none that names a kind of file instead of a class."""
    if any(inside.name.lower() in NO_CLASSES for inside in folder.iterdir() if inside.is_dir()):
        return False
    for inside in sorted(folder.iterdir()):
        if inside.is_dir() and not is_hidden(inside.name):
            for _, _, names in os.walk(inside):
                if any(name.lower().endswith(IMAGE_ENDINGS) for name in names):
                    return True
    return False
