"""The compiled operators of mmcv, which some of the upstream libraries need.

mmcv can be built without them, in seconds instead of most of an hour. mmpretrain and mmaction2 work with such
a build. mmdetection and upstream mmsegmentation import operators together with their models; the fork of
mmsegmentation does not.
"""

from __future__ import annotations

import importlib
from functools import cache
from importlib.util import find_spec

__all__ = ['MissingOperatorsError', 'has_operators', 'require_operators']

_EXTENSION = 'mmcv._ext'


class MissingOperatorsError(ImportError):
    """A library needs the operators of mmcv, which are missing or were compiled for another PyTorch."""


def has_operators() -> bool:
    """Return whether mmcv is installed with operators that can be loaded."""
    return _problem_of(_EXTENSION) is None


def require_operators(library: str) -> None:
    """Check that a library that is installed can be used with the mmcv that is installed.

    Raises:
        MissingOperatorsError: it needs operators, which cannot be loaded; the message says how to get them.
    """
    if find_spec(library) is None or find_spec('mmcv') is None or has_operators():
        return
    importlib.import_module(library)  # any other problem is reported as it is
    problem = _problem_of_models(library)
    if problem is not None:
        raise MissingOperatorsError(
            f'{library} needs the compiled operators of mmcv, which cannot be loaded ({problem}). '
            'Install mmcv with them, for example with `bash tools/install.sh`. Classification and video '
            'do not need them.'
        )


@cache  # a second attempt finds half of the models registered, and fails for that reason
def _problem_of_models(library: str) -> str | None:
    return _problem_of(f'{library}.models')


def _problem_of(module: str) -> str | None:
    importlib.import_module('torch')  # the operators are linked against its libraries
    try:
        importlib.import_module(module)
    except (ImportError, KeyError) as error:  # KeyError: half of the models were registered before
        return f'{type(error).__name__}: {error}'
    return None
