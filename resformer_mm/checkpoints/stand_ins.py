"""Harmless stand-ins for the objects that training code stores beside weights."""

from __future__ import annotations

import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from resformer_mm.compat.pickled_values import check_key

# Packages whose functions and classes are read by name alone, or not at all.
_OWN_RULES = ('torch', 'numpy', *sys.stdlib_module_names)


class StandIn(dict):
    """An object of another class, reduced to what the file says: items, attributes and arguments.

    Attributes become items, as most of these objects are settings. Nothing is imported and nothing is called.

    Attributes:
        args: arguments with which the file makes the object.
        parts: what the file appends to the object, if it is a kind of list.
        state: state of the object, if it is not a dict of attributes.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(args[0] if len(args) == 1 and isinstance(args[0], dict) else {})
        self.args = args
        self.parts: list = []
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        """Keep the attributes."""
        # With slots, the state is a pair: attributes, slots.
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.update(part)
            else:
                self.state = state

    def append(self, part: object) -> None:
        """Keep an item of a kind of list."""
        self.parts.append(part)

    def extend(self, parts: Iterable) -> None:
        """Keep items of a kind of list."""
        self.parts.extend(parts)


def stand_in_for(name: str) -> Callable | None:
    """Return what is used in the place of a class in a checkpoint; None if it is refused.

    Settings (``argparse.Namespace``), paths, versions and other plain values of the standard library are
    known by name. Of other packages everything is accepted that is named like a class, as it is not
    imported; what is named like a function is refused.

    Args:
        name: full name of the class or function.
    """
    name = _modern(name)
    if name in _VALUES:
        return _VALUES[name]
    package, _, rest = name.partition('.')
    if package in _OWN_RULES or not rest:
        return None
    is_class = rest.rpartition('.')[2].lstrip('_')[:1].isupper()
    # A new class each, so that an object of one cannot pass for one of another.
    return type('StandIn', (StandIn,), {'__doc__': f'Stand-in for {name}.'}) if is_class else None


def _modern(name: str) -> str:
    """Return the name in Python 3 of a class of the standard library; pickle writes that of Python 2."""
    module, _, attribute = name.rpartition('.')
    module = '__builtin__' if module == 'builtins' else module
    if (module, attribute) in NAME_MAPPING:
        return '.'.join(NAME_MAPPING[module, attribute])
    return f'{IMPORT_MAPPING.get(module, module)}.{attribute}'


def _path(*parts: object) -> str:
    return str(PurePosixPath(*map(_text, parts)))


def _windows_path(*parts: object) -> str:
    return str(PureWindowsPath(*map(_text, parts)))


def _text(value: object = '', *args: object) -> str:
    """Return a value as text. The text of nested lists has any length."""
    return str(value) if isinstance(value, (str, bytes, int, float)) else ''


def _plain_dict(*args: Any) -> dict:
    """Return a dict of the last argument, if this is one; others make default values."""
    return dict(args[-1]) if args and isinstance(args[-1], dict) else {}


def _plain_list(*args: Any) -> list:
    return list(args[0]) if args and isinstance(args[0], (list, tuple)) else []


def _plain_frozenset(*args: Any) -> frozenset:
    items = _plain_list(*args)
    for item in items:
        check_key(item)
    return frozenset(items)


def _object(kind: Any, *args: object) -> StandIn:
    """Return an object as pickle's first protocols make it."""
    return kind() if isinstance(kind, type) and issubclass(kind, StandIn) else StandIn()


_VALUES: dict[str, Callable] = {
    **dict.fromkeys(('argparse.Namespace', 'types.SimpleNamespace'), StandIn),
    **{
        f'{module}.{kind}': _windows_path if 'Windows' in kind else _path
        for module in ('pathlib', 'pathlib._local')
        for kind in ('PosixPath', 'PurePosixPath', 'Path', 'PurePath', 'WindowsPath', 'PureWindowsPath')
    },
    'torch.torch_version.TorchVersion': _text,
    'collections.defaultdict': _plain_dict,
    'collections.Counter': _plain_dict,
    'collections.deque': _plain_list,
    **{f'datetime.{kind}': StandIn for kind in ('datetime', 'date', 'time', 'timedelta', 'timezone')},
    **dict.fromkeys(('decimal.Decimal', 'fractions.Fraction', 'uuid.UUID'), StandIn),
    'copyreg._reconstructor': _object,
    'copy_reg._reconstructor': _object,
    # Types as values, such as that of a command-line option or of a default value; they make plain objects.
    **{f'builtins.{kind.__name__}': kind for kind in (bool, int, float)},
    'builtins.str': _text,
    'builtins.frozenset': _plain_frozenset,
    'builtins.list': _plain_list,
    'builtins.tuple': _plain_list,
    'builtins.dict': _plain_dict,
    **dict.fromkeys(('builtins.object', 'builtins.slice', 'builtins.range', 'builtins.bytearray'), StandIn),
}
