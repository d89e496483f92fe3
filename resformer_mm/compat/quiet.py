"""Keeps the messages of :mod:`resformer_mm.compat.messages` from the users of our tools.

It does so in processes that run a tool of this project, and in those that such a process starts, as loader
workers. Elsewhere nothing changes: which warnings are shown is up to the program that imports this package.
``RESFORMER_MM_MESSAGES=all`` in the environment shows everything.
"""

from __future__ import annotations

import builtins
import importlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .messages import LOGGED, PRINTED, WARNED, Message

__all__ = ['VARIABLE', 'is_listed', 'is_quiet', 'quieten', 'runs_a_tool']

VARIABLE = 'RESFORMER_MM_MESSAGES'
_ALL, _FILTERED = 'all', 'filtered'
# A link to the folder of the clone, or in a wheel the tools themselves.
_TOOLS = Path(__file__).parents[1] / '.mim' / 'tools'
_REPORT = Path(__file__).parents[1] / 'collect_env.py'


def runs_a_tool() -> bool:
    """Whether this process runs a tool of this project, or was started by one."""
    if is_quiet():
        return True
    script = getattr(sys.modules.get('__main__'), '__file__', None)
    if script is None:
        return False
    path = Path(script).resolve()
    return path == _REPORT.resolve() or _TOOLS.resolve() in path.parents


def quieten() -> bool:
    """Keep the messages back if this process runs a tool; call it before the dependencies are imported.

    Filters of warnings are left alone if some are given to Python, by ``-W`` or ``PYTHONWARNINGS``.

    Returns:
        Whether anything is kept back.

    Raises:
        ImportError: MMEngine is not installed.
    """
    if os.environ.get(VARIABLE) == _ALL or not runs_a_tool():
        return False
    os.environ[VARIABLE] = _FILTERED  # processes that are not forked import this module anew
    if not sys.warnoptions:
        for message in WARNED:
            warnings.filterwarnings('ignore', message.text, message.category, message.module)
    logger: Any = importlib.import_module('mmengine.logging.logger')
    logger.MMLogger.filter = _filter
    logger.print = _print
    return True


def is_quiet() -> bool:
    """Whether messages are kept back in this process."""
    return os.environ.get(VARIABLE) == _FILTERED


def is_listed(text: str, messages: Iterable[Message]) -> bool:
    """Whether a text begins like one of the messages."""
    return any(re.match(message.text, text) for message in messages)


def _filter(logger: logging.Logger, record: logging.LogRecord) -> Any:
    return not is_listed(record.getMessage(), LOGGED) and logging.Filterer.filter(logger, record)


def _print(*values: object, **options: Any) -> None:
    if not (values and isinstance(values[0], str) and is_listed(values[0], PRINTED)):
        builtins.print(*values, **options)
