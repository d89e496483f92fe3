"""Names of classes in a file: those of the checkpoint, else of the data set, and none that do not fit."""

from __future__ import annotations

import json

import pytest

pytest.importorskip('mmpretrain')
from mmengine.config import Config
from small_models import classifier

from resformer_mm.apis import load_model
from resformer_mm.deployment import deployable


def metadata(cfg: Config, **dataset_meta) -> dict[str, str]:
    model = load_model(cfg, device='cpu')
    model.dataset_meta = dataset_meta
    return deployable(model).metadata()


def test_names_of_the_checkpoint_come_first() -> None:
    names = [f'kind {index}' for index in range(7)]
    cfg = classifier(metainfo=dict(classes=names))
    assert json.loads(metadata(cfg)['classes']) == names
    assert json.loads(metadata(cfg, classes=names[::-1])['classes']) == names[::-1]


def test_names_of_another_number_are_left_out() -> None:
    cfg = classifier()
    cfg.test_dataloader.dataset.type = 'ImageNet'  # has a thousand
    assert 'classes' not in metadata(cfg)
    assert 'classes' not in metadata(cfg, classes=['cat', 'dog'])
