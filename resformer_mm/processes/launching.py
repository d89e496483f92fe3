"""What a process knows of its launcher, and what it tells it."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from mmengine.dist import all_gather_object

# A folder of the launcher on this machine.
FOLDER = 'RESFORMER_MM_LAUNCH'
_STARTED, _STATUS = 'started', 'status'


def launch_name() -> str:
    """Return the name of the launch, which is the same after a restart."""
    job = os.environ.get('SLURM_JOB_ID')
    return f'slurm {job}' if job else f'torchrun {os.environ.get("TORCHELASTIC_RUN_ID", "none")}'


@cache
def is_restarted() -> bool:
    """Whether a launcher has started this process before, as far as is known on this machine.

    torchrun counts its restarts on every machine, but neither on one that joins anew, nor when it restarts
    the processes because one has joined.
    """
    counts = [int(os.environ.get(f'{name}_RESTART_COUNT', 0)) for name in ('TORCHELASTIC', 'SLURM')]
    folder = os.environ.get(FOLDER)
    is_torchrun = 'TORCHELASTIC_RUN_ID' in os.environ
    if folder is None or not is_torchrun or os.environ.get('LOCAL_RANK') != '0':
        return any(counts)
    Path(folder, _STATUS).unlink(missing_ok=True)  # of the processes before
    try:
        Path(folder, _STARTED).touch(exist_ok=False)
    except FileExistsError:
        return True
    return any(counts)


def any_restarted() -> bool:
    """Whether a launcher has started a process of the run before; call it in all processes."""
    return any(all_gather_object(is_restarted()))


def exit_status(status: int) -> int:
    """Return what a process should end with, for its launcher to end with a status.

    torchrun takes all but 0 for a failure, restarts the processes and ends with 1. Slurm may kill the others.
    """
    folder = os.environ.get(FOLDER)
    if folder is None:
        return status
    Path(folder, _STATUS).write_text(str(status))
    return 0


def noted_status(folder: str) -> int | None:
    """Return the status that the processes want their launcher to end with; None if there is none."""
    path = Path(folder, _STATUS)
    return int(path.read_text()) if path.exists() else None
