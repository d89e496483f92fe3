"""Reading of PyTorch files with tensors, NumPy arrays and plain containers, without running code.

``torch.load(..., weights_only=True)`` has these defects:

1. Before PyTorch 2.6 it accepts no further types, so the checkpoints of MMEngine's runner cannot be read.
2. Before PyTorch 2.6 it runs code of files in the TorchScript and tar formats (CVE-2025-32434).
3. Before PyTorch 2.10 a tensor whose data in the file is too short is filled from memory beyond it.
4. In every version, the types in a file must be known by name before it is read.

For these versions, and for files with types that are only known by the kind of their name, this module has an
unpickler of its own. Every name in a file is looked up in a table of harmless functions; nothing is imported.
Objects are called, instantiated and given a state only if the table says so, and instructions that PyTorch
does not write are refused.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import re
import zipfile
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
# Function from the full name of an unknown class to what is used in its place; None refuses the name.
StandIns = Callable[[str], Callable | None]
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
        pickle.UnpicklingError: the file contains anything else, or is damaged. A damaged file can also raise
            other errors.
    """
    replacements = replacements or {}
    if torch.__version__ >= '2.10':
        named = [(kind, name) for name, kind in replacements.items()]
        try:
            with torch.serialization.safe_globals([*named, *_NUMPY_GLOBALS]):
                return torch.load(path, map_location=map_location, weights_only=True)
        except pickle.UnpicklingError:
            if stand_ins is None:
                raise
    with open(path, 'rb') as file:
        return _load_restricted(file, map_location, replacements, stand_ins)


def _load_restricted(
    file: BinaryIO,
    map_location: MapLocation,
    replacements: Mapping[str, type],
    stand_ins: StandIns | None = None,
) -> Any:
    sizes: dict[str, int] | None = None
    is_zip = file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC
    file.seek(0)
    if is_zip:
        # By the reader of torch.load, which hands such archives to torch.jit.load.
        if 'constants.pkl' in torch._C.PyTorchFileReader(file).get_all_records():
            raise pickle.UnpicklingError('TorchScript archives can contain code')
        file.seek(0)
        # The names of records without the folder that they share.
        with zipfile.ZipFile(file) as archive:
            sizes = {entry.filename.partition('/')[2]: entry.file_size for entry in archive.infolist()}
        file.seek(0)
    else:
        # torch.load tries the tar format for files on disk only.
        file = io.BytesIO(file.read())

    class Unpickler(RestrictedUnpickler):
        def __init__(self, stream: BinaryIO, **kwargs) -> None:
            super().__init__(stream, replacements, stand_ins, sizes, **kwargs)

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


class OtherType:
    """A type of NumPy of other things than numbers, an array or a scalar of it, as the file says."""

    def __init__(self, code: object, content: object = None) -> None:
        self.code = code
        self.content = content


def _make_any_dtype(code: str, align: bool = False, copy: bool = False) -> np.dtype | OtherType:
    try:
        return _make_dtype(code)
    except pickle.UnpicklingError:
        return OtherType(code)


def _make_any_scalar(dtype: np.dtype | OtherType, data: object) -> object:
    if not isinstance(dtype, OtherType):
        return _make_scalar(dtype, data)  # type: ignore[arg-type]
    if isinstance(data, bytes) and str(dtype.code).startswith('U'):
        return data.decode('utf-32-le')
    return OtherType(dtype.code, data)


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


def _has_other_type(state: object) -> bool:
    return isinstance(state, tuple) and len(state) == 5 and isinstance(state[2], OtherType)


def _set_byte_order(dtype: np.dtype, state: tuple) -> None:
    """Set the byte order; everything else in the state of a dtype of numbers is constant."""
    if state[1] not in ('<', '>', '|', '='):
        raise pickle.UnpicklingError('unexpected state of a NumPy dtype')
    dtype.__setstate__((3, state[1], None, None, None, -1, -1, 0))  # type: ignore[attr-defined]


