"""What a folder of data holds, as the data of a fine-tuning."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from resformer_mm.datasets.checks.all_tasks import sources_below
from resformer_mm.datasets.checks.report import CheckReport
from resformer_mm.datasets.checks.task_check import CheckOptions
from resformer_mm.formats.recognition import (
    CLASS_FOLDERS,
    MASKS,
    ONE_CLASS,
    VIDEO_LISTS,
    FoundData,
    recognise,
)
from resformer_mm.libraries import TASKS, import_name

from .data import FinetuningData

# Layouts that data sets read as they are; of masks, those that are not in colours.
NATIVE = (CLASS_FOLDERS, 'coco', MASKS, VIDEO_LISTS)


def check_folder(
    root: Path, folder: Path, options: CheckOptions, task: str | None = None
) -> tuple[str, Sequence[Any], CheckReport]:
    """Find out what a folder holds, and check all of its data.

    Args:
        root: the folder.
        folder: new folder for what data sets can read: annotations of other formats as COCO files, masks in
            colours as label maps, lists. Images stay where they are.
        options: what the folder does not tell.
        task: name of the task; None finds it out.

    Returns:
        The task, what training would read, and the findings.

    Raises:
        FileNotFoundError: there is no such folder.
        ImportError: the library of the task is missing.
        ValueError: the folder has nothing that is known, or data of several tasks; or an option is needed.
    """
    found = recognise(root, task)
    task, report = found.task, CheckReport()
    check = import_name(TASKS[task].data_check or '')()
    if found.layout in NATIVE and found.mask_kind != 'colours':
        report.findings += [finding for finding in found.report.findings if finding.kind == ONE_CLASS]
        if not report.is_sound:
            return task, [], report
        sources: Sequence[Any] = sources_below(found.folder, options, task)[2]
    else:
        report.extend(found.report)
        if not report.is_sound:
            return task, [], report
        folder.mkdir(parents=True, exist_ok=True)
        sources = _module(task).sources_of(found, folder, options)
    report.facts.append(_layout_text(found))
    checked = check.check(sources, options)
    unsaid = _module(task).UNSAID
    checked.findings = [finding for finding in checked.findings if finding.kind not in unsaid]
    report.extend(checked)
    return task, sources, report


def prepare_data(task: str, sources: Sequence[Any], folder: Path) -> FinetuningData:
    """Return the data of a fine-tuning.

    Args:
        task: name of the task.
        sources: what :func:`check_folder` has found.
        folder: new folder for lists and annotation files of a split that is made.

    Raises:
        ValueError: the data cannot be used, or not be split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return _module(task).prepare(sources, folder)


def _module(task: str) -> ModuleType:
    return importlib.import_module(TASKS[task].finetuning or '')


def _layout_text(found: FoundData) -> str:
    kind = f' in {found.mask_kind}' if found.mask_kind == 'colours' else ''
    return f'{found.folder}: {found.layout}{kind}'
