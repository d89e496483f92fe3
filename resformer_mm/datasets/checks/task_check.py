"""Interface of the tasks to the one command that checks data of all of them."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from resformer_mm.datasets.regular_files import walk_folders
from resformer_mm.hidden_files import is_hidden
from resformer_mm.progress import track

from .report import CheckReport


@dataclass(frozen=True)
class CheckOptions:
    """Options of a check, as far as a folder does not tell them.

    Args:
        num_classes: number of classes; None if the folder tells it.
        reduce_zero_label: whether value 0 of a mask is ignored; None for the default of the layout.
        ignore_index: value of ignored pixels in masks, or several.
        workers: number of threads.
        show_progress: show progress bars on stderr.
    """

    num_classes: int | None = None
    reduce_zero_label: bool | None = None
    ignore_index: int | Sequence[int] = 255
    workers: int = 1
    show_progress: bool = False


class DataCheck(ABC):
    """Check of the data of one task; its sources are what one data set reads.

    Attributes:
        is_general: whether folders of other tasks may have its layout, too.
    """

    is_general = False

    @abstractmethod
    def in_config(self, cfg: Config) -> list[Any]:
        """Return what the data sets of a config read. The default scope must be that of the config.

        Raises:
            ValueError: a data set has another layout than the task checks.
        """

    @abstractmethod
    def below(self, root: Path, options: CheckOptions) -> list[Any]:
        """Return what training would read from a folder of the usual layout; empty if it has another one.

        Raises:
            ValueError: an option is needed.
        """

    @abstractmethod
    def check(self, sources: Sequence[Any], options: CheckOptions) -> CheckReport:
        """Check all files."""

    @abstractmethod
    def repair(self, source: Any, copier: Copier) -> tuple[Any, list[str]]:
        """Copy what a data set reads, with what is certain repaired.

        Args:
            source: as :meth:`below` or :meth:`in_config` returns it.
            copier: copies its files.

        Returns:
            The copied source, and what was repaired.

        Raises:
            ValueError: a file cannot be repaired.
        """

    @abstractmethod
    def places(self, source: Any) -> list[str]:
        """Return the files and folders of a source."""


class Copier:
    """Copies files below a common folder to the same places below another one.

    Args:
        places: files and folders that will be copied.
        target: the folder to copy to.
        show_progress: show the progress of folders on stderr.

    Raises:
        FileExistsError: the target exists and is not empty.
        FileNotFoundError: one of the places does not exist.
        ValueError: the target is inside the data, or the data inside the target.
    """

    def __init__(self, places: Iterable[str], target: str | Path, show_progress: bool = False) -> None:
        self.show_progress = show_progress
        paths = [os.path.realpath(place) for place in places]
        if missing := [path for path in paths if not os.path.exists(path)]:
            raise FileNotFoundError(f'{missing[0]} does not exist: there is nothing to repair')
        folders = [path if os.path.isdir(path) else os.path.dirname(path) for path in paths]
        self.root, self.target = os.path.commonpath(folders), os.path.realpath(target)
        if os.path.isdir(self.target) and os.listdir(self.target):
            raise FileExistsError(f'{target} is not empty: give a new folder for the repaired copy')
        for folder in folders:
            if os.path.commonpath([folder, self.target]) in (folder, self.target):
                raise ValueError(f'{target} and {folder} overlap: give another folder for the repaired copy')

    def place(self, path: str | Path) -> str:
        """Return where a file or folder is copied to.

        Raises:
            ValueError: it is not below the common folder, by a name with ``..`` or a symbolic link.
        """
        below = os.path.relpath(os.path.realpath(path), self.root)
        if below == os.pardir or below.startswith(os.pardir + os.sep):
            raise ValueError(f'{path} is outside {self.root}: move it there, or take it off the data')
        return os.path.normpath(os.path.join(self.target, below))

    def copy(self, path: str | Path, folder: str | Path | None = None) -> str:
        """Copy a file, and return its place.

        Args:
            path: the file.
            folder: a folder of the data that ``path`` is relative to; the file may then be a symbolic link.
        """
        if folder is None:
            place = self.place(path)
        else:
            inside, path = os.path.normpath(path), os.path.join(folder, path)
            is_inside = not os.path.isabs(inside) and inside.split(os.sep)[0] != os.pardir
            place = os.path.join(self.place(folder), inside) if is_inside else self.place(path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        if not os.path.exists(place):
            shutil.copy2(path, place)
        return place

    def write(self, path: str | Path, content: bytes) -> str:
        """Write a file in the place of another one, and return its place."""
        place = self.place(path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        Path(place).write_bytes(content)
        return place

    def copy_folder(self, folder: str | Path) -> int:
        """Copy the files of a folder and its subfolders, and return how many hidden ones were left out."""
        names: list[str] = []
        for below, inside in walk_folders(folder):
            if not is_hidden(below):  # an empty folder is a class, too
                os.makedirs(os.path.join(self.place(folder), below), exist_ok=True)
            names += [os.path.join(below, name) for name in inside]
        copied = [name for name in names if not is_hidden(name)]
        with closing(track(copied, f'copy of {folder}', shown=self.show_progress)) as tracked:
            for name in tracked:
                # By the path below the folder, so that links inside it do not lead elsewhere.
                place = os.path.join(self.place(folder), name)
                if not os.path.exists(place):
                    shutil.copy2(os.path.join(folder, name), place)
        return len(names) - len(copied)


def repaired_copy(
    check: DataCheck, sources: Sequence[Any], target: str | Path, show_progress: bool = False
) -> tuple[list[Any], list[str]]:
    """Write a copy of the data with what is certain repaired; return its sources and what was repaired.

    Args:
        check: the check of the task.
        sources: what the data sets read.
        target: a new folder.
        show_progress: show progress on stderr.

    Raises:
        FileExistsError: the target is not empty.
        FileNotFoundError: a folder or file of the data does not exist.
        ValueError: the target overlaps the data, or a file cannot be repaired.
    """
    copier = Copier([place for source in sources for place in check.places(source)], target, show_progress)
    copies, repairs = [], []
    for source in sources:
        copied, done = check.repair(source, copier)
        copies.append(copied)
        repairs += [line for line in done if line not in repairs]
    return copies, repairs
