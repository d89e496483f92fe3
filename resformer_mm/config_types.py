"""The ``type`` fields of configs.

A type is a registered name (``'Resize'``, ``'mmdet.Resize'``), the import path of an object
(``'mmdet.datasets.transforms.Resize'``, which MMEngine writes for a class), a class or function, or a lazy
reference to one, which is what an import in a pure-Python config gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.registry import Registry


def type_name(kind: Any) -> str:
    """Return the name of a type without scope or module; nothing is imported."""
    if isinstance(kind, (str, LazyObject, LazyAttr)):
        return str(kind).rpartition('.')[2]
    return getattr(kind, '__name__', None) or type(kind).__name__


def type_field(config: Mapping | None) -> Any:
    """Return the ``type`` of a config, without importing it; None if it has none."""
    # The `get` of a ConfigDict would import a lazy reference.
    return dict.get(config, 'type') if isinstance(config, dict) else None


def find_type(kind: Any, registry: Registry, scope: str | None = None) -> Any:
    """Return the class or function of a type.

    Args:
        kind: the type.
        registry: registry in which names are looked up.
        scope: scope that is searched first; None is the current default scope.

    Returns:
        The class or function; None if a name is neither registered nor an import path.

    Raises:
        ImportError: the module of a lazy reference cannot be imported, or does not have the object.
    """
    if isinstance(kind, (LazyObject, LazyAttr)):
        return kind.build()
    if not isinstance(kind, str):
        return kind
    with registry.switch_scope_and_registry(scope) as scoped:
        return scoped.get(kind)


def packages_of_types(config: Any) -> set[str]:
    """Return the packages that the types of a config are imported from, as far as their text says."""
    found = set()
    for key, value in _leaves(config):
        if isinstance(value, (LazyObject, LazyAttr)):
            found.add(value.module.partition('.')[0])
        elif key == 'type' and isinstance(value, str) and '.' in value:
            found.add(value.partition('.')[0])
    return found


def type_names(config: Any) -> set[str]:
    """Return the names of all types in nested containers, without scope or module; nothing is imported."""
    return {type_name(value) for key, value in _leaves(config) if key == 'type'}


def _leaves(config: Any, key: str = '') -> Iterator[tuple[str, Any]]:
    """Yield the values in nested containers with their keys, lazy references as such."""
    if isinstance(config, dict):
        for name, value in dict.items(config):  # the items of a ConfigDict would be imported
            yield from _leaves(value, name)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _leaves(value, key)
    else:
        yield key, config
