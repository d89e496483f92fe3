"""Loops of tests, whose data may be unreadable."""

from __future__ import annotations

from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop

from resformer_mm.preflight.subject import BuildError, Subject


class DataError(ValueError):
    """The data of a test cannot be read. The message names the field, the reason and a remedy."""


def build_test_loop(runner: Runner) -> BaseLoop:
    """Build the data sets and metrics of a test, which MMEngine does at the first use; return its loop.

    Raises:
        DataError: a data set cannot read its files.
    """
    try:
        return runner.test_loop
    except ImportError:
        raise
    except Exception as error:  # data sets of the libraries raise any type
        subject = Subject(runner.cfg)
        try:
            subject.dataset('test')
        except BuildError as problem:  # it is the data, not a metric
            reason = f'{problem.field}: {problem.reason}{subject.advice(problem)}'
            raise DataError(reason) from error
        raise
