"""Loops of tests, whose data may be unreadable."""

from __future__ import annotations

from typing import Any

from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop

from resformer_mm.engine.classes import innermost
from resformer_mm.engine.failures import loaders_of
from resformer_mm.preflight.subject import BuildError, Subject


class DataError(ValueError):
    """The data of a test cannot be read. The message names the field, the reason and a remedy."""


def build_test_loop(runner: Runner) -> BaseLoop:
    """Build the data sets and metrics of a test, which MMEngine does at the first use; return its loop.

    Raises:
        DataError: a data set cannot read its files, or a metric cannot use its annotations.
    """
    try:
        loop = runner.test_loop
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
    _check_metrics(runner, loop)
    return loop


def _check_metrics(runner: Runner, loop: Any) -> None:
    """Refuse annotations on which a metric would fail after all predictions are made."""
    problems_of = Subject(runner.cfg).known('metric_data_problems')
    if problems_of is None:
        return
    datasets = [part for loader in loaders_of(loop) for part in innermost(loader.dataset)]
    for metric in loop.evaluator.metrics:
        for option, problem, is_fault in problems_of(metric, datasets):
            if is_fault:
                raise DataError(f'test_evaluator.{option}: {problem}')