def _check_storage(pid: object, sizes: Mapping[str, int]) -> None:
    """Check that the data of a storage is as long as declared; PyTorch before 2.10 does not."""
    if not isinstance(pid, tuple) or len(pid) != 5 or not isinstance(pid[4], int):
        raise pickle.UnpicklingError('unexpected reference to a storage')
    _, kind, key, _, number = pid
    dtype = torch.uint8 if kind is torch.UntypedStorage else kind.dtype
    expected, found = number * torch._utils._element_size(dtype), sizes.get(f'data/{key}', 0)
    if found < expected:
        raise pickle.UnpicklingError(f'a tensor has {found} bytes of data instead of {expected}')


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
        stand_ins: as in :func:`load_weights_only`.
        sizes: name of a record of the archive -> its size in bytes, to check the data of tensors.
        **kwargs: passed to :class:`pickle.Unpickler`.
    """

    def __init__(
        self,
        stream: BinaryIO,
        replacements: Mapping[str, type],
        stand_ins: StandIns | None = None,
        sizes: Mapping[str, int] | None = None,
        **kwargs,
    ) -> None:
        super().__init__(stream, **kwargs)
        self.functions: dict[str, Callable] = {**_FUNCTIONS, **replacements}
        if stand_ins is not None:
            self.functions['numpy.dtype'] = _make_any_dtype
            self.functions.update({f'{core}.multiarray.scalar': _make_any_scalar for core in _NUMPY_CORES})
        self.kinds: list[Callable] = list(replacements.values())
        self.stand_ins = stand_ins
        self.sizes = sizes

    def find_class(self, module: str, name: str) -> Any:
        """Return the object of a name from the table, without importing anything.

        Raises:
            pickle.UnpicklingError: the name is not in the table.
        """
        full_name = f'{module.replace("__builtin__", "builtins")}.{name}'
        for table in (self.functions, _VALUES):
            if full_name in table:
                return table[full_name]
        if self.stand_ins is not None and (stand_in := self.stand_ins(full_name)) is not None:
            self.functions[full_name] = stand_in
            self.kinds.append(stand_in)
            return stand_in
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
        arguments = self.stack.pop()
        kind = self.stack.pop()
        if not any(kind is known for known in self.kinds):
            raise pickle.UnpicklingError(f'{kind!r} is instantiated')
        self.append(kind(*arguments))

    def load_build(self) -> None:
        """Set the state of an array, a dtype, a replacement, or the attributes of a state dict."""
        state = self.stack.pop()
        instance = self.stack[-1]
        if isinstance(instance, np.dtype):
            _set_byte_order(instance, state)
        elif type(instance) is np.ndarray and self.stand_ins is not None and _has_other_type(state):
            self._replace(instance, OtherType(state[2].code, state))
        elif type(instance) is np.ndarray:
            _fill_array(instance, state)
        elif type(instance) is OtherType:
            instance.content = state
        elif type(instance) is OrderedDict:
            vars(instance).update(state)
        elif type(instance) in self.kinds:
            instance.__setstate__(state)
        else:
            raise pickle.UnpicklingError(f'the state of a {type(instance).__name__} is set')

    def load_append(self) -> None:
        """Append to a list."""
        self._check_container(self.stack[-2], list, *self.kinds)
        super().load_append()

    def load_appends(self) -> None:
        """Extend a list."""
        self._check_container(self.metastack[-1][-1], list, *self.kinds)
        super().load_appends()

    def load_setitem(self) -> None:
        """Set an item of a dict."""
        self._check_container(self.stack[-3], dict, OrderedDict, *self.kinds)
        super().load_setitem()

    def load_setitems(self) -> None:
        """Set items of a dict."""
        self._check_container(self.metastack[-1][-1], dict, OrderedDict, *self.kinds)
        super().load_setitems()

    def load_additems(self) -> None:
        """Add to a set."""
        self._check_container(self.metastack[-1][-1], set)
        super().load_additems()

    def load_binpersid(self) -> None:
        """Load the storage of a tensor, by the function of :func:`torch.load`."""
        if self.sizes is not None:
            _check_storage(self.stack[-1], self.sizes)
        super().load_binpersid()

    def _replace(self, instance: object, other: object) -> None:
        """Put another object in the place of the last one."""
        self.stack[-1] = other
        self.memo: dict[int, object] = {
            key: other if value is instance else value for key, value in self.memo.items()
        }

    def _check_container(self, container: object, *kinds: Callable) -> None:
        if not any(type(container) is kind for kind in kinds):
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
        pickle.ADDITEMS: load_additems,
        pickle.BINPERSID: load_binpersid,
    }
    _harmless = (
        *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK),
        *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE),
        *(pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT),
        *(pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8),
        *(pickle.BINSTRING, pickle.SHORT_BINSTRING),
        *(pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.BINBYTES8),
        *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
        *(pickle.EMPTY_LIST, pickle.EMPTY_DICT, pickle.EMPTY_SET, pickle.FROZENSET),
        *(pickle.BINGET, pickle.LONG_BINGET, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE),
        *(pickle.GLOBAL, pickle.STACK_GLOBAL),  # both call find_class
    )
    dispatch = {
        **dict.fromkeys(range(256), _refuse),
        **{code[0]: _PythonUnpickler.dispatch[code[0]] for code in _harmless},
        **{code[0]: method for code, method in _restricted.items()},
    }
