"""Trackers of a training and of a sweep, from the command line."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from runs import run_tool, succeed, write_config, write_data

from resformer_mm.tracking.settings import PACKAGES

SWEEP = 'analysis_tools/resolution_sweep.py'
NAMES = 'visualizer.vis_backends=LocalVisBackend,TensorboardVisBackend'


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp('data'))


def read(folder: Path):
    """Return what TensorBoard reads from the newest event file in a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    file = max(folder.rglob('events.out.tfevents.*'), key=lambda path: path.stat().st_mtime)
    events = EventAccumulator(str(file), size_guidance=dict(images=0, scalars=0))
    events.Reload()
    return events


def test_a_training_its_resumption_and_a_sweep(data, tmp_path):
    pytest.importorskip('tensorboard')
    line = (
        "visualizer = dict(vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])"
    )
    config = write_config(tmp_path / 'tracked.py', line)
    succeed(run_tool('train.py', config, '--work-dir', 'work', data=data, cwd=tmp_path))
    events = read(tmp_path / 'work')
    assert len(events.Scalars('loss_cls_64')) == 4  # two epochs of two iterations
    assert [event.step for event in events.Scalars('48/accuracy/top1')] == [1, 2]
    assert [picture.step for picture in events.Images('by_resolution')] == [1, 2]
    assert len(list((tmp_path / 'work').glob('*/vis_data/scalars.json'))) == 1

    options = ('--work-dir', 'work', '--resume', '--cfg-options', 'train_cfg.max_epochs=3')
    succeed(run_tool('train.py', config, *options, data=data, cwd=tmp_path))
    events = read(tmp_path / 'work')
    assert [event.step for event in events.Scalars('loss_cls_64')] == [5, 6]
    assert [picture.step for picture in events.Images('by_resolution')][-1] == 3

    options = ('--resolutions', 48, 32, '--rounds', 1, '--out-dir', 'out', '--track')
    result = run_tool(SWEEP, config, tmp_path / 'work' / 'epoch_3.pth', *options, data=data, cwd=tmp_path)
    succeed(result)
    assert 'Written' in result.stdout and '%' not in result.stderr
    [file] = (tmp_path / 'out').rglob('events.out.tfevents.*')  # the tested models start no runs
    events = read(file.parent)
    assert [event.step for event in events.Scalars('sweep/tracked/accuracy/top1')] == [32, 48]
    assert [event.step for event in events.Scalars('sweep/tracked/gflops')] == [32, 48]
    assert events.Images('sweep')[0].width > 1000 and 'sweep_table/text_summary' in events.Tags()['tensors']


def test_what_cannot_be_tracked_is_said_in_one_line_before_anything_starts(data, tmp_path):
    config = write_config(tmp_path / 'plain.py')
    missing = next((name for name, package in PACKAGES.items() if find_spec(package) is None), None)
    if missing is None:
        pytest.skip('every tracker is installed')
    options = ('--no-check', '--cfg-options', f'visualizer.vis_backends=LocalVisBackend,{missing}')
    result = run_tool('train.py', config, *options, data=data, cwd=tmp_path)
    [line] = [line for line in result.stderr.splitlines() if 'error' in line]
    assert result.returncode == 2 and f'pip install {PACKAGES[missing]}' in line
    assert not (tmp_path / 'work_dirs').exists()

    checkpoint = tmp_path / 'none.pth'
    result = run_tool(SWEEP, config, checkpoint, '--track', '--out-dir', 'out', data=data, cwd=tmp_path)
    assert result.returncode == 2 and f'{config} names no tracker' in result.stderr.splitlines()[-1]
    assert NAMES in result.stderr.splitlines()[-1] and not (tmp_path / 'out').exists()
