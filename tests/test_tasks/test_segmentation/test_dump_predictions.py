"""Predictions of a test as a file."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import DumpResults

from resformer_mm.tasks.segmentation.dump import DumpLabelMaps, dump_metric


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
    metric = dump_metric('mmseg', str(tmp_path / 'out.pkl'))
    metric.process({}, [prediction])
    assert prediction == before and prediction['pred_sem_seg']['data'] is labels
    metric.evaluate(1)
    with open(tmp_path / 'out.pkl', 'rb') as file:
        (kept,) = pickle.load(file)
    assert set(kept) == {'seg_map_path', 'pred_sem_seg'}
    assert kept['pred_sem_seg']['data'].dtype == dtype
    assert torch.equal(kept['pred_sem_seg']['data'].long(), labels)


def test_other_libraries_keep_everything(tmp_path: Path) -> None:
    for scope in ('mmpretrain', 'mmdet', 'mmaction', None):
        assert type(dump_metric(scope, str(tmp_path / 'out.pkl'))) is DumpResults
    assert type(dump_metric('mmseg', str(tmp_path / 'out.pkl'))) is DumpLabelMaps
