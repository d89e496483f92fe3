"""Completes pure-Python configs, which MMEngine up to 0.10.12 reads with three gaps.

1. ``custom_imports`` are ignored. String configs import these modules.
2. Functions and classes that the file defines stay in the config. String configs drop functions.
3. The runner writes the config as text to its log, its work dir and every checkpoint. For a class or
   function that is not a lazy reference, this text is not valid: upstream MMEngine raises a SyntaxError.
   Classes of the standard library are not lazy, and neither are those in a config that is built in Python.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any

from mmengine.config import Config
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.utils import import_modules_from_strings

__all__ = ['finish_lazy_config', 'make_writable']


def finish_lazy_config(cfg: Config) -> Config:
    """Import the custom modules of a config that was just read, and drop its helpers.

    Raises:
        ImportError: a custom module cannot be imported.
    """
    custom = cfg.get('custom_imports') or {}
    modules = custom.get('imports') or []
    if any(name not in sys.modules for name in ([modules] if isinstance(modules, str) else modules)):
        import_modules_from_strings(**custom)
    settings: dict = cfg._cfg_dict
    for name, value in list(dict.items(settings)):
        if isinstance(value, (FunctionType, ModuleType, type)):
            del settings[name]
    return cfg


def make_writable(cfg: Config) -> None:
    """Replace classes and functions in a config by lazy references, in place.

    Raises:
        ValueError: one of them cannot be imported, for example because the config file defines it.
    """
    _refer_lazily(cfg._cfg_dict, cfg.filename or 'the config', '')


def _refer_lazily(value: Any, source: str, field: str) -> Any:
    """Return a value with lazy references; containers are changed in place."""
    if isinstance(value, dict):
        for key, item in list(dict.items(value)):  # the items of a ConfigDict would be imported
            changed = _refer_lazily(item, source, f'{field}.{key}' if field else str(key))
            if changed is not item:
                dict.__setitem__(value, key, changed)
    elif isinstance(value, (list, tuple)):
        items = [_refer_lazily(item, source, f'{field}.{index}') for index, item in enumerate(value)]
        if any(new is not old for new, old in zip(items, value)):
            return type(value)(items)
    elif callable(value) and not isinstance(value, (LazyObject, LazyAttr)):
        return _reference(value, source, field)
    return value


def _reference(value: Any, source: str, field: str) -> LazyObject:
    module, name = getattr(value, '__module__', None), getattr(value, '__qualname__', '')
    try:
        if getattr(import_module(module or 'builtins'), name) is value:
            return LazyObject(module or 'builtins', name)
    except (AttributeError, ImportError):
        pass
    raise ValueError(
        f'{source}: {field} is {value!r}, which cannot be written as text to logs and checkpoints: define it '
        'in a module and import it from there, or set dict(type=...) with its arguments'
    )
