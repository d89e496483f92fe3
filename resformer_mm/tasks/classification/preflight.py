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
    VOCAveragePrecision,
    VOCMultiLabelMetric,
)
from torch import nn

from resformer_mm.measured import as_number, is_number

from .batch_augment import BatchAugment

OWN_DATASETS = {'CustomDataset': 'resformer_mm.ImageFolder', 'ImageNet': 'resformer_mm.ImageNet'}
KNOWN = (
    Accuracy,
    AveragePrecision,
    MultiLabelMetric,
    SingleLabelMetric,
    VOCAveragePrecision,
    VOCMultiLabelMetric,
)


def device_augmentations(data_preprocessor: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the options of ``data_preprocessor.augment`` that are set, and transforms that do the same."""
    augment = getattr(data_preprocessor, 'augment', None)
    if isinstance(augment, BatchAugment):
        for option, transform in (('color_jitter', 'ColorJitter'), ('erasing', 'RandomErasing')):
            if getattr(augment, option) is not None:
                yield option, transform


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


def metric_names(metric: BaseMetric, num_classes: int, model: nn.Module) -> list[str] | None:
    """Return the names of the numbers that a metric yields, without prefix; None if they are not known.

    A metric of mmpretrain is computed once, for made-up samples.
    """
    if type(metric) is ConfusionMatrix:
        return []
    if type(metric) not in KNOWN:
        return None
    most = max(metric.topk) if isinstance(metric, Accuracy) else 1
    scores = torch.zeros(max(num_classes, most))
    scores[0] = 1.0
    label = torch.tensor([0])
    sample = {'gt_label': label, 'pred_label': label, 'gt_score': scores, 'pred_score': scores}
    found = metric.compute_metrics([sample, sample])
    return [name for name, value in found.items() if is_number(as_number(value))]
