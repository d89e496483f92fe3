"""What a check before training has to know about mmdetection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import mmdet.datasets
import mmdet.evaluation
import numpy as np
from mmengine.evaluator import BaseMetric
from torch import nn

from .annotations import CROWD_REMEDY, class_problem
from .coco import read_categories
from .metric import CocoMetric, other_image

CROWD = 'crowd regions'
ORDER = 'order of the classes'
NO_OBJECTS = 'no objects'
OWN_DATASETS = {'CocoDataset': 'resformer_mm.DetectionFolder'}
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


def metric_names(metric: BaseMetric, num_classes: int, model: nn.Module) -> list[str] | None:
    """Return the names of the values of a metric, without prefix; None if they are not known."""
    if type(metric) is mmdet.evaluation.VOCMetric:
        return _voc_names(metric)
    if type(metric) not in (CocoMetric, mmdet.evaluation.CocoMetric):
        return None
    if metric.format_only:
        return []
    names = []
    for kind in metric.metrics:
        if kind == 'proposal_fast':
            names += [f'AR@{number}' for number in metric.proposal_nums]
        elif kind == 'proposal':
            names += metric.metric_items or RECALLS
        else:
            names += [f'{category}_precision' for category in _categories(metric)]
            names += [f'{kind}_{item}' for item in metric.metric_items or PRECISIONS]
    return list(dict.fromkeys(names))


def _categories(metric: mmdet.evaluation.CocoMetric) -> list[str]:
    """Return the categories that a metric has values of, by name."""
    if not metric.classwise:
        return []
    classes = (metric.dataset_meta or {}).get('classes') or ()
    if metric._coco_api is None:  # made from the annotations of the samples
        return list(classes)
    categories = metric._coco_api.dataset['categories']
    return [category['name'] for category in categories if category['name'] in classes]


def _voc_names(metric: mmdet.evaluation.VOCMetric) -> list[str]:
    if metric.metric == 'mAP':
        return ['mAP', *(f'AP{int(threshold * 100):02d}' for threshold in metric.iou_thrs)]
    numbers, thresholds = metric.proposal_nums, metric.iou_thrs
    names = [f'recall@{number}@{threshold}' for number in numbers for threshold in thresholds]
    means = [f'AR@{number}' for number in numbers]
    return names + (means if len(thresholds) > 1 else [])


def metric_data_problems(metric: BaseMetric, datasets: Sequence[Any]) -> Iterator[tuple[str, str, bool]]:
    """Yield option, problem and whether it is a fault, for annotations that a metric cannot use.

    Args:
        metric: a metric of the evaluation.
        datasets: the data sets that it evaluates, without wrappers.
    """
    index = getattr(metric, '_coco_api', None)
    if index is None or getattr(metric, 'format_only', False):
        return
    if type(metric) is mmdet.evaluation.CocoMetric:
        entries = index.dataset.get('annotations', [])
        lacking = {key: sum(key not in entry for entry in entries) for key in ('iscrowd', 'area')}
        for key, count in lacking.items():
            if count:
                yield (
                    'ann_file',
                    f"{count} annotations have no `{key}`: set type='resformer_mm.CocoMetric'",
                    True,
                )
        if any(isinstance(entry['id'], str) and not entry['id'].isdecimal() for entry in entries):
            yield 'ann_file', "ids of annotations are text: set type='resformer_mm.CocoMetric'", True
    for dataset in datasets:
        if not hasattr(dataset, 'get_data_info'):
            continue
        for number in np.linspace(0, len(dataset) - 1, min(len(dataset), MOST_ENTRIES)).round().astype(int):
            info = dataset.get_data_info(int(number))
            if 'img_id' in info and (
                problem := other_image(index.imgs, info['img_id'], info.get('img_path'))
            ):
                yield 'ann_file', f'{problem}: it must be the file of the data set', True
                return


def annotation_problems(
    dataset: Any, head: nn.Module, num_classes: int, is_training: bool
) -> Iterator[tuple[str, str, bool]]:
    """Yield kind, problem and whether it is a fault, for some annotations of a data set.

    Args:
        dataset: a data set without wrappers.
        head: the head that predicts its classes.
        num_classes: number of its classes.
        is_training: whether it is the training set, whose crowd regions are not learned.
    """
    if type(dataset) is mmdet.datasets.CocoDataset and (problem := _order_problem(dataset)) is not None:
        yield ORDER, problem, True
    if not len(dataset) or not hasattr(dataset, 'get_data_info'):
        return
    number = min(len(dataset), MOST_ENTRIES)
    crowds = objects = 0
    for index in np.linspace(0, len(dataset) - 1, number).round().astype(int).tolist():
        for instance in dataset.get_data_info(index).get('instances', ()):
            objects += 1
            crowds += bool(instance.get('ignore_flag'))
    if not is_training:
        if crowds == objects and number == len(dataset):
            yield NO_OBJECTS, 'no image has an object to compare with: every AP will be -1', False
        return
    if not objects and number == len(dataset):
        yield NO_OBJECTS, 'no image has an object to learn', False
    if objects and crowds / objects > MUCH:
        yield (
            CROWD,
            f'{crowds} of {objects} objects of {number} images are crowd regions (iscrowd 1), which are '
            f"not learned. {CROWD_REMEDY}, of type='resformer_mm.DetectionFolder'",
            crowds == objects and number == len(dataset),
        )


def _order_problem(dataset: mmdet.datasets.CocoDataset) -> str | None:
    """Return why the classes of a data set, unless they are those of COCO, are not those of its file."""
    classes = dataset.metainfo['classes']
    if tuple(classes) == dataset.METAINFO['classes'] or len(dataset.cat_ids) < len(classes):
        return None  # a missing category is another finding
    problem = class_problem(classes, read_categories(dataset.ann_file, dataset.backend_args))
    return None if problem is None else f'{dataset.ann_file}: {problem}'
