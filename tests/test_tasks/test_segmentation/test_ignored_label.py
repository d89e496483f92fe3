"""One setting of the data set says which pixels are ignored: in losses, metrics and padding."""

from __future__ import annotations

from copy import deepcopy

import pytest
from mmengine.config import Config

from resformer_mm import repairs
from resformer_mm.tasks.segmentation.ignored_label import settle_ignored_label


def config(value: int | None = 11, loading: str = 'resformer_mm.LoadSegMap') -> Config:
    pipeline = [
        dict(type='resformer_mm.LoadImage'),
        dict(type=loading),
        dict(type='RandomRotate', prob=1.0, degree=9, seg_pad_val=11),
        dict(type='Pad', size=(8, 8), pad_val=dict(img=0, seg=11)),
    ]
    dataset = dict(type='resformer_mm.SegmentationFolder', data_root='x', pipeline=pipeline)
    if value is not None:
        dataset['ignore_index'] = value
    return Config(
        dict(
            model=dict(
                type='mmseg.EncoderDecoder',
                data_preprocessor=dict(type='SegDataPreProcessor', seg_pad_val=11),
                decode_head=dict(num_classes=11, ignore_index=11, loss_decode=dict(ignore_index=0)),
                auxiliary_head=[dict(num_classes=11), dict(num_classes=11, ignore_index=11)],
            ),
            train_dataloader=dict(dataset=dict(type='RepeatDataset', times=2, dataset=dataset)),
            val_dataloader=dict(dataset=deepcopy(dataset)),
            val_evaluator=[dict(type='IoUMetric', ignore_index=11)],
            test_dataloader=None,
            test_evaluator=None,
        )
    )


def test_what_names_the_value_of_the_files_ignores_its_label(monkeypatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(repairs, '_told', set())
    monkeypatch.setattr(repairs, 'print_log', lambda text, **_: lines.append(text))
    cfg = config()
    settle_ignored_label(cfg)
    settle_ignored_label(cfg)
    assert cfg.model.data_preprocessor.seg_pad_val == 255
    assert cfg.model.decode_head.ignore_index == cfg.model.auxiliary_head[1].ignore_index == 255
    assert 'ignore_index' not in cfg.model.auxiliary_head[0]
    assert cfg.model.decode_head.loss_decode.ignore_index == 0  # of another meaning in losses
    assert cfg.val_evaluator[0].ignore_index == 255
    for dataset in (cfg.train_dataloader.dataset.dataset, cfg.val_dataloader.dataset):
        assert dataset.ignore_index == 11
        assert dataset.pipeline[2].seg_pad_val == dataset.pipeline[3].pad_val.seg == 255
    assert 'val_dataloader.dataset.ignore_index: pixels of the value 11 get the label 255' in lines[0]
    assert [line.partition(': ')[0] for line in lines[1:]] == [
        'model.data_preprocessor.seg_pad_val',
        'model.decode_head.ignore_index',
        'model.auxiliary_head.1.ignore_index',
        'val_evaluator.ignore_index',
    ]


@pytest.mark.parametrize('value', [None, 255, 12])
def test_contradictions_are_named(value: int | None) -> None:
    with pytest.raises(ValueError, match=r'model.data_preprocessor.seg_pad_val is 11, but .* have the value'):
        settle_ignored_label(config(value))
    cfg = config(value)
    cfg.model.data_preprocessor.seg_pad_val = 255
    with pytest.raises(ValueError, match=r'model.decode_head.ignore_index is 11, .*remove model.decode_head'):
        settle_ignored_label(cfg)


def test_nothing_changes_with_masks_loaded_in_another_way() -> None:
    cfg = config(12, 'LoadAnnotations')
    before = deepcopy(cfg.to_dict())
    settle_ignored_label(cfg)
    assert cfg.to_dict() == before
