"""What the check before training knows about labels and metrics of video classification."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from resformer_mm.compat import prepare_mmaction

prepare_mmaction()

from mmaction.evaluation import AccMetric, ConfusionMatrix  # noqa: E402
from mmaction.models.heads import RGBPoseHead  # noqa: E402

from resformer_mm.tasks.video import preflight as known  # noqa: E402


@pytest.mark.parametrize(
    ('label', 'expected'), [(3, [3]), ([1, 2], [1, 2]), (torch.tensor(1), []), (None, []), ('text', [])]
)
def test_labels(label, expected) -> None:
    assert known.labels(dict(label=label)) == expected


@pytest.mark.parametrize(
    ('topk', 'words', 'is_fault'),
    [
        ((1, 5), ['there are 3 classes', 'Set it to (1,)'], False),
        (3, ['top-3 is 1 for any prediction'], False),
        ((1, 2), [], None),
        ([1, 2], ['[1, 2], but mmaction2 accepts a tuple alone: write (1, 2)'], True),
    ],
)
def test_the_best_of_few_classes(topk, words, is_fault) -> None:
    metric = AccMetric(metric_options=dict(top_k_accuracy=dict(topk=topk)))
    found = list(known.metric_problems(metric, 3))
    assert len(found) == (is_fault is not None)
    for option, problem, fault in found:
        assert option == 'metric_options.top_k_accuracy.topk' and fault == is_fault
        assert all(word in problem for word in words)


MULTI_LABEL = ('mean_average_precision', 'mmit_mean_average_precision')


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(metric_list=('top_k_accuracy',), metric_options=dict(top_k_accuracy=dict(topk=(1, 2)))),
        dict(metric_list=('mean_class_accuracy',), prefix='a'),
        dict(metric_list=MULTI_LABEL),
    ],
    ids=str,
)
def test_names_are_those_of_an_evaluation(options: dict) -> None:
    metric = AccMetric(**options)
    label = torch.tensor([1, 0, 1] if options.get('metric_list') == MULTI_LABEL else [0])
    for _ in range(2):
        metric.process({}, [dict(pred_score=torch.tensor([0.7, 0.2, 0.1]), gt_label=label)])
    names = known.metric_names(metric, 3, nn.Module())
    assert {f'{metric.prefix}/{name}' for name in names} == set(metric.evaluate(size=2))


def test_names_that_are_not_known() -> None:
    """Two inputs have names of their own and of their combinations."""
    model = nn.Module()
    model.cls_head = RGBPoseHead.__new__(RGBPoseHead)
    assert known.metric_names(AccMetric(), 3, model) is None
    assert known.metric_names(ConfusionMatrix(), 3, nn.Module()) is None
