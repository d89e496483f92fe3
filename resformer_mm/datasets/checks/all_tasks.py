"""Choice of the task whose data a folder has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config

from resformer_mm.config.files import enter_scope
from resformer_mm.libraries import TASKS, import_name, task_of

from .task_check import CheckOptions, DataCheck


def sources_in_config(cfg: Config) -> tuple[DataCheck, list[Any]]:
    """Return the check of the task of a config, and what its data sets read.

    Raises:
        ImportError: the library of the task is missing.
        ValueError: the task is not known or has no check, or a data set has another layout.
    """
    task = task_of(cfg)
    if task.data_check is None:
        raise ValueError(
            f'{cfg.filename}: there is no check for the data of its task: give a config of {", ".join(TASKS)}'
        )
    enter_scope(cfg)
    check = import_name(task.data_check)()
    return check, check.in_config(cfg)


def sources_below(
    root: Path, options: CheckOptions, task: str | None = None
) -> tuple[str, DataCheck, list[Any]]:
    """Return the task of a folder of data, its check, and what training would read.

    Args:
        root: the folder.
        options: what the folder does not tell.
        task: name of the task; None finds it out.

    Raises:
        FileNotFoundError: there is no such folder.
        ImportError: the library of the given task is missing.
        ValueError: the folder has the layout of no task, or of several; or an option is needed.
    """
    if not root.is_dir():
        raise FileNotFoundError(f'there is no folder {root}')
    checks = {name: row.data_check for name, row in TASKS.items() if row.data_check is not None}
    names = list(checks) if task is None else [task]
    found: dict[str, tuple[DataCheck, list[Any]]] = {}
    missing: dict[str | None, ImportError] = {}
    needed: dict[str, ValueError] = {}
    for name in names:
        try:
            check = import_name(checks[name] or '')()
            sources = check.below(root, options)
        except ImportError as error:
            missing[name] = error
            continue
        except ValueError as error:
            needed[name] = error
            continue
        if sources:
            found[name] = check, sources
    if len(found) + len(needed) > 1:
        found = {name: entry for name, entry in found.items() if not entry[0].is_general}
    if len(found) + len(needed) > 1:
        several = ', '.join((*found, *needed))
        raise ValueError(f'{root} looks like data of several tasks ({several}): choose one with --task')
    if needed:
        [(name, problem)] = needed.items()
        raise ValueError(f'{name}: {problem}') from problem
    if task in missing:
        raise missing[task]
    if not found:
        unseen = (
            f'; not looked for, since a library is missing: {", ".join(map(str, missing))}' if missing else ''
        )
        raise ValueError(
            f'{root} has the layout of none of the tasks {", ".join(names)}{unseen}. docs/data.md shows '
            'them; for another layout, give a config'
        )
    [(name, (check, sources))] = found.items()
    return name, check, sources
