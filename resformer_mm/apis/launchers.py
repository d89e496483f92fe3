"""Launchers of several processes, and what they tell each process."""

from __future__ import annotations

import logging
import os

from mmengine.device import get_device
from mmengine.logging import MMLogger

# The variables with the rank of a process and the number of processes.
PLACES = {
    'pytorch': ('RANK', 'WORLD_SIZE'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE'),
}
STARTERS = {
    'pytorch': 'tools/dist_train.sh, tools/dist_test.sh or torchrun',
    'slurm': 'tools/slurm_train.sh, tools/slurm_test.sh or srun',
    'mpi': 'mpirun of Open MPI',
}


def check_launcher(launcher: str) -> None:
    """Check that a launcher has started this process, and that there are the devices that it needs.

    Raises:
        ValueError: it has not, or it needs GPUs and there are none.
    """
    if launcher == 'none':
        return
    if launcher != 'pytorch' and get_device() == 'cpu':
        raise ValueError(
            f'--launcher {launcher} needs GPUs: without any, start the tool with tools/dist_train.sh or '
            'tools/dist_test.sh, which set --launcher pytorch'
        )
    missing = [name for name in PLACES[launcher] if name not in os.environ]
    if missing:
        raise ValueError(
            f'--launcher {launcher}: the variable {missing[0]} is not set, so no launcher has started this '
            f'process. Start the tool with {STARTERS[launcher]}, or leave out --launcher'
        )


def place(launcher: str) -> tuple[int, int]:
    """Return the rank of this process and the number of processes."""
    if launcher == 'none':
        return 0, 1
    rank, size = PLACES[launcher]
    return int(os.environ[rank]), int(os.environ[size])


def let_first_process_speak(launcher: str) -> None:
    """Let the current logger of all processes but the first say errors alone.

    MMEngine does so for loggers that are made after the processes are connected.
    """
    rank, _ = place(launcher)
    if rank:
        for handler in MMLogger.get_current_instance().handlers:
            handler.setLevel(logging.ERROR)
