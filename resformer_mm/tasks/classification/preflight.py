"""What a check before training has to know about mmpretrain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmpretrain.evaluation import (
    Accuracy,
    AveragePrecision,
    ConfusionMatrix,
    MultiLabelMetric,
    SingleLabelMetric,
)

OWN_DATASETS = {'CustomDataset': 'resformer_mm.ImageFolder', 'ImageNet': 'resformer_mm.ImageNet'}
KNOWN = (Accuracy, AveragePrecision, ConfusionMatrix, MultiLabelMetric, SingleLabelMetric)


def labels(info: Mapping[str, Any]) -> list[int]:
    """Return the labels in an entry of a data set; empty if they are not class indices."""
    label = info.get('gt_label')
    if isinstance(label, (list, tuple)):
        return [int(value) for value in label]
    return [] if label is None else [int(label)]


def metric_problems(metric: BaseMetric, num_classes: int) -> Iterator[tuple[str, str, bool]]:
    """Yield option, problem and whether it is a fault, for what a metric cannot compute."""
    if isinstance(metric, Accuracy) and max(metric.topk) > num_classes:
        possible = tuple(k for k in metric.topk if k <= num_classes)
        yield (
            'topk',
            f'is {tuple(metric.topk)}, but there are {num_classes} classes: top-{max(metric.topk)} cannot be '
            f'computed. Set topk={possible or (1,)}',
            True,
        )


def metric_names(metric: BaseMetric, num_classes: int) -> list[str] | None:
    """Return the names of the values of a metric, without prefix; None if it is not known.

    A metric of mmpretrain is computed once, for one made-up sample.
    """
    if type(metric) not in KNOWN:
        return None
    if any(metric_problems(metric, num_classes)):
        return [f'top{k}' for k in metric.topk]
    one = torch.zeros(num_classes)
    one[0] = 1.0
    sample = {
        'gt_label': torch.tensor([0]),
        'pred_score': one,
        'gt_score': one,
        'pred_label': torch.tensor([0]),
    }
    return list(metric.compute_metrics([sample, sample]))
