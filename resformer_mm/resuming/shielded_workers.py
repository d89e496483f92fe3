"""Loader workers that live on when a signal asks their process to stop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

from torch.utils.data import DataLoader


class Shield:
    """Function that a worker calls first: only the process that it works for can then stop it.

    torchrun and Slurm send a signal to the workers too, and PyTorch raises an error in a process whose worker
    ends, in the middle of the step that the process wants to finish.

    Args:
        inner: function that is called afterwards; None if there is none.
    """

    def __init__(self, inner: Callable[[int], None] | None) -> None:
        self.inner = inner

    def __call__(self, worker_id: int) -> None:
        """Ignore the signals, except those of the parent."""
        for name in ('SIGUSR1', 'SIGINT'):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        if hasattr(signal, 'sigwaitinfo'):  # not on macOS
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            threading.Thread(target=_obey_parent, args=(os.getppid(),), daemon=True).start()
        if self.inner is not None:
            self.inner(worker_id)


def _obey_parent(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def shield_workers(loader: DataLoader) -> None:
    """Shield the workers that a loader will start."""
    if not isinstance(loader.worker_init_fn, Shield):
        loader.worker_init_fn = Shield(loader.worker_init_fn)
