"""Overrides of variables that a config file used up."""

from __future__ import annotations

from pathlib import Path

import pytest

from resformer_mm.config.files import read_config
from resformer_mm.repairs import overheard

CONFIG = """
num_classes = 7
data_root = 'data/birds'
max_epochs = 30
scales = [64, 48]
unused = 5
pipeline = [dict(type='A', scales=scales), dict(type='B')]
model = dict(type='M', head=dict(num_classes=num_classes), depth=7)
dataset = dict(data_root=data_root, ann_file=f'{data_root}/train.txt', pipeline=pipeline)
train_dataloader = dict(dataset=dataset)
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [dict(type='S', T_max=max_epochs)]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / 'config.py').write_text(CONFIG)
    return tmp_path / 'config.py'


@pytest.mark.parametrize(
    ('options', 'fields'),
    [
        ({'num_classes': 5}, 'model.head.num_classes: override'),
        (
            {'data_root': 'x'},
            'train_dataloader.dataset.data_root, train_dataloader.dataset.ann_file: override',
        ),
        ({'max_epochs': 5}, 'train_cfg.max_epochs, param_scheduler.0.T_max: override'),
        ({'scales': [32]}, 'train_dataloader.dataset.pipeline.0.scales: override'),
        ({'scales.0': 32}, 'train_dataloader.dataset.pipeline.0.scales: override'),
        ({'pipeline.0.scales': [32]}, 'train_dataloader.dataset.pipeline: override'),
    ],
    ids=str,
)
def test_a_variable_is_refused_with_the_fields_that_hold_it(path: Path, options: dict, fields: str) -> None:
    with pytest.raises(ValueError, match='has no effect') as error:
        read_config(path, options)
    assert fields in str(error.value) and str(path) in str(error.value)


def test_all_of_them_are_named(path: Path) -> None:
    with pytest.raises(ValueError, match=r'num_classes has no effect.*max_epochs has no effect'):
        read_config(path, {'num_classes': 5, 'max_epochs': 2})


def test_the_fields_it_names_have_the_effect(path: Path) -> None:
    cfg = read_config(path, {'model.head.num_classes': 5, 'num_classes': 7})
    assert cfg.model.head.num_classes == 5


@pytest.mark.parametrize(('name', 'words'), [('unused', 'no tool reads'), ('max_epoch', 'check the name')])
def test_what_no_field_holds_is_told(path: Path, name: str, words: str) -> None:
    with overheard() as told:
        assert read_config(path, {name: 6})[name] == 6
    assert len(told) == 1 and words in told[0] and name in told[0]


def test_what_is_read_is_not_told(path: Path) -> None:
    with overheard() as told:
        read_config(path, {'randomness.seed': 1, 'work_dir': 'x', 'default_scope': 'mmengine'})
    assert not told
