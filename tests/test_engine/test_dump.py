"""Predictions of a test as a file."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import DumpResults

from resformer_mm.engine.dump import DumpPredictions


@pytest.mark.parametrize(('label', 'dtype'), [(255, torch.uint8), (256, torch.int64), (-1, torch.int64)])
def test_label_maps_without_scores(tmp_path: Path, label: int, dtype: torch.dtype) -> None:
    labels = torch.tensor([[[0, 3, label], [1, 2, 0]]])
    prediction = dict(
        seg_map_path='a.png',
        pred_sem_seg=dict(data=labels),
        seg_logits=dict(data=torch.zeros(300, 2, 3)),
        gt_sem_seg=dict(data=torch.zeros(1, 2, 3)),
    )
    before = dict(prediction)
    metric = DumpPredictions(str(tmp_path / 'out.pkl'))
    metric.process({}, [prediction])
    assert prediction == before and prediction['pred_sem_seg']['data'] is labels
    metric.evaluate(1)
    with open(tmp_path / 'out.pkl', 'rb') as file:
        (kept,) = pickle.load(file)
    assert set(kept) == {'seg_map_path', 'pred_sem_seg'}
    assert kept['pred_sem_seg']['data'].dtype == dtype
    assert torch.equal(kept['pred_sem_seg']['data'].long(), labels)


@pytest.mark.parametrize(
    'prediction',
    [
        dict(pred_score=torch.rand(3), pred_label=torch.tensor([1]), gt_label=torch.tensor([2])),
        dict(pred_depth_map=dict(data=torch.rand(1, 2, 3)), gt_depth_map=dict(data=torch.rand(1, 2, 3))),
        dict(pred_sem_seg=dict(sem_seg=torch.ones(1, 2, 3)), seg_logits=dict(sem_seg=torch.rand(5, 2, 3))),
        dict(pred_instances=dict(bboxes=torch.rand(2, 4))),
    ],
    ids=['scores', 'depth', 'label maps of mmdet', 'boxes'],
)
def test_other_predictions_are_dumped_as_mmengine_does(tmp_path: Path, prediction: dict) -> None:
    contents = []
    for kind in (DumpPredictions, DumpResults):
        metric = kind(out_file_path=str(tmp_path / f'{kind.__name__}.pkl'))
        metric.process({}, [prediction, prediction])
        metric.evaluate(2)
        contents.append(pickle.loads(Path(metric.out_file_path).read_bytes()))
    assert len(contents[0]) == 2
    for ours, theirs in zip(*contents):
        assert str(ours) == str(theirs)
        assert set(ours) == set(prediction)
