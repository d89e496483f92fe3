"""Checkpoint files that are either whole or not there."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.runner import Runner

from resformer_mm.files import write_atomically

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MOST_NAMED = 5


def save_whole_files(runner: Runner) -> None:
    """Let every checkpoint of a runner get its name only when all of it is on the disk.

    MMEngine writes to this name at once, so an interrupted run leaves a damaged file. Remote file systems put
    whole files anyway.
    """
    runner.save_checkpoint = _saving_whole(runner.save_checkpoint)


def _saving_whole(save: Callable) -> Callable:
    @wraps(save)
    def save_checkpoint(out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        if not is_main_process() or not is_local(out_dir):
            save(out_dir, filename, *args, **kwargs)
            return
        path = Path(out_dir, filename)
        try:
            with write_atomically(path) as partial:
                save(str(partial.parent), partial.name, *args, **kwargs)
                _flush(partial)
            _flush(path.parent)
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise OSError(error.errno, _full_disk(path, error)) from error

    return save_checkpoint


def is_local(folder: str) -> bool:
    """Whether a folder is on a file system of this machine."""
    return isinstance(get_file_backend(folder), LocalBackend)


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _full_disk(path: Path, error: OSError) -> str:
    """Say what is kept, and what could be freed."""
    files = sorted(path.parent.glob('[!.]*.pth'), key=lambda file: file.stat().st_size, reverse=True)
    shown = ', '.join(f'{file.name} ({_size_text(file.stat().st_size)})' for file in files[:_MOST_NAMED])
    free = _size_text(shutil.disk_usage(path.parent).free)
    return (
        f'{path} cannot be written: {os.strerror(error.errno or 0)}, with {free} free. The checkpoints '
        f'before it are whole. Free space, then go on with --resume. Largest checkpoints in {path.parent}: '
        f'{shown or "none"}. default_hooks.checkpoint.max_keep_ckpts limits their number'
    )


def _size_text(size: float) -> str:
    return f'{size / 1e9:.3g} GB' if size >= 1e9 else f'{size / 1e6:.3g} MB'
