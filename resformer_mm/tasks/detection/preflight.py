"""What a check before training has to know about mmdetection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import mmdet.evaluation
import numpy as np
from mmengine.evaluator import BaseMetric
from torch import nn

from .metric import CocoMetric

CROWD = 'crowd regions'
MOST_ENTRIES = 500
MUCH = 0.25
# Values per IoU type, if metric_items does not choose among them.
PRECISIONS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
RECALLS = ('AR@100', 'AR@300', 'AR@1000', 'AR_s@1000', 'AR_m@1000', 'AR_l@1000')


def labels(info: Mapping[str, Any]) -> list[int]:
    """Return the labels in an entry of a data set that are learned."""
    return [
        int(instance['bbox_label'])
        for instance in info.get('instances', ())
        if 'bbox_label' in instance and not instance.get('ignore_flag')
    ]


def class_weights(loss: nn.Module, name: str, head: nn.Module, num_classes: int) -> tuple[int, ...]:
    """Return the numbers of class weights that a loss of a head accepts; empty for other losses."""
    if name != 'loss_cls':
        return ()
    # With a softmax, the background is one more class.
    return (num_classes if getattr(loss, 'use_sigmoid', False) else num_classes + 1,)


def metric_names(metric: BaseMetric, num_classes: int) -> list[str] | None:
    """Return the names of the values of a metric, without prefix; None if it is not known."""
    if type(metric) is mmdet.evaluation.VOCMetric and metric.metric == 'mAP':
        return [*(f'AP{int(threshold * 100):02d}' for threshold in metric.iou_thrs), 'mAP']
    if type(metric) not in (CocoMetric, mmdet.evaluation.CocoMetric):
        return None
    if metric.format_only:
        return []
    if metric.classwise:
        return None  # named by the categories, too
    names = []
    for kind in metric.metrics:
        if kind == 'proposal_fast':
            names += [f'AR@{number}' for number in metric.proposal_nums]
        elif kind == 'proposal':
            names += metric.metric_items or RECALLS
        else:
            names += [f'{kind}_{item}' for item in metric.metric_items or PRECISIONS]
    return names


def annotation_problems(
    dataset: Any, head: nn.Module, num_classes: int, is_training: bool
) -> Iterator[tuple[str, str, bool]]:
    """Yield kind, problem and whether it is a fault, for the first annotations of a data set.

    Args:
        dataset: a data set without wrappers.
        head: the head that predicts its classes.
        num_classes: number of its classes.
        is_training: whether it is the training set, whose crowd regions are not learned.
    """
    if not is_training or not len(dataset) or not hasattr(dataset, 'get_data_info'):
        return
    number = min(len(dataset), MOST_ENTRIES)
    crowds = objects = 0
    for index in np.linspace(0, len(dataset) - 1, number).round().astype(int).tolist():
        for instance in dataset.get_data_info(index).get('instances', ()):
            objects += 1
            crowds += bool(instance.get('ignore_flag'))
    if objects and crowds / objects > MUCH:
        yield (
            CROWD,
            f'{crowds} of {objects} objects of the first {number} images are crowd regions (iscrowd=1), '
            'which are not learned. Tools that export brush masks mark every object so',
            False,
        )
