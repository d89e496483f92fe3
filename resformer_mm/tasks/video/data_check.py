"""Layouts of video data, and their repaired copies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from mmengine.config import Config

from resformer_mm.datasets.checks.configured import configured_sources
from resformer_mm.datasets.checks.reading import moved
from resformer_mm.datasets.checks.report import CheckReport
from resformer_mm.datasets.checks.task_check import CheckOptions, Copier, DataCheck
from resformer_mm.datasets.label_lists import LabelListError, read_label_list, read_local_list
from resformer_mm.datasets.labelled_files import class_folders
from resformer_mm.inference.sources import VIDEO_SUFFIXES
from resformer_mm.progress import track
from resformer_mm.repairs import collected

from .check import ClipList, check_clip_lists


class VideoCheck(DataCheck):
    """Lists of video files, or class folders of them."""

    def in_config(self, cfg: Config) -> list[ClipList]:
        """Return what the data sets of a config read."""
        return configured_sources(cfg, ClipList.from_config)

    def below(self, root: Path, options: CheckOptions) -> list[ClipList]:
        """Return the lists in the folder, the training first, with the folders of their videos; without
        lists, the class folders of each split."""
        sources = []
        for file in sorted(
            (*root.glob('*.txt'), *root.glob('*.csv')), key=lambda file: ('train' not in file.name, file)
        ):
            try:
                with collected():
                    listed, _ = read_label_list(str(file))
            except LabelListError:
                continue
            paths = [entry.path.replace('\\', '/') for entry in listed[:20]]
            names = [path for path in paths if path.lower().endswith(VIDEO_SUFFIXES)]
            if names:
                sources.append(ClipList(str(file), str(_folder_of(root, names)), options.num_classes))
        if not sources:
            folders = [str(files.folder) for files in class_folders(root, VIDEO_SUFFIXES)]
            sources = [ClipList(folder, folder, options.num_classes) for folder in folders]
        return sources

    def check(self, sources: Sequence[ClipList], options: CheckOptions) -> CheckReport:
        """Check all lines and clips."""
        return check_clip_lists(sources, workers=options.workers, show_progress=options.show_progress)

    def places(self, source: ClipList) -> list[str]:
        """Return the list, if there is one, and the folder."""
        return [source.path, source.folder]

    def repair(self, source: ClipList, copier: Copier) -> tuple[ClipList, list[str]]:
        """Copy the listed videos, and write the list as ``PATH LABEL`` in UTF-8; or copy class folders."""
        if source.has_folders:
            hidden = copier.copy_folder(source.folder)
            copied = replace(source, path=copier.place(source.path), folder=copier.place(source.folder))
            return copied, [f'{source.folder}: {hidden} hidden files left out'] if hidden else []
        before = Path(source.path).read_bytes()
        with collected():
            listed, bad = read_local_list(
                source.path, source.folder, source.num_classes, source.delimiter, source.classes
            )
        if bad:
            raise ValueError(f'{source.path}, line {bad[0].line}: {bad[0].detail}: correct the lines first')
        lines = []
        with closing(track(listed, f'copy of {source.path}', shown=copier.show_progress)) as tracked:
            for entry in tracked:
                if os.path.isfile(source.file(entry)):
                    copier.copy(entry.path, source.folder)
                lines.append(f'{entry.path}{source.delimiter or " "}{entry.label}\n')
        after = ''.join(lines).encode()
        copier.write(source.path, after)
        os.makedirs(copier.place(source.folder), exist_ok=True)
        is_changed = after.strip() != before.strip()
        repairs = [f'{source.path}: written as `PATH LABEL` lines in UTF-8'] if is_changed else []
        return (
            replace(
                source,
                path=copier.place(source.path),
                folder=copier.place(source.folder),
                foreign=moved(source.foreign, copier.place),
            ),
            repairs,
        )


def _folder_of(root: Path, names: Sequence[str]) -> Path:
    """Return the folder in which most of the videos are."""
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    return max(folders, key=lambda folder: sum((folder / name).is_file() for name in names))
