"""Limits of the memory that a file with weights may take."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field

import torch

SHARING = 8
"""A file may take so many times its size: tensors may share data, and records may be compressed."""
SLACK = 2**30
"""Bytes that any file may take besides that."""


class TooLargeError(pickle.UnpicklingError):
    """A file whose content would take far more memory than the file has bytes."""


@dataclass
class MemoryLimits:
    """What a file may take in memory.

    Attributes:
        size: bytes of the file.
        records: name of a record of an archive -> its bytes; None for the format before PyTorch 1.6.
        spent: bytes that the content takes so far, estimated from above.
    """

    size: int
    records: dict[str, int] | None = None
    spent: int = field(default=0, init=False)

    def spend(self, number: int) -> None:
        """Add bytes that are about to be taken.

        Raises:
            TooLargeError: it would be too many.
        """
        self.spent += number
        if self.spent > SHARING * self.size + SLACK:
            raise TooLargeError(
                f'its content would take {self.spent} bytes of memory or more, but the file has {self.size}'
            )

    def check_storage(self, reference: object) -> None:
        """Check that the data of a storage is as long as declared; PyTorch before 2.10 does not.

        Raises:
            pickle.UnpicklingError: it is shorter, or the reference is not one to a storage.
        """
        fields = 6 if self.records is None else 5
        if (
            not isinstance(reference, tuple)
            or len(reference) != fields
            or reference[0] != 'storage'
            or not isinstance(reference[4], int)
        ):
            raise pickle.UnpicklingError('unexpected reference to a storage')
        _, kind, key, _, number = reference[:5]
        dtype = torch.uint8 if kind is torch.UntypedStorage else kind.dtype
        expected = number * torch._utils._element_size(dtype)
        found = self.size if self.records is None else self.records.get(f'data/{key}', 0)
        if not 0 <= expected <= found:
            raise pickle.UnpicklingError(f'a tensor has {found} bytes of data instead of {expected}')
