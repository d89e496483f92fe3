"""Evaluators that collect the results of several evaluations at the same time."""

from __future__ import annotations

import copy
from collections import deque
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric, Evaluator
from torch import Tensor

# Attributes of metrics of the libraries that write files while they collect results. Their names do not
# depend on the evaluation.
_FILES = ('tmp_dir', 'outfile_prefix', 'output_dir', 'seg_out_dir', 'pred_dir')
_CONTAINERS = (list, dict, set, deque, np.ndarray, Tensor)


def files_of(evaluator: Evaluator) -> str | None:
    """Return the metric and field of an evaluator that writes files for each sample; None if none does."""
    for metric in evaluator.metrics:
        for field in _FILES:
            if getattr(metric, field, None):
                return f'{type(metric).__name__}.{field}'
    return None


def separate_evaluator(evaluator: Evaluator) -> Evaluator:
    """Return an evaluator with the same metrics, but with results of their own.

    Containers are copied. Other objects, such as annotations of COCO, are shared.
    """
    separate: Any = copy.copy(evaluator)
    separate.metrics = [_separate_metric(metric) for metric in evaluator.metrics]
    return separate


def _separate_metric(metric: BaseMetric) -> BaseMetric:
    separate = copy.copy(metric)
    for name, value in vars(metric).items():
        if isinstance(value, _CONTAINERS):
            setattr(separate, name, copy.deepcopy(value))
    return separate
