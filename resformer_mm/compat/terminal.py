"""Keeps names from outside from steering the terminal of our tools.

Names of files, classes and weights may contain control characters. ``logging``, ``argparse`` and tracebacks
of every version of Python write them as they are, and fail on names that are not UTF-8.
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
import traceback
from types import TracebackType
from typing import Any

from resformer_mm.control_characters import printable


def protect_terminal() -> None:
    """Write control characters in log records, usage errors and tracebacks of this process as escapes."""
    make_record = logging.getLogRecordFactory()
    if getattr(make_record, 'protects_terminal', False):
        return

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make_record(*args, **kwargs)
        record.msg = _printable(record.msg)
        if isinstance(record.args, tuple):
            record.args = tuple(map(_printable, record.args))
        return record

    factory.protects_terminal = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(factory)
    print_message = argparse.ArgumentParser._print_message
    argparse.ArgumentParser._print_message = lambda parser, message, file=None: print_message(  # type: ignore
        parser, printable(message or ''), file
    )
    sys.excepthook = _print_traceback
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')


def _printable(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        sys.stderr.write(printable(''.join(traceback.format_exception(kind, error, trace))))
