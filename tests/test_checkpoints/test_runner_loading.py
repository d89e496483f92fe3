"""Checkpoints that runners, sweeps and inferencers load: read once, and never by running what they hold."""

from __future__ import annotations

import functools
import logging
import logging.handlers
import os
import sys
import threading
from argparse import Namespace
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from runs import data_roots, run, run_dist, succeed, write_config, write_data

from resformer_mm.apis import (
    build_runner,
    build_test_runner,
    load_model,
    make_inferencer,
    make_test_config,
    make_train_config,
)
from resformer_mm.checkpoints import CheckpointError, read_weights
from resformer_mm.checkpoints.conversion import to_published_name
from resformer_mm.checkpoints.loading import starting_weights
from resformer_mm.checkpoints.reading import secure_runner_loading
from resformer_mm.models import ResFormer
from resformer_mm.sweep.measure import ModelUnderTest

_opened: list[str] = []
sys.addaudithook(lambda event, arguments: event == 'open' and _opened.append(str(arguments[0])))


def reads(path: Path) -> int:
    """Return how often a file was opened since the last call."""
    number = sum(Path(name) == path for name in _opened)
    _opened.clear()
    return number


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp('data'), num_val=10)


@pytest.fixture(scope='module')
def config(tmp_path_factory) -> Path:
    return write_config(tmp_path_factory.mktemp('model') / 'tiny.py')


