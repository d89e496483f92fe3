"""What a folder of data holds, as the data of a fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resformer_mm.datasets.checks.all_tasks import sources_below
from resformer_mm.datasets.checks.report import CheckReport
from resformer_mm.datasets.checks.task_check import CheckOptions
from resformer_mm.libraries import TASKS, import_name

from .data import FinetuningData


def check_folder(
    root: Path, options: CheckOptions, task: str | None = None
) -> tuple[str, Sequence[Any], CheckReport]:
    """Find out the task of a folder, and check all of its data.

    Args:
        root: the folder.
        options: what the folder does not tell.
        task: name of the task; None finds it out.

    Returns:
        The task, what training would read, and the findings.

    Raises:
        FileNotFoundError: there is no such folder.
        ImportError: the library of the task is missing.
        ValueError: the folder has the layout of no task, or of several; or an option is needed.
    """
    task, check, sources = sources_below(root, options, task)
    return task, sources, check.check(sources, options)


def prepare_data(task: str, sources: Sequence[Any], folder: Path) -> FinetuningData:
    """Return the data of a fine-tuning.

    Args:
        task: name of the task.
        sources: what :func:`check_folder` has found.
        folder: new folder for lists and annotation files of a split that is made. Images stay where they are.

    Raises:
        ValueError: the data cannot be used, or not be split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return import_name(TASKS[task].finetuning or '')(sources, folder)
