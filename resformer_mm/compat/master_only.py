"""Drawing in every process of a distributed run.

MMEngine 0.10 decorates most methods of visualizers with ``master_only``, so only the first process draws. A
test in several processes that saves an image of every sample then misses most of them. This module removes
the decorator. A decorated function can only be recognised by its code object, which all wrappers share.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection

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
    members = {}
    for name in set(dir(kind)).difference(restricted):
        member = inspect.getattr_static(kind, name)
        if isinstance(member, property) and _is_master_only(member.fget):
            members[name] = property(member.fget.__wrapped__, member.fset and member.fset.__wrapped__)
        elif _is_master_only(member):
            members[name] = member.__wrapped__
    if members:
        visualizer.__class__ = type(kind)(kind.__name__, (kind,), members)


def _is_master_only(function: object) -> bool:
    return getattr(function, '__code__', None) is master_only(id).__code__