@pytest.fixture(autouse=True)
def roots(data: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in data_roots(data).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def checkpoint(config: Path, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / 'tiny.pth'
    torch.save({'state_dict': load_model(config, device='cpu').state_dict()}, path)
    _opened.clear()
    return path


def named(cfg: Config, tmp_path: Path) -> Config:
    """Give a run a name of its own: MMEngine keeps what belongs to a name."""
    cfg.experiment_name = tmp_path.name
    return cfg


@pytest.mark.parametrize('options', [{}, {'tta': True}, {'resolutions': [32, 64]}], ids=str)
def test_a_test_reads_its_checkpoint_once(config: Path, checkpoint: Path, tmp_path: Path, options) -> None:
    cfg = make_test_config(config, checkpoint, **options)
    runner = build_test_runner(named(cfg, tmp_path))
    assert runner.test()
    assert reads(checkpoint) == 1
    model = getattr(runner.model, 'module', runner.model)
    for name, value in torch.load(checkpoint, weights_only=True)['state_dict'].items():
        assert torch.equal(model.state_dict()[name], value)


def test_a_sweep_reads_a_checkpoint_once(config: Path, checkpoint: Path, tmp_path: Path) -> None:
    model = ModelUnderTest(config, checkpoint, [32, 64], tmp_path / 'sweep')
    assert [found.resolution for found in model.evaluate([32, 64])] == [32, 64]
    for resolution in (32, 64):
        assert model.count_flops(resolution) > 0
    assert reads(checkpoint) == 1


@pytest.mark.parametrize('make', [load_model, make_inferencer])
def test_a_model_reads_its_checkpoint_once(config: Path, checkpoint: Path, make) -> None:
    make(config, checkpoint, 'cpu')
    assert reads(checkpoint) == 1


def test_training_reads_initial_weights_and_resumes_from_one_reading(
    config: Path, checkpoint: Path, tmp_path
) -> None:
    options = {'load_from': str(checkpoint), 'train_cfg.max_epochs': 1}
    cfg = make_train_config(config, work_dir=tmp_path / 'run', cfg_options=options, validate=False)
    build_runner(named(cfg, tmp_path)).train()
    assert reads(checkpoint) == 1
    saved = tmp_path / 'run' / 'epoch_1.pth'
    cfg = make_train_config(config, work_dir=tmp_path / 'run', resume=saved, validate=False)
    cfg.experiment_name = f'{tmp_path.name}-resumed'
    _opened.clear()
    runner = build_runner(cfg)
    runner.train()
    assert reads(saved) == 1
    # The averages of the log go on: two iterations of the first epoch, two of the second.
    assert len(runner.message_hub.get_scalar('train/loss').data[0]) == 4


@pytest.mark.slow
def test_commands_read_a_checkpoint_once(config: Path, checkpoint: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / 'sitecustomize.py').write_text(
        'import os, sys\n'
        f'path, log = {str(checkpoint)!r}, {str(tmp_path / "log")!r}\n'
        'def note(event, arguments):\n'
        "    if event == 'open' and str(arguments[0]) == path:\n"
        "        os.write(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), f'{os.getpid()} '.encode())\n"
        'sys.addaudithook(note)\n'
    )

    def readers() -> list[str]:
        found = (tmp_path / 'log').read_text().split()
        (tmp_path / 'log').unlink()
        return found

    tools = Path(__file__).parents[2] / 'tools'
    command = [sys.executable, tools / 'test.py', config, checkpoint, '--resolutions', 32, 64]
    succeed(run(command, data, tmp_path))
    assert len(readers()) == 1
    command = [sys.executable, tools / 'analysis_tools' / 'resolution_sweep.py', config, checkpoint]
    succeed(run([*command, '--resolutions', 32, 64, '--rounds', 1], data, tmp_path))
    assert len(readers()) == 1
    succeed(run_dist('dist_test.sh', config, checkpoint, 2, data=data, cwd=tmp_path))
    found = readers()
    assert len(found) == len(set(found)) == 2  # each process reads it once


def test_weights_under_other_names_are_loaded(config: Path, checkpoint: Path, tmp_path: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)['state_dict']
    for content in ({'model': state}, state, {'state_dict': {f'module.{n}': v for n, v in state.items()}}):
        torch.save(content, tmp_path / 'other.pth')
        cfg = make_test_config(config, tmp_path / 'other.pth')
        runner = build_test_runner(named(cfg, tmp_path))
        runner.load_or_resume()
        assert all(torch.equal(value, state[name]) for name, value in runner.model.state_dict().items())


def test_a_checkpoint_that_does_not_fit_is_refused(config: Path, checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    del content['state_dict']['head.fc.bias']
    torch.save(content, tmp_path / 'part.pth')
    runner = build_test_runner(named(make_test_config(config, tmp_path / 'part.pth'), tmp_path))
    with pytest.raises(CheckpointError, match='part.pth does not fit.*it lacks head.fc.bias'):
        runner.test()


def published(state: dict) -> dict:
    return {'model': {to_published_name(name): value for name, value in state.items()}}


def deit(state: dict) -> dict:
    names = {to_published_name(name): value for name, value in state.items() if 'position' not in name}
    return {'model': {**names, 'pos_embed': torch.zeros(1, 17, 32)}, 'args': Namespace(lr=0.1)}


# What a training may start from -> start of the names that it does not have.
STARTS = {
    'published': (published, ()),
    'DeiT': (deit, ('backbone.global_position', 'backbone.blocks')),
    'Lightning': (lambda state: {'state_dict': {f'model.{n}': v for n, v in deit(state)['model'].items()}},)
    + (('backbone.global_position', 'backbone.blocks'),),
    'compiled and distributed': (lambda state: {f'_orig_mod.module.{n}': v for n, v in state.items()}, ()),
    'averaged': (lambda state: {'model_ema': {f'module.{n}': v for n, v in state.items()}}, ()),
    '16 bits': (lambda state: {'state_dict': {n: v.bfloat16() for n, v in state.items()}}, ()),
    'backbone': (
        lambda state: {n.removeprefix('backbone.'): v for n, v in state.items() if 'head' not in n},
        ('head',),
    ),
    'seven classes': (
        lambda state: {'state_dict': {n: v[:7] if 'head' in n else v for n, v in state.items()}},
        ('head',),
    ),
}


@pytest.mark.parametrize('start', STARTS)
def test_what_a_training_starts_from(config: Path, checkpoint: Path, tmp_path: Path, start: str) -> None:
    make, fresh = STARTS[start]
    state = torch.load(checkpoint, weights_only=True)['state_dict']
    torch.save(make(state), tmp_path / 'start.pth')
    model = load_model(config, device='cpu')
    found, report = starting_weights(model, read_weights(tmp_path / 'start.pth'))
    for name, own in model.state_dict().items():
        expected = own if name in report.missing else state[name]
        torch.testing.assert_close(
            found[name].float(), expected, rtol=4e-3 if start == '16 bits' else 0, atol=0
        )
    assert all(name.startswith(fresh) and report.reasons[name] for name in report.missing)
    assert bool(report.missing) == bool(fresh)


@pytest.mark.parametrize('field', ['load_from', 'model.init_cfg', 'model.backbone.init_cfg'])
def test_runners_start_from_any_names(config: Path, checkpoint: Path, tmp_path: Path, field: str) -> None:
    """And tell what they do not find; MMEngine trains on without a word in its log."""
    state = torch.load(checkpoint, weights_only=True)['state_dict']
    torch.save(published({**state, 'head.fc.bias': torch.zeros(7)}), tmp_path / 'start.pth')
    value: object = str(tmp_path / 'start.pth')
    if field != 'load_from':
        value = dict(type='Pretrained', checkpoint=value)
    if 'backbone' in field:
        value['prefix'] = 'backbone.'  # as in configs of the libraries; this file does not have it
    cfg = make_train_config(config, work_dir=tmp_path, cfg_options={field: value}, validate=False)
    runner = build_runner(named(cfg, tmp_path))
    monitor = logging.handlers.BufferingHandler(1000)
    runner.logger.addHandler(monitor)
    runner._init_model_weights()
    runner.load_or_resume()
    for name, parameter in runner.model.named_parameters():
        is_fresh = name == 'head.fc.bias' or ('backbone' in field and name.startswith('head'))
        assert is_fresh or torch.equal(parameter, state[name]), name
    told = [record.getMessage() for record in monitor.buffer if record.levelno == logging.WARNING]
    expected = (
        f'{tmp_path / "start.pth"}: 36 of 37 tensors of the model are loaded, with their names translated'
    )
    if 'backbone' not in field:
        assert [line for line in told if line.startswith(expected)] and '(7,) in the file' in told[-1]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'head.fc.bias': float('nan')}, 'weights that are not numbers .NaN.: head.fc.bias'),
        (None, 'is a ResNet, not a plain ViT'),
        ({}, 'no meta and no optimizer.*load_from=.*start.pth, without --resume'),
    ],
    ids=['NaN', 'ResNet', 'resume'],
)
def test_what_no_training_starts_from(
    config: Path, checkpoint: Path, tmp_path: Path, change: dict | None, message: str
) -> None:
    state = torch.load(checkpoint, weights_only=True)['state_dict']
    state.update({name: state[name] * value for name, value in (change or {}).items()})
    if change is None:
        state = {'backbone.layer1.0.conv1.weight': torch.zeros(1)}
    torch.save({'state_dict': state}, tmp_path / 'start.pth')
    start = tmp_path / 'start.pth'
    options = {'load_from': str(start)} if change != {} else {}
    resume = start if change == {} else None
    with pytest.raises(CheckpointError, match=f'start.pth .*{message}'):
        cfg = make_train_config(config, work_dir=tmp_path, cfg_options=options, resume=resume, validate=False)
        build_runner(named(cfg, tmp_path)).load_or_resume()


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = str(trace)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.trace,)


