"""The metrics file of a test in several processes.

MMEngine 0.10 writes the metrics of a test to ``WORK_DIR/TIMESTAMP/TIMESTAMP.json`` in every process. The
processes overwrite each other's text, and because it contains times, the texts can differ in length: the file
is then not valid JSON. This module leaves it to the first process.
"""

from __future__ import annotations

import types
from operator import methodcaller

from mmengine.dist import master_only
from mmengine.hooks import LoggerHook
from mmengine.runner import Runner

__all__ = ['write_metrics_once']


def write_metrics_once(runner: Runner) -> None:
    """Let only the first process write the metrics of a test.

    The classes of logger hooks are replaced by subclasses. Subclasses of ``LoggerHook`` that have a method
    ``after_test_epoch`` of their own are not changed.
    """
    for hook in runner.hooks:
        kind = type(hook)
        if getattr(kind, 'after_test_epoch', None) is not LoggerHook.after_test_epoch:
            continue
        members = {'after_test_epoch': master_only(LoggerHook.after_test_epoch)}
        hook.__class__ = types.new_class(kind.__name__, (kind,), exec_body=methodcaller('update', members))
