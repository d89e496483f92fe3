"""Reading of PyTorch files with tensors, NumPy arrays and plain containers, without running code.

``torch.load(..., weights_only=True)`` before PyTorch 2.6 has two defects:

1. It accepts no further types, so the checkpoints of MMEngine's runner cannot be read.
2. It runs code of files in the TorchScript and tar formats (CVE-2025-32434).

For these versions, this module has an unpickler of its own. Every name in a file is looked up in a table of
harmless functions; nothing is imported. Objects are called, instantiated and given a state only if the table
says so, and instructions that PyTorch does not write are refused.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

__all__ = ['load_weights_only']

MapLocation = str | torch.device | Callable | None

# The functions with which NumPy rebuilds arrays and scalars, under the names that NumPy 1 and 2 write.
_RECONSTRUCT, _SCALAR = np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0]
_NUMPY_CORES = ('numpy.core', 'numpy._core')
_NUMBERS = np.typecodes['AllInteger'] + np.typecodes['AllFloat'] + '?'
_NUMPY_GLOBALS: list = [
    (np.ndarray, 'numpy.ndarray'),
    (np.dtype, 'numpy.dtype'),
    *{type(np.dtype(code)) for code in _NUMBERS},
    *((_RECONSTRUCT, f'{core}.multiarray._reconstruct') for core in _NUMPY_CORES),
    *((_SCALAR, f'{core}.multiarray.scalar') for core in _NUMPY_CORES),
]
_ZIP_MAGIC = b'PK\x03\x04'
_FORCE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'


def load_weights_only(
    path: str | Path, map_location: MapLocation, replacements: Mapping[str, type] | None = None
) -> Any:
    """Return the content of a file.

    Args:
        path: the file.
        map_location: device of the tensors, as in :func:`torch.load`.
        replacements: full name of a class or function in the file -> class to be used in its place. It is
            instantiated with any arguments and its ``__setstate__`` gets any state, so both must be harmless.

    Raises:
        pickle.UnpicklingError: the file contains anything else, or is damaged. A damaged file can also raise
            other errors.
    """
    replacements = replacements or {}
    if torch.__version__ >= '2.6':
        named = [(kind, name) for name, kind in replacements.items()]
        with torch.serialization.safe_globals([*named, *_NUMPY_GLOBALS]):
            return torch.load(path, map_location=map_location, weights_only=True)
    with open(path, 'rb') as file:
        return _load_restricted(file, map_location, replacements)


def _load_restricted(file: BinaryIO, map_location: MapLocation, replacements: Mapping[str, type]) -> Any:
    is_zip = file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC
    file.seek(0)
    if is_zip:
        # By the reader of torch.load, which hands such archives to torch.jit.load.
        if 'constants.pkl' in torch._C.PyTorchFileReader(file).get_all_records():
            raise pickle.UnpicklingError('TorchScript archives can contain code')
        file.seek(0)
    else:
        # torch.load tries the tar format for files on disk only.
        file = io.BytesIO(file.read())

    class Unpickler(RestrictedUnpickler):
        def __init__(self, stream: BinaryIO, **kwargs) -> None:
            super().__init__(stream, replacements, **kwargs)

    class Restricted:
        """What :func:`torch.load` uses of the module ``pickle``."""

        @staticmethod
        def load(stream: BinaryIO, **kwargs) -> Any:
            return Unpickler(stream, **kwargs).load()

    Restricted.Unpickler = Unpickler  # type: ignore[attr-defined]
    with _without_forced_reader():
        return torch.load(file, map_location, Restricted, weights_only=False)


@contextlib.contextmanager
def _without_forced_reader() -> Iterator[None]:
    """Hide the variable that makes ``torch.load`` use its own restricted reader, and no other."""
    value = os.environ.pop(_FORCE, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[_FORCE] = value


def _text_to_bytes(text: str, encoding: str) -> bytes:
    """Return the bytes that pickle writes as text in protocol 2."""
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'unexpected encoding {encoding!r}')
    return text.encode('latin1')


def _make_dtype(code: str, align: bool = False, copy: bool = False) -> np.dtype:
    """Return a new type of numbers; types with objects or fields are refused."""
    if not isinstance(code, str) or not re.fullmatch(r'b1|[iufc]\d{1,2}', code):
        raise pickle.UnpicklingError(f'Unsupported global: GLOBAL numpy.dtype.{code}')
    return np.dtype(code, copy=True)


def _make_scalar(dtype: np.dtype, data: bytes) -> np.generic:
    if not isinstance(dtype, np.dtype) or not isinstance(data, bytes):
        raise pickle.UnpicklingError('unexpected arguments of a NumPy scalar')
    (scalar,) = np.frombuffer(data, dtype)
    return scalar


def _make_array(*args: object) -> np.ndarray:
    """Return an empty array, which :func:`_fill_array` fills."""
    return np.empty(0)


def _fill_array(array: np.ndarray, state: tuple) -> None:
    _, shape, dtype, fortran, data = state
    if not (
        isinstance(dtype, np.dtype)
        and isinstance(data, bytes)
        and all(isinstance(length, int) and length >= 0 for length in shape)
    ):
        raise pickle.UnpicklingError('unexpected state of a NumPy array')
    array.__setstate__((1, tuple(shape), dtype, bool(fortran), data))  # type: ignore[arg-type]


def _set_byte_order(dtype: np.dtype, state: tuple) -> None:
    """Set the byte order; everything else in the state of a dtype of numbers is constant."""
    if state[1] not in ('<', '>', '|', '='):
        raise pickle.UnpicklingError('unexpected state of a NumPy dtype')
    dtype.__setstate__((3, state[1], None, None, None, -1, -1, 0))  # type: ignore[attr-defined]


# Without types, as its methods are not part of the type stubs.
_PythonUnpickler: Any = pickle._Unpickler
# Name in a file -> function that may be called with any arguments.
_FUNCTIONS: dict[str, Callable] = {
    'collections.OrderedDict': OrderedDict,
    'builtins.set': set,
    'builtins.complex': complex,
    '_codecs.encode': _text_to_bytes,
    'torch.Size': torch.Size,
    'torch.device': torch.device,
    'torch._utils._rebuild_tensor': torch._utils._rebuild_tensor,
    'torch._utils._rebuild_tensor_v2': torch._utils._rebuild_tensor_v2,
    'torch._utils._rebuild_parameter': torch._utils._rebuild_parameter,
    'numpy.dtype': _make_dtype,
    **{f'{core}.multiarray._reconstruct': _make_array for core in _NUMPY_CORES},
    **{f'{core}.multiarray.scalar': _make_scalar for core in _NUMPY_CORES},
}
# Name in a file -> object that is only passed on.
_VALUES: dict[str, object] = {
    'numpy.ndarray': 'numpy.ndarray',
    'torch.storage.UntypedStorage': torch.UntypedStorage,
    **{str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)},
}


class RestrictedUnpickler(_PythonUnpickler):
    """An unpickler for the files of :func:`torch.save` that calls functions of a fixed table alone.

    It derives from the implementation of the standard library in Python, because the one in C cannot restrict
    what is done with the objects that were looked up.

    Args:
        stream: the pickled data.
        replacements: as in :func:`load_weights_only`.
        **kwargs: passed to :class:`pickle.Unpickler`.
    """

    def __init__(self, stream: BinaryIO, replacements: Mapping[str, type], **kwargs) -> None:
        super().__init__(stream, **kwargs)
        self.functions = {**_FUNCTIONS, **replacements}
        self.kinds = tuple(replacements.values())

    def find_class(self, module: str, name: str) -> Any:
        """Return the object of a name from the table, without importing anything.

        Raises:
            pickle.UnpicklingError: the name is not in the table.
        """
        full_name = f'{module.replace("__builtin__", "builtins")}.{name}'
        for table in (self.functions, _VALUES):
            if full_name in table:
                return table[full_name]
        raise pickle.UnpicklingError(f'Unsupported global: GLOBAL {full_name}')

    def load_reduce(self) -> None:
        """Call a function of the table."""
        arguments = self.stack.pop()
        function = self.stack[-1]
        if not any(function is known for known in self.functions.values()):
            raise pickle.UnpicklingError(f'{function!r} is called')
        self.stack[-1] = function(*arguments)

    def load_newobj(self) -> None:
        """Instantiate a replacement."""
        self.stack.pop()
        kind = self.stack.pop()
        if not any(kind is known for known in self.kinds):
            raise pickle.UnpicklingError(f'{kind!r} is instantiated')
        self.append(kind())

    def load_build(self) -> None:
        """Set the state of an array, a dtype, a replacement, or the attributes of a state dict."""
        state = self.stack.pop()
        instance = self.stack[-1]
        if isinstance(instance, np.dtype):
            _set_byte_order(instance, state)
        elif type(instance) is np.ndarray:
            _fill_array(instance, state)
        elif type(instance) is OrderedDict:
            vars(instance).update(state)
        elif type(instance) in self.kinds:
            instance.__setstate__(state)
        else:
            raise pickle.UnpicklingError(f'the state of a {type(instance).__name__} is set')

    def load_append(self) -> None:
        """Append to a list."""
        self._check_container(self.stack[-2], list)
        super().load_append()

    def load_appends(self) -> None:
        """Extend a list."""
        self._check_container(self.metastack[-1][-1], list)
        super().load_appends()

    def load_setitem(self) -> None:
        """Set an item of a dict."""
        self._check_container(self.stack[-3], dict, OrderedDict)
        super().load_setitem()

    def load_setitems(self) -> None:
        """Set items of a dict."""
        self._check_container(self.metastack[-1][-1], dict, OrderedDict)
        super().load_setitems()

    def _check_container(self, container: object, *kinds: type) -> None:
        if type(container) not in kinds:
            raise pickle.UnpicklingError(f'items of a {type(container).__name__} are set')

    def _refuse(self) -> None:
        raise pickle.UnpicklingError('an instruction is found that PyTorch does not write')

    _restricted = {
        pickle.REDUCE: load_reduce,
        pickle.NEWOBJ: load_newobj,
        pickle.BUILD: load_build,
        pickle.APPEND: load_append,
        pickle.APPENDS: load_appends,
        pickle.SETITEM: load_setitem,
        pickle.SETITEMS: load_setitems,
    }
    _harmless = (
        *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK),
        *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE),
        *(pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT),
        *(pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8),
        *(pickle.BINSTRING, pickle.SHORT_BINSTRING),
        *(pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.BINBYTES8),
        *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
        *(pickle.EMPTY_LIST, pickle.EMPTY_DICT, pickle.EMPTY_SET),
        *(pickle.BINGET, pickle.LONG_BINGET, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE),
        # These two call find_class and persistent_load; the latter is that of torch.load.
        *(pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.BINPERSID),
    )
    dispatch = {
        **dict.fromkeys(range(256), _refuse),
        **{code[0]: _PythonUnpickler.dispatch[code[0]] for code in _harmless},
        **{code[0]: method for code, method in _restricted.items()},
    }
