"""What the check before training knows about labels and metrics of image classification."""

from __future__ import annotations

import mmpretrain.evaluation as metrics
import pytest
import torch
from mmpretrain.structures import DataSample

from resformer_mm.measured import as_number, is_number
from resformer_mm.tasks.classification import preflight as known


@pytest.mark.parametrize(('label', 'expected'), [(3, [3]), ([1, 2], [1, 2]), (None, [])])
def test_labels(label, expected) -> None:
    assert known.labels(dict(gt_label=label)) == expected


def test_more_ranks_than_classes() -> None:
    [(option, problem, is_fault)] = known.metric_problems(metrics.Accuracy(topk=(1, 5)), 3)
    assert option == 'topk' and is_fault and 'Set topk=(1,)' in problem
    assert list(known.metric_problems(metrics.Accuracy(topk=(1, 3)), 3)) == []


def test_names_where_there_are_more_ranks_than_classes() -> None:
    metric = metrics.Accuracy(topk=(1, 5), thrs=(0.1, 0.5))
    names = known.metric_names(metric, 3, None)
    assert names == ['top1_thr-0.10', 'top1_thr-0.50', 'top5_thr-0.10', 'top5_thr-0.50']


@pytest.mark.parametrize(
    'metric',
    [
        metrics.Accuracy(topk=(1, 2), thrs=(0.1, None)),
        metrics.SingleLabelMetric(),
        metrics.SingleLabelMetric(thrs=(0.1, 0.5), items=('recall',), average='micro', prefix='a'),
        metrics.SingleLabelMetric(average=None),
        metrics.MultiLabelMetric(),
        metrics.MultiLabelMetric(topk=1, average=None),
        metrics.AveragePrecision(),
        metrics.AveragePrecision(average=None),
        metrics.VOCMultiLabelMetric(thr=0.3, average='micro'),
        metrics.VOCAveragePrecision(),
        metrics.ConfusionMatrix(),
    ],
    ids=lambda metric: type(metric).__name__,
)
def test_names_are_those_of_an_evaluation(metric) -> None:
    names = known.metric_names(metric, 3, None)
    for label in (0, 1, 2):
        scores = torch.eye(3)[label] * 0.6 + 0.1
        sample = DataSample().set_gt_label(label).set_pred_score(scores).set_pred_label(label)
        metric.process({}, [{**sample.to_dict(), 'gt_label_difficult': []}])
    found = {name: as_number(value) for name, value in metric.evaluate(size=3).items()}
    numbers = {name for name, value in found.items() if is_number(value)}
    assert {f'{metric.prefix}/{name}' for name in names} == numbers


def test_names_that_are_not_known() -> None:
    assert known.metric_names(metrics.RetrievalRecall(topk=1), 3, None) is None
