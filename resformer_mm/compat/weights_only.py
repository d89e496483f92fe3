"""Reading of PyTorch files with tensors, NumPy arrays and plain containers, without running code.

``torch.load(..., weights_only=True)`` has these defects:

1. Before PyTorch 2.6 it accepts no further types, so the checkpoints of MMEngine's runner cannot be read.
2. Before PyTorch 2.6 it runs code of files in the TorchScript and tar formats (CVE-2025-32434).
3. Before PyTorch 2.10 a tensor whose data in the file is too short is filled from memory beyond it.
4. In every version, the types in a file must be known by name before it is read.
5. In every version, a small file can fill the memory (compressed records, huge buffers) or crash the process
   (deeply nested keys), and the state of NumPy's types can be forged once they are accepted.

Therefore files are read by an unpickler of this package. Every name in a file is looked up in a table of
harmless functions; nothing is imported. Objects are called, instantiated and given a state only if the table
says so, and instructions that PyTorch does not write are refused. Memory is limited by the size of the file.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from .memory_limits import SHARING, MemoryLimits, TooLargeError
from .restricted_unpickler import RestrictedUnpickler, StandIns

__all__ = ['TooLargeError', 'load_weights_only']

MapLocation = str | torch.device | Callable | None

_ZIP_MAGIC = b'PK\x03\x04'
_FORCE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'


def load_weights_only(
    path: str | Path,
    map_location: MapLocation,
    replacements: Mapping[str, type] | None = None,
    stand_ins: StandIns | None = None,
) -> Any:
    """Return the content of a file.

    Args:
        path: the file.
        map_location: device of the tensors, as in :func:`torch.load`.
        replacements: full name of a class or function in the file -> class to be used in its place. It is
            instantiated with any arguments and its ``__setstate__`` gets any state, so both must be harmless.
        stand_ins: the same for names that are not known in advance, asked for every other name.

    Raises:
        TooLargeError: the content would take far more memory than the file has bytes.
        pickle.UnpicklingError: the file contains anything else, or is damaged. A damaged file can also raise
            other errors.
    """
    with _Stream(path) as file:
        limits = MemoryLimits(file.size)
        if file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC:
            limits.records = _records(file)
        file.seek(0)

        class Unpickler(RestrictedUnpickler):
            def __init__(self, stream: BinaryIO, **kwargs) -> None:
                super().__init__(stream, replacements or {}, stand_ins, limits, **kwargs)

        class Restricted:
            """What :func:`torch.load` uses of the module ``pickle``."""

            @staticmethod
            def load(stream: BinaryIO, **kwargs) -> Any:
                return Unpickler(stream, **kwargs).load()

        Restricted.Unpickler = Unpickler  # type: ignore[attr-defined]
        with _without_forced_reader():
            return torch.load(file, map_location, Restricted, weights_only=False)


class _Stream(io.BufferedReader):
    """A file without a descriptor, because ``torch.load`` tries to read a file on disk as a tar archive."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(io.FileIO(path))
        self.size = self.raw.seek(0, os.SEEK_END)
        self.seek(0)

    def fileno(self) -> int:
        raise io.UnsupportedOperation('fileno')

    def read(self, number: int | None = -1) -> bytes:
        """Return the next bytes; no memory is taken for more than there are."""
        return super().read(number if number is None else min(number, self.size))


def _records(file: _Stream) -> dict[str, int]:
    """Return name and size of the records of an archive.

    Raises:
        TooLargeError: they are far larger than the archive.
        pickle.UnpicklingError: the archive is one of TorchScript.
    """
    file.seek(0)
    # By the reader of torch.load, which hands such archives to torch.jit.load.
    if 'constants.pkl' in torch._C.PyTorchFileReader(file).get_all_records():
        raise pickle.UnpicklingError('TorchScript archives can contain code')
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    total = sum(entry.file_size for entry in entries)
    if total > SHARING * file.size:
        raise TooLargeError(f'its records are {total} bytes, compressed to {file.size}')
    # Without the folder that the records share.
    return {entry.filename.partition('/')[2]: entry.file_size for entry in entries}


@contextlib.contextmanager
def _without_forced_reader() -> Iterator[None]:
    """Hide the variable that makes ``torch.load`` use its own restricted reader, and no other."""
    value = os.environ.pop(_FORCE, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[_FORCE] = value