@pytest.fixture
def evil(checkpoint: Path, tmp_path: Path) -> Iterator[Path]:
    """A checkpoint that fits, and runs code if it is unpickled."""
    path = tmp_path / 'evil.pth'
    torch.save({**torch.load(checkpoint, weights_only=True), 'extra': Malicious(tmp_path / 'trace')}, path)
    yield path
    assert not (tmp_path / 'trace').exists()


@pytest.mark.parametrize('way', ['load_from', 'resume', 'latest', 'Pretrained'])
def test_training_runs_no_code_of_a_checkpoint(config: Path, evil: Path, tmp_path: Path, way: str) -> None:
    options: dict = {'load_from': str(evil)} if way == 'load_from' else {}
    if way == 'Pretrained':
        options = {'model.backbone.init_cfg': dict(type='Pretrained', checkpoint=str(evil))}
    resume = {'resume': evil, 'latest': 'auto'}.get(way)
    (tmp_path / 'last_checkpoint').write_text(str(evil))
    with pytest.raises(CheckpointError, match='evil.pth is refused'):
        cfg = make_train_config(config, work_dir=tmp_path, cfg_options=options, resume=resume, validate=False)
        build_runner(named(cfg, tmp_path)).train()


def test_a_test_runs_no_code_of_a_checkpoint(config: Path, evil: Path, tmp_path: Path) -> None:
    runner = build_test_runner(named(make_test_config(config, evil), tmp_path))
    with pytest.raises(CheckpointError, match='evil.pth is refused'):
        runner.test()


