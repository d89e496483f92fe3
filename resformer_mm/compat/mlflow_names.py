"""Names of metrics that MLflow refuses.

MLflow accepts letters, digits and ``_-. /`` in the name of a metric. MMEngine 0.10 hands over all metrics of
a step at once, so one name with a class such as ``mug (large)`` loses all of them, with a warning. This
module writes ``_`` for the other characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from mmengine.visualization import MLflowVisBackend

__all__ = ['write_names_of_mlflow']

_REFUSED = re.compile(r'[^\w\-. /]')
_MARK = '_renames_for_mlflow'


def write_names_of_mlflow() -> None:
    """Let the backends of MLflow replace characters in the names of metrics that MLflow refuses."""
    for method in ('add_scalar', 'add_scalars'):
        before = getattr(MLflowVisBackend, method)
        if not hasattr(before, _MARK):
            setattr(MLflowVisBackend, method, _renaming(before))


def _renaming(log: Callable) -> Callable:
    @wraps(log)
    def renamed(backend: MLflowVisBackend, names: Any, *args: object, **kwargs: object) -> None:
        if isinstance(names, Mapping):
            names = {_REFUSED.sub('_', name): value for name, value in names.items()}
        else:
            names = _REFUSED.sub('_', names)
        log(backend, names, *args, **kwargs)

    setattr(renamed, _MARK, True)
    return renamed
