"""Drawing in every process of a distributed run.

MMEngine 0.10 decorates most methods of visualizers with ``master_only``, so only the first process draws. A
test in several processes that saves an image of every sample then misses most of them. This module removes
the decorator. A decorated function can only be recognised by its code object, which all wrappers share.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Collection
from typing import Any, TypeGuard

from mmengine.dist import master_only
from mmengine.visualization import Visualizer

__all__ = ['draw_in_every_process']


def draw_in_every_process(visualizer: Visualizer, restricted: Collection[str] = ()) -> None:
    """Let a visualizer draw in this process, even if it is not the first.

    The class of the object is replaced by a subclass without the decorator; other visualizers are not
    changed. If nothing is decorated, nothing changes.

    Args:
        visualizer: the visualizer.
        restricted: names of methods and properties that remain restricted to the first process.
    """
    kind = type(visualizer)
    members: dict[str, Any] = {}
    for name in set(dir(kind)).difference(restricted):
        member = inspect.getattr_static(kind, name)
        if isinstance(member, property) and _is_master_only(member.fget):
            members[name] = property(_undecorated(member.fget), member.fset and _undecorated(member.fset))
        elif _is_master_only(member):
            members[name] = _undecorated(member)
    if members:
        visualizer.__class__ = types.new_class(
            kind.__name__, (kind,), exec_body=lambda namespace: namespace.update(members)
        )


def _undecorated(function: Callable) -> Any:
    return inspect.unwrap(function, stop=lambda inner: not _is_master_only(inner))


def _is_master_only(function: object) -> TypeGuard[Callable]:
    return getattr(function, '__code__', None) is master_only(id).__code__
