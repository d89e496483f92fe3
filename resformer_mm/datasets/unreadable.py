"""What a loading transform does about a file that it cannot read."""

from __future__ import annotations

import logging

import torch
from mmengine.logging import print_log

MAX_WORKERS = 1024


class UnreadableFiles:
    """Stops at a file that cannot be read, or skips and counts it.

    Args:
        owner: name of the transform, for messages.
        on_error: 'raise' stops; 'skip' (training only) warns, counts and lets the data set take another
            sample.

    Raises:
        ValueError: ``on_error`` is unknown.
    """

    def __init__(self, owner: str, on_error: str) -> None:
        if on_error not in ('raise', 'skip'):
            raise ValueError(f"{owner}: on_error={on_error!r}, choose 'raise' or 'skip'")
        self.owner = owner
        self.on_error = on_error
        # Shared with the worker processes, one slot each (slot 0: the main process), so that none is lost.
        self._skipped = torch.zeros(MAX_WORKERS + 1, dtype=torch.int64).share_memory_()

    @property
    def num_skipped(self) -> int:
        """Number of reads that were skipped so far, in all worker processes."""
        return int(self._skipped.sum())

    def give_up(self, reason: str, kind: type[Exception], cause: Exception) -> None:
        """Note the file as skipped, or raise.

        Args:
            reason: names the file and what is the matter with it.
            kind: type of the error.
            cause: what was raised by the reading.
        """
        if self.on_error == 'raise':
            raise kind(
                f'{reason}. Repair or remove the file; training data may also be skipped and counted with '
                f"dict(type='resformer_mm.{self.owner}', on_error='skip')"
            ) from cause
        worker = torch.utils.data.get_worker_info()
        self._skipped[0 if worker is None else worker.id + 1] += 1
        print_log(f'skipped: {reason}', logger='current', level=logging.WARNING)
