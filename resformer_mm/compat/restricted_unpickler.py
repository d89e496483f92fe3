"""An unpickler that looks up every name in a table of harmless functions, and imports nothing."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np
import torch

from .memory_limits import MemoryLimits
from .pickled_values import (
    FUNCTIONS,
    LENIENT_FUNCTIONS,
    VALUES,
    OtherType,
    check_key,
    fill_array,
    set_byte_order,
)

# Function from the full name of an unknown class to what is used in its place; None refuses the name.
StandIns = Callable[[str], Callable | None]

# Bytes in memory, rounded up: an empty container with its place in another one, an entry of a dict, a class.
_CONTAINER, _ENTRY, _CLASS = 256, 128, 4096

# Without types, as its methods are not part of the type stubs.
_PythonUnpickler: Any = pickle._Unpickler


def _counted(code: bytes) -> Callable[[Any], None]:
    """Return the method of an instruction of one byte that takes many in memory."""
    load = _PythonUnpickler.dispatch[code[0]]

    def load_counted(unpickler: Any) -> None:
        unpickler.limits.spend(_CONTAINER)
        load(unpickler)

    return load_counted


_COUNTED = {
    code: _counted(code)
    for code in (
        *(pickle.MARK, pickle.EMPTY_LIST, pickle.EMPTY_DICT, pickle.EMPTY_SET),
        *(pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.MEMOIZE),
    )
}


class RestrictedUnpickler(_PythonUnpickler):
    """An unpickler for the files of :func:`torch.save` that calls functions of a fixed table alone.

    It derives from the implementation of the standard library in Python, because the one in C cannot restrict
    what is done with the objects that were looked up.

    Args:
        stream: the pickled data.
        replacements: full name of a class or function in the file -> class to be used in its place. It is
            instantiated with any arguments and its ``__setstate__`` gets any state, so both must be harmless.
        stand_ins: the same for names that are not known in advance, asked for every other name.
        limits: what the content may take in memory.
        **kwargs: passed to :class:`pickle.Unpickler`.
    """

    def __init__(
        self,
        stream: BinaryIO,
        replacements: Mapping[str, type],
        stand_ins: StandIns | None = None,
        limits: MemoryLimits | None = None,
        **kwargs,
    ) -> None:
        super().__init__(stream, **kwargs)
        self.functions: dict[str, Callable] = {**FUNCTIONS, **replacements}
        if stand_ins is not None:
            self.functions.update(LENIENT_FUNCTIONS)
        self.kinds: set[Callable] = set(replacements.values())
        # What the file makes is told from these by identity.
        self._callable = {id(function) for function in self.functions.values()}
        self.stand_ins = stand_ins
        self.limits = limits or MemoryLimits(0)

    def find_class(self, module: str, name: str) -> Any:
        """Return the object of a name from the table, without importing anything.

        Raises:
            pickle.UnpicklingError: the name is not in the table.
        """
        full_name = f'{module.replace("__builtin__", "builtins")}.{name}'
        for table in (self.functions, VALUES):
            if full_name in table:
                return table[full_name]
        if self.stand_ins is not None and (stand_in := self.stand_ins(full_name)) is not None:
            self.limits.spend(_CLASS)
            self.functions[full_name] = stand_in
            self.kinds.add(stand_in)
            self._callable.add(id(stand_in))
            return stand_in
        raise pickle.UnpicklingError(f'Unsupported global: GLOBAL {full_name}')

    def load_reduce(self) -> None:
        """Call a function of the table."""
        arguments = self.stack.pop()
        function = self.stack[-1]
        if id(function) not in self._callable:
            raise pickle.UnpicklingError(f'a {type(function).__name__} is called')
        self._spend_on(arguments)
        made = self.stack[-1] = function(*arguments)
        if isinstance(made, torch.Tensor):
            self.limits.spend(made.nelement() * made.element_size())

    def load_newobj(self) -> None:
        """Instantiate a replacement."""
        arguments = self.stack.pop()
        kind = self.stack.pop()
        if id(kind) not in self._callable or kind not in self.kinds:
            raise pickle.UnpicklingError(f'a {type(kind).__name__} is instantiated')
        self._spend_on(arguments)
        self.append(kind(*arguments))

    def load_build(self) -> None:
        """Set the state of an array, a dtype, a replacement, or the attributes of a state dict."""
        state = self.stack.pop()
        instance = self.stack[-1]
        self._spend_on(state if isinstance(state, tuple) else (state,))
        if isinstance(instance, np.dtype):
            set_byte_order(instance, state)
        elif type(instance) is np.ndarray and self.stand_ins is not None and _has_other_type(state):
            self._replace(instance, OtherType(state[2].code, state))
        elif type(instance) is np.ndarray:
            fill_array(instance, state)
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
        self._check_container(self.stack[-2], list)
        super().load_append()

    def load_appends(self) -> None:
        """Extend a list."""
        self._check_container(self.metastack[-1][-1], list)
        super().load_appends()

    def load_setitem(self) -> None:
        """Set an item of a dict."""
        self._check_container(self.stack[-3], dict, OrderedDict)
        check_key(self.stack[-2])
        super().load_setitem()

    def load_setitems(self) -> None:
        """Set items of a dict."""
        self._check_container(self.metastack[-1][-1], dict, OrderedDict)
        for key in self.stack[::2]:
            check_key(key)
        super().load_setitems()

    def load_additems(self) -> None:
        """Add to a set."""
        self._check_container(self.metastack[-1][-1], set)
        for item in self.stack:
            check_key(item)
        super().load_additems()

    def load_frozenset(self) -> None:
        """Make a frozen set."""
        for item in self.stack:
            check_key(item)
        super().load_frozenset()

    def load_binpersid(self) -> None:
        """Load the storage of a tensor, by the function of :func:`torch.load`."""
        self.limits.check_storage(self.stack[-1])
        super().load_binpersid()

    def _replace(self, instance: object, other: object) -> None:
        """Put another object in the place of the last one."""
        self.stack[-1] = other
        self.limits.spend(_ENTRY * len(self.memo))
        self.memo: dict[int, object] = {
            key: other if value is instance else value for key, value in self.memo.items()
        }

    def _spend_on(self, arguments: tuple) -> None:
        """Count what a function may copy of its arguments."""
        self.limits.spend(_CONTAINER)
        for argument in arguments:
            if isinstance(argument, (str, bytes)):
                self.limits.spend(len(argument))
            elif isinstance(argument, (list, tuple, dict, set, frozenset)):
                self.limits.spend(_ENTRY * len(argument))

    def _check_container(self, container: object, *kinds: type) -> None:
        if type(container) not in kinds and type(container) not in self.kinds:
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
        pickle.FROZENSET: load_frozenset,
        pickle.BINPERSID: load_binpersid,
    }
    _harmless = (
        *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.EMPTY_TUPLE, pickle.TUPLE),
        *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE),
        *(pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT),
        *(pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8),
        *(pickle.BINSTRING, pickle.SHORT_BINSTRING),
        *(pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.BINBYTES8),
        *(pickle.BINGET, pickle.LONG_BINGET, pickle.BINPUT, pickle.LONG_BINPUT),
        *(pickle.GLOBAL, pickle.STACK_GLOBAL),  # both call find_class
    )
    dispatch = {
        **dict.fromkeys(range(256), _refuse),
        **{code[0]: _PythonUnpickler.dispatch[code[0]] for code in _harmless},
        **{code[0]: method for code, method in {**_COUNTED, **_restricted}.items()},
    }


def _has_other_type(state: object) -> bool:
    return isinstance(state, tuple) and len(state) == 5 and isinstance(state[2], OtherType)
