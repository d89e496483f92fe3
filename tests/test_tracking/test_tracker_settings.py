"""The field that names the trackers, and what is refused before a run begins."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.visualization import MLflowVisBackend, Visualizer

from resformer_mm.apis import make_train_config
from resformer_mm.tracking import (
    TrackerError,
    drop_trackers,
    settings,
    settle_trackers,
    tracker_errors,
    tracker_settings,
)

ROOT = Path(__file__).parents[2]
LOCAL = dict(type='LocalVisBackend')
METHODS = ('_init_env', 'add_config', 'add_scalar', 'add_scalars')


def config(backends: object, **fields: object) -> Config:
    return Config(dict(visualizer=dict(type='Visualizer', vis_backends=backends), **fields))


@pytest.mark.parametrize('entries', ['LocalVisBackend', ['LocalVisBackend'], dict(LOCAL), [dict(LOCAL)]])
def test_names_stand_for_backends(entries, tmp_path):
    cfg = config(entries)
    settle_trackers(cfg)
    assert cfg.visualizer.vis_backends == [LOCAL]
    built = Visualizer(name=str(tmp_path), save_dir=str(tmp_path), vis_backends=cfg.visualizer.vis_backends)
    assert list(built._vis_backends) == ['LocalVisBackend']


def test_a_visualizer_without_a_type_is_that_of_mmengine():
    cfg = Config(dict(visualizer=dict(vis_backends='LocalVisBackend')))
    settle_trackers(cfg)
    assert cfg.visualizer.type == 'mmengine.Visualizer'


@pytest.mark.parametrize('fields', [{}, dict(visualizer=None), dict(visualizer={'type': 'V'})])
def test_configs_without_backends_are_left_alone(fields):
    cfg = Config(fields)
    settle_trackers(cfg)
    drop_trackers(cfg)
    assert cfg.to_dict() == fields and tracker_settings(cfg) == []


@pytest.mark.parametrize('entry', ['Tensorboard', dict(type='Tensorboard'), dict(init_kwargs={}), 3])
def test_what_is_not_a_backend_is_refused(entry):
    with pytest.raises(
        ValueError, match=r'visualizer.vis_backends.1.type=.* choose from .*TensorboardVisBackend'
    ):
        settle_trackers(config([LOCAL, entry]))


@pytest.mark.parametrize(('backend', 'package'), settings.PACKAGES.items())
def test_a_missing_package_is_named_with_the_command(backend, package, monkeypatch):
    monkeypatch.setattr(settings, 'find_spec', lambda name: None)
    with pytest.raises(ImportError) as caught:
        settle_trackers(config([LOCAL, dict(type=backend)]))
    text = str(caught.value)
    assert (
        text.startswith(f'visualizer.vis_backends.1: {backend} needs') and f'pip install {package}`' in text
    )
    assert '\n' not in text
    settle_trackers(config([LOCAL]))


def test_the_table_knows_every_backend_of_mmengine():
    from mmengine.visualization import vis_backend

    known = {name for name in vars(vis_backend) if name.endswith('VisBackend')}
    assert known == {'BaseVisBackend', 'LocalVisBackend', *settings.PACKAGES}


def test_parts_of_something_else_have_no_trackers(monkeypatch):
    monkeypatch.setattr(settings, 'find_spec', lambda name: name)
    cfg = config(['TensorboardVisBackend', LOCAL, dict(type='MLflowVisBackend', exp_name='a')])
    settle_trackers(cfg)
    assert [entry['type'] for entry in tracker_settings(cfg)] == ['TensorboardVisBackend', 'MLflowVisBackend']
    drop_trackers(cfg)
    assert cfg.visualizer.vis_backends == [LOCAL]


@pytest.mark.libraries
@pytest.mark.parametrize('task', ['classification', 'segmentation', 'detection', 'video'])
@pytest.mark.operators('mmseg', 'mmdet')
def test_one_line_works_for_every_task(task, monkeypatch, tmp_path):
    monkeypatch.setattr(settings, 'find_spec', lambda name: name)
    path = sorted((ROOT / 'configs' / task).glob('resformer-mini*.py'))[0]
    own = tmp_path / 'own.py'
    line = "visualizer = dict(vis_backends=[dict(type='LocalVisBackend'), dict(type='WandbVisBackend')])"
    own.write_text(f'_base_ = {str(path)!r}\n{line}\n')
    in_file = make_train_config(own)
    options = {'visualizer.vis_backends': ['LocalVisBackend', 'WandbVisBackend']}
    on_command_line = make_train_config(path, cfg_options=options)
    expected = [LOCAL, dict(type='WandbVisBackend')]
    assert in_file.visualizer == on_command_line.visualizer
    assert in_file.visualizer.vis_backends == expected and in_file.visualizer.type != 'mmengine.Visualizer'


def test_the_uri_of_mlflow_is_not_in_the_config(monkeypatch):
    monkeypatch.setattr(settings, 'find_spec', lambda name: name)
    monkeypatch.setenv('MLFLOW_TRACKING_URI', 'https://user:secret@example.org')
    cfg = config(['MLflowVisBackend'])
    settle_trackers(cfg)
    replaced = [getattr(MLflowVisBackend, name) for name in METHODS]
    settle_trackers(cfg)
    assert [getattr(MLflowVisBackend, name) for name in METHODS] == replaced  # once
    assert 'secret' not in cfg.pretty_text


def test_what_a_tracker_raises_at_its_start_is_one_line():
    class UsageError(Exception):
        __module__ = 'wandb.errors.errors'

    with pytest.raises(TrackerError) as caught, tracker_errors():
        raise UsageError('No API key configured.\nUse `wandb login`')
    assert str(caught.value).startswith('visualizer.vis_backends: wandb cannot begin a run (No API key')
    assert '\n' not in str(caught.value)
    with pytest.raises(KeyError), tracker_errors():  # not that of a tracker
        raise KeyError('model')
