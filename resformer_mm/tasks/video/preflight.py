"""What a check before training has to know about mmaction2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from mmaction.evaluation import AccMetric
from mmengine.evaluator import BaseMetric

OWN_DATASETS = {'VideoDataset': 'resformer_mm.VideoList'}


def labels(info: Mapping[str, Any]) -> list[int]:
    """Return the labels in an entry of a data set; empty if they are not class indices."""
    label = info.get('label')
    if isinstance(label, (list, tuple)):
        return [int(value) for value in label]
    return [int(label)] if isinstance(label, (int, np.integer)) else []


def metric_problems(metric: BaseMetric, num_classes: int) -> Iterator[tuple[str, str, bool]]:
    """Yield option, problem and whether it is a fault, for values of a metric that say nothing."""
    if type(metric) is not AccMetric or 'top_k_accuracy' not in metric.metrics:
        return
    topk = _topk(metric)
    if max(topk) >= num_classes:
        useful = tuple(k for k in topk if k < num_classes) or (1,)
        yield (
            'metric_options.top_k_accuracy.topk',
            f'is {topk}, but there are {num_classes} classes: top-{max(topk)} is 1 for any prediction. '
            f'Set it to {useful}',
            False,
        )


def metric_names(metric: BaseMetric, num_classes: int) -> list[str] | None:
    """Return the names of the values of a metric, without prefix; None if it is not known."""
    if type(metric) is not AccMetric:
        return None
    if set(metric.metrics) <= {'top_k_accuracy', 'mean_class_accuracy'}:
        return list(metric.calculate([np.eye(num_classes)[0]], [0]))
    return None  # the others need labels of several classes per clip


def _topk(metric: AccMetric) -> tuple[int, ...]:
    topk = (metric.metric_options or {}).get('top_k_accuracy', {}).get('topk', (1, 5))
    return (topk,) if isinstance(topk, int) else tuple(topk)
