"""What a check before training has to know about mmaction2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from mmaction.evaluation import AccMetric
from mmaction.models.heads import RGBPoseHead
from mmengine.evaluator import BaseMetric
from torch import nn

OWN_DATASETS = {'VideoDataset': 'resformer_mm.VideoList'}


def labels(info: Mapping[str, Any]) -> list[int]:
    """Return the labels in an entry of a data set; empty if they are not class indices."""
    label = info.get('label')
    if isinstance(label, (list, tuple)):
        return [int(value) for value in label]
    return [int(label)] if isinstance(label, (int, np.integer)) else []


def metric_problems(metric: BaseMetric, num_classes: int) -> Iterator[tuple[str, str, bool]]:
    """Yield option, problem and whether it is a fault, for what a metric cannot compute, or does not show."""
    if type(metric) is not AccMetric or 'top_k_accuracy' not in metric.metrics:
        return
    option, given, topk = 'metric_options.top_k_accuracy.topk', _given(metric), _topk(metric)
    if not isinstance(given, (int, tuple)):
        yield option, f'is {given!r}, but mmaction2 accepts a tuple alone: write {topk}', True
    if max(topk) >= num_classes:
        useful = tuple(k for k in topk if k < num_classes) or (1,)
        yield (
            option,
            f'is {topk}, but there are {num_classes} classes: top-{max(topk)} is 1 for any prediction. '
            f'Set it to {useful}',
            False,
        )


def metric_names(metric: BaseMetric, num_classes: int, model: nn.Module) -> list[str] | None:
    """Return the names of the values of a metric, without prefix; None if they are not known."""
    if type(metric) is not AccMetric or isinstance(getattr(model, 'cls_head', None), RGBPoseHead):
        return None  # with two predictions per clip, the names are those of their combinations
    names: list[str] = []
    for kind in metric.metrics:
        if kind == 'top_k_accuracy':
            names += [f'top{k}' for k in _topk(metric)]
        else:
            names.append('mean1' if kind == 'mean_class_accuracy' else kind)
    return names


def _given(metric: AccMetric) -> Any:
    return (metric.metric_options or {}).get('top_k_accuracy', {}).get('topk', (1, 5))


def _topk(metric: AccMetric) -> tuple[int, ...]:
    given = _given(metric)
    return (given,) if isinstance(given, int) else tuple(given)
