"""Types of configs as names, import paths, classes and lazy references, and the library they belong to."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.config.lazy import LazyObject
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.models import ImageClassifier

from resformer_mm.apis.settling import replace_norms
from resformer_mm.config.files import enter_scope, read_config
from resformer_mm.config.resolutions import pipeline_at_resolution
from resformer_mm.config_types import find_type, packages_of_types, type_name
from resformer_mm.libraries import LIBRARIES, library_of_config, scope_of, task_of

LAZY = LazyObject('mmpretrain.models', 'ImageClassifier')
FORMS = [
    'mmpretrain.ImageClassifier',
    'mmpretrain.models.ImageClassifier',
    'mmpretrain.models.classifiers.image.ImageClassifier',
    ImageClassifier,
    LAZY,
]


@pytest.mark.parametrize('kind', FORMS, ids=str)
def test_all_forms_of_a_type_are_alike(kind) -> None:
    assert type_name(kind) == 'ImageClassifier'
    assert find_type(kind, MODELS) is ImageClassifier
    cfg = Config(dict(model=dict(type=kind)))
    assert scope_of(cfg) == 'mmpretrain'
    assert library_of_config(cfg) is LIBRARIES['mmpretrain']
    assert task_of(cfg).inferencer.endswith('ClassificationInferencer')
    enter_scope(cfg)
    assert cfg.default_scope == DefaultScope.get_current_instance().scope_name == 'mmpretrain'


@pytest.mark.parametrize('scope', [None, 'mmengine', 'mmdet'])
def test_a_scope_in_the_config_wins(scope: str | None) -> None:
    cfg = Config(dict(default_scope=scope, model=dict(type=ImageClassifier)))
    assert scope_of(cfg) == (scope or 'mmpretrain')
    assert library_of_config(cfg) is LIBRARIES['mmdet' if scope == 'mmdet' else 'mmpretrain']


def test_functions_and_unknown_names() -> None:
    assert type_name(read_config) == 'read_config' and type_name(None) == 'NoneType'
    assert find_type('Nowhere', MODELS) is None
    cfg = Config(dict(model=dict(type=read_config)))
    assert scope_of(cfg) == 'mmengine'
    with pytest.raises(ValueError, match="model.type='read_config'"):
        task_of(cfg)
    with pytest.raises(ValueError, match="model.type='Nowhere' is not registered"):
        scope_of(Config(dict(model=dict(type='Nowhere'))))


def test_packages_are_found_without_imports() -> None:
    lazy = LazyObject('never_installed.models', 'Model')
    cfg = Config(dict(model=dict(type=lazy), hooks=[dict(type='mmdet.DetVisualizationHook', path='a.b')]))
    assert packages_of_types(cfg._cfg_dict) == {'never_installed', 'mmdet'}


def test_a_pipeline_of_classes_is_scaled_like_one_of_names(tmp_path: Path) -> None:
    names = [
        dict(type='mmpretrain.ResizeEdge', scale=256, edge='short'),
        dict(type='mmpretrain.CenterCrop', crop_size=224),
    ]
    path = tmp_path / 'pure.py'
    path.write_text(
        'from mmpretrain.datasets import CenterCrop, ResizeEdge as Edge\n'
        "pipeline = [dict(type=Edge, scale=256, edge='short'), dict(type=CenterCrop, crop_size=224)]\n"
    )
    scaled = pipeline_at_resolution(Config.fromfile(path).pipeline, 112)
    expected = pipeline_at_resolution(names, 112)
    assert [{**step, 'type': type_name(step['type'])} for step in scaled] == [
        {**step, 'type': type_name(step['type'])} for step in expected
    ]


def test_layers_are_replaced_in_every_form() -> None:
    lazy = LazyObject('torch.nn', 'SyncBatchNorm')
    heads = [dict(norm_cfg=dict(type=kind)) for kind in ('SyncBN', 'torch.nn.SyncBatchNorm', 'BN', 'LN')]
    cfg = Config(dict(model=dict(type='Any', norm_cfg=dict(type=lazy), heads=heads)))
    assert replace_norms(cfg.model, ('SyncBN', 'SyncBatchNorm'), 'BN') == 3
    assert cfg.model.norm_cfg.type == 'BN'
    assert [head.norm_cfg.type for head in cfg.model.heads] == ['BN', 'BN', 'BN', 'LN']
    synchronised = dict(type='MMSyncBN', stats_mode='N', eps=1e-3)
    assert replace_norms([synchronised], ('MMSyncBN',), 'SyncBN') == 1
    assert synchronised == dict(type='SyncBN', eps=1e-3)
