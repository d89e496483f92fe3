"""The metrics file of a test, in several processes and with all kinds of numbers.

MMEngine 0.10 writes the metrics of a test to ``WORK_DIR/TIMESTAMP/TIMESTAMP.json`` in every process. The
processes overwrite each other's text, and because it contains times, the texts can differ in length: the file
is then not valid JSON. This module leaves it to the first process.

MMEngine also writes NaN into this file, which JSON does not have, and leaves out NumPy scalars other than
float64. This module writes null, and all numbers.
"""

from __future__ import annotations

import types
from operator import methodcaller

from mmengine.dist import master_only
from mmengine.hooks import LoggerHook
from mmengine.runner import Runner

from resformer_mm.measured import as_number, for_json

__all__ = ['write_metrics_once']


def write_metrics_once(runner: Runner) -> None:
    """Let only the first process write the metrics of a test, as valid JSON.

    The classes of logger hooks are replaced by subclasses. Subclasses of ``LoggerHook`` that have a method
    ``after_test_epoch`` of their own are not changed.
    """
    for hook in runner.hooks:
        kind = type(hook)
        if getattr(kind, 'after_test_epoch', None) is not LoggerHook.after_test_epoch:
            continue
        members = {
            'after_test_epoch': master_only(LoggerHook.after_test_epoch),
            '_process_tags': staticmethod(_process_tags),
        }
        hook.__class__ = types.new_class(kind.__name__, (kind,), exec_body=methodcaller('update', members))


def _process_tags(tags: dict) -> dict:
    return for_json(LoggerHook._process_tags({name: as_number(value) for name, value in tags.items()}))
