"""Tests on data without annotations predict, and compare nothing."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import DumpResults, Evaluator
from mmengine.structures import BaseDataElement

from resformer_mm.engine import unannotated
from resformer_mm.engine.unannotated import UnannotatedTestHook


class LoadSegMap:
    def __call__(self, results: dict) -> dict:
        return {**results, 'gt_sem_seg': results['seg_map_path']}


class Pack:
    def __call__(self, results: dict) -> dict:
        sample = BaseDataElement(metainfo=dict(img_path=results['img_path']))
        if 'gt_sem_seg' in results:
            sample.gt_sem_seg = results['gt_sem_seg']
        return dict(inputs=torch.zeros(1), data_samples=[sample] if results.get('views') else sample)


class Pictures(BaseDataset):
    def load_data_list(self) -> list[dict]:
        return [dict(img_path='a.png', seg_fields=[], **self.metainfo.get('more', {}))]


def metrics_after(prefix: dict, more: dict, told: list) -> list[str]:
    dataset = Pictures(metainfo=dict(more=more), data_prefix=prefix, pipeline=[LoadSegMap(), Pack()])
    loader = torch.utils.data.DataLoader(dataset, collate_fn=list)
    evaluator = Evaluator([DumpResults('a.pkl'), SimpleMetric()])
    loop = SimpleNamespace(dataloader=loader, evaluator=evaluator)
    UnannotatedTestHook().before_test(SimpleNamespace(test_loop=loop))
    next(iter(loader))
    return [type(metric).__name__ for metric in evaluator.metrics]


class SimpleMetric(DumpResults.__base__):
    def process(self, data_batch, data_samples) -> None:
        """Nothing is processed here."""

    def compute_metrics(self, results) -> dict:
        return {}


@pytest.mark.parametrize('views', [False, True])
def test_without_a_folder_of_label_maps(monkeypatch, views):
    told: list = []
    monkeypatch.setattr(unannotated, 'remark', lambda *text: told.append(text))
    found = metrics_after(dict(img_path=''), dict(views=views), told)
    assert found == ['DumpResults'] and len(told) == 1
    assert 'no annotations: there is nothing to compare with, and SimpleMetric' in told[0][1]


def test_annotated_data_are_compared(monkeypatch):
    monkeypatch.setattr(unannotated, 'remark', lambda *text: pytest.fail('told'))
    found = metrics_after(dict(img_path='', seg_map_path=''), dict(seg_map_path='a_mask.png'), [])
    assert found == ['DumpResults', 'SimpleMetric']


@pytest.mark.parametrize('ignored', [0, 1])
def test_images_without_an_object_are_not_compared(monkeypatch, ignored):
    told: list = []
    monkeypatch.setattr(unannotated, 'remark', lambda *text: told.append(text))
    more = dict(instances=[dict(ignore_flag=ignored)], seg_map_path='a.png')
    found = metrics_after(dict(img_path='', seg_map_path=''), more, told)
    assert (found == ['DumpResults']) == bool(ignored) and len(told) == ignored
    assert all('no annotations but 1 that are ignored, such as crowd regions' in text for _, text in told)
    SimpleMetric.format_only = True
    try:
        assert len(metrics_after(dict(img_path='', seg_map_path=''), more, told)) == 2
    finally:
        del SimpleMetric.format_only


def test_a_folder_that_is_named_is_not_given_up():
    with pytest.raises(KeyError, match='seg_map_path'):
        metrics_after(dict(img_path='', seg_map_path=''), {}, [])
