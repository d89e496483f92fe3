"""Harmless functions in the place of those that a pickled file calls."""

from __future__ import annotations

import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable

import numpy as np
import torch

# The modules of the functions with which NumPy rebuilds arrays and scalars, as NumPy 1 and 2 write them.
_NUMPY_CORES = ('numpy.core', 'numpy._core')
_MOST_PARTS = 64
"""Parts of a key of a dict or set, however they are nested."""


class OtherType:
    """A type of NumPy of other things than numbers, an array or a scalar of it, as the file says."""

    def __init__(self, code: object, content: object = None) -> None:
        self.code = code
        self.content = content


def check_key(key: object) -> None:
    """Check a key of a dict or set: the hash of nested tuples takes any time, and all of the stack.

    Raises:
        pickle.UnpicklingError: it is a tuple of too many parts.
    """
    if isinstance(key, str):
        return
    parts = [key]
    for number in range(_MOST_PARTS):
        if number == len(parts):
            return
        if isinstance(parts[number], (tuple, frozenset)):
            parts += list(parts[number])[:_MOST_PARTS]  # type: ignore[call-overload]
    if len(parts) > _MOST_PARTS:
        raise pickle.UnpicklingError('a key of a dict or set has too many parts')


def fill_array(array: np.ndarray, state: tuple) -> None:
    """Set shape, type and data of an array of numbers.

    Raises:
        pickle.UnpicklingError: the state is not that of such an array.
    """
    _, shape, dtype, fortran, data = state
    if not (
        isinstance(dtype, np.dtype)
        and isinstance(data, bytes)
        and all(isinstance(length, int) and length >= 0 for length in shape)
        and math.prod(shape) * dtype.itemsize == len(data)
    ):
        raise pickle.UnpicklingError('unexpected state of a NumPy array')
    array.__setstate__((1, tuple(shape), dtype, bool(fortran), data))  # type: ignore[arg-type]


def set_byte_order(dtype: np.dtype, state: tuple) -> None:
    """Set the byte order; everything else in the state of a dtype of numbers is constant.

    Raises:
        pickle.UnpicklingError: it is not a byte order.
    """
    if state[1] not in ('<', '>', '|', '='):
        raise pickle.UnpicklingError('unexpected state of a NumPy dtype')
    dtype.__setstate__((3, state[1], None, None, None, -1, -1, 0))  # type: ignore[attr-defined]


def _text_to_bytes(text: str, encoding: str) -> bytes:
    """Return the bytes that pickle writes as text in protocol 2."""
    if encoding != 'latin1':
        raise pickle.UnpicklingError('a text has an unexpected encoding')
    return text.encode('latin1')


def _make_set(values: Iterable = ()) -> set:
    values = list(values)
    for value in values:
        check_key(value)
    return set(values)


def _make_ordered_dict(items: Iterable = ()) -> OrderedDict:
    pairs = list(items.items() if isinstance(items, dict) else items)
    for key, _ in pairs:
        check_key(key)
    return OrderedDict(pairs)


def _make_dtype(code: str, align: bool = False, copy: bool = False) -> np.dtype:
    """Return a new type of numbers; types with objects or fields are refused."""
    if not isinstance(code, str) or not re.fullmatch(r'b1|[iufc]\d{1,2}', code):
        shown = f'.{code[:20]}' if isinstance(code, str) else ''
        raise pickle.UnpicklingError(f'Unsupported global: GLOBAL numpy.dtype{shown}')
    return np.dtype(code, copy=True)


def _make_any_dtype(code: str, align: bool = False, copy: bool = False) -> np.dtype | OtherType:
    try:
        return _make_dtype(code)
    except pickle.UnpicklingError:
        return OtherType(code)


def _make_scalar(dtype: np.dtype, data: bytes) -> np.generic:
    if not isinstance(dtype, np.dtype) or not isinstance(data, bytes):
        raise pickle.UnpicklingError('unexpected arguments of a NumPy scalar')
    (scalar,) = np.frombuffer(data, dtype)
    return scalar


def _make_any_scalar(dtype: np.dtype | OtherType, data: object) -> object:
    if not isinstance(dtype, OtherType):
        return _make_scalar(dtype, data)  # type: ignore[arg-type]
    if isinstance(data, bytes) and isinstance(dtype.code, str) and dtype.code.startswith('U'):
        return data.decode('utf-32-le')
    return OtherType(dtype.code, data)


def _make_array(*args: object) -> np.ndarray:
    """Return an empty array, which :func:`fill_array` fills."""
    return np.empty(0)


def _make_parameter(data: torch.Tensor, requires_grad: bool, hooks: object, state: object = None) -> object:
    """Return a parameter without the hooks and attributes that were set on it."""
    return torch._utils._rebuild_parameter(data, requires_grad, OrderedDict())


# Name in a file -> function that may be called with any arguments.
FUNCTIONS: dict[str, Callable] = {
    'collections.OrderedDict': _make_ordered_dict,
    'builtins.set': _make_set,
    'builtins.complex': complex,
    '_codecs.encode': _text_to_bytes,
    'torch.Size': torch.Size,
    'torch.device': torch.device,
    **{
        f'torch._utils.{name}': getattr(torch._utils, name)
        for name in ('_rebuild_tensor', '_rebuild_tensor_v2', '_rebuild_tensor_v3')
        if hasattr(torch._utils, name)
    },
    'torch._utils._rebuild_parameter': _make_parameter,
    'torch._utils._rebuild_parameter_with_state': _make_parameter,
    'numpy.dtype': _make_dtype,
    **{f'{core}.multiarray._reconstruct': _make_array for core in _NUMPY_CORES},
    **{f'{core}.multiarray.scalar': _make_scalar for core in _NUMPY_CORES},
}
# Those in their place if other types of NumPy are read as what the file says of them.
LENIENT_FUNCTIONS: dict[str, Callable] = {
    'numpy.dtype': _make_any_dtype,
    **{f'{core}.multiarray.scalar': _make_any_scalar for core in _NUMPY_CORES},
}
# Name in a file -> object that is only passed on.
VALUES: dict[str, object] = {
    'numpy.ndarray': 'numpy.ndarray',
    'torch.storage.UntypedStorage': torch.UntypedStorage,
    **{str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)},
}