@pytest.fixture
def address(tmp_path: Path, monkeypatch) -> Iterator[str]:
    """Address of a server of ``tmp_path`` on this machine."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(torch.hub, '_hub_dir', None)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f'http://127.0.0.1:{server.server_address[1]}'
        server.shutdown()
        thread.join()


def test_a_url_is_checked_and_runs_no_code(
    config: Path, checkpoint: Path, evil: Path, address: str, tmp_path: Path
) -> None:
    runner = build_test_runner(named(make_test_config(config, f'{address}/tiny.pth'), tmp_path))
    runner.load_or_resume()
    state = torch.load(checkpoint, weights_only=True)['state_dict']
    assert all(torch.equal(value, state[name]) for name, value in runner.model.state_dict().items())
    cfg = make_test_config(config, f'{address}/evil.pth')
    cfg.experiment_name = f'{tmp_path.name}-evil'
    with pytest.raises(CheckpointError, match='evil.pth is refused'):
        build_test_runner(cfg).load_or_resume()
    cfg = make_test_config(config, f'{address}/tiny.pth?again', cfg_options={'model.head.num_classes': 3})
    cfg.experiment_name = f'{tmp_path.name}-other'
    with pytest.raises(CheckpointError, match='head.fc.weight has shape'):
        build_test_runner(cfg).load_or_resume()
    init_cfg = dict(type='Pretrained', checkpoint=f'{address}/tiny.pth?backbone')
    arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
    backbone = ResFormer(arch, init_cfg=init_cfg)
    backbone.init_weights()
    assert torch.equal(backbone.cls_token, state['backbone.cls_token'])


def test_log_histories_come_back_as_they_were(tmp_path: Path) -> None:
    history = HistoryBuffer([0.5, 0.25, 1.0], [1, 2, 3], max_length=5)
    scalars = {'loss': history, 'step': np.float64(0.5)}
    hub = dict(log_scalars=scalars, runtime_info={'best': np.float32(3)}, resumed_keys={})
    torch.save({'message_hub': hub}, tmp_path / 'run.pth')
    secure_runner_loading()
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'run.pth'))['message_hub']
    restored = loaded['log_scalars']['loss']
    assert type(restored) is HistoryBuffer and restored.max_length == 5
    assert [list(numbers) for numbers in restored.data] == [[0.5, 0.25, 1.0], [1, 2, 3]]
    assert restored.mean(2) == history.mean(2)
    assert loaded['runtime_info']['best'] == np.float32(3)


class Chained:
    """Looks up an attribute of what it is given, as a file could to reach any function."""

    def __reduce__(self) -> tuple:
        return getattr, (HistoryBuffer.mean, '__globals__')


def test_nothing_is_looked_up_for_a_checkpoint(tmp_path: Path) -> None:
    torch.save({'message_hub': {'log_scalars': {'loss': Chained()}}}, tmp_path / 'run.pth')
    secure_runner_loading()
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'run.pth'))
    assert not isinstance(loaded['message_hub']['log_scalars']['loss'], dict)
