"""Handling of unreadable files in loading transforms."""

from __future__ import annotations

import torch

from resformer_mm.repairs import tell_once

MAX_WORKERS = 1024
MOST_NAMED = 20
"""Number of skipped files that are named; the others are counted."""


class UnreadableFiles:
    """Raises an error for an unreadable file, or skips and counts it.

    Args:
        owner: name of the transform, for messages.
        on_error: 'raise' raises an error; 'skip' (training only) counts the file and makes the data set
            choose another sample. The first :data:`MOST_NAMED` files are named, once each.

    Raises:
        ValueError: ``on_error`` is unknown.
    """

    def __init__(self, owner: str, on_error: str) -> None:
        if on_error not in ('raise', 'skip'):
            raise ValueError(f"{owner}: on_error={on_error!r} is unknown: choose 'raise' or 'skip'")
        self.owner = owner
        self.on_error = on_error
        # Shared between processes; each has its own slot (0: the main process), so no count is lost.
        self._skipped = torch.zeros(MAX_WORKERS + 1, dtype=torch.int64).share_memory_()
        self._named = torch.zeros(MAX_WORKERS + 1, dtype=torch.int64).share_memory_()

    @property
    def num_skipped(self) -> int:
        """Number of reads skipped so far, in all worker processes."""
        return int(self._skipped.sum())

    def skip_or_raise(
        self, reason: str, kind: type[Exception], cause: Exception, is_missing: bool = False
    ) -> None:
        """Count a file as skipped, or raise an error of type ``kind``.

        Args:
            reason: message that names the file and the problem.
            kind: type of the error to raise.
            cause: the error that occurred while reading.
            is_missing: whether there is no such file.
        """
        if self.on_error == 'raise':
            remedy = 'Repair or remove the file'
            if is_missing:
                remedy = 'Add it, or correct the path in the annotations, data_root or data_prefix'
            raise kind(
                f'{reason}. {remedy}. To skip and count such files in training, use '
                f"dict(type='resformer_mm.{self.owner}', on_error='skip')"
            ) from cause
        worker = torch.utils.data.get_worker_info()
        slot = 0 if worker is None else worker.id + 1
        self._skipped[slot] += 1
        if self._named.sum() < MOST_NAMED:
            self._named[slot] += tell_once(f'skipped: {reason}')
