"""Where a training starts that its launcher has started before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from resformer_mm.resuming import agree_on_start, restarting

LAUNCH_TIME = 1000


@pytest.fixture
def work_dir(tmp_path, monkeypatch) -> Path:
    """A work dir with a checkpoint of an earlier run."""
    monkeypatch.setenv('SLURM_JOB_ID', '7')
    save(tmp_path / 'epoch_9.pth', LAUNCH_TIME - 1)
    return tmp_path


def save(path: Path, modified: float, batch_size: int = 4, processes: int = 1) -> None:
    state = {'ranks': [{}] * processes, 'batch_size': batch_size}
    torch.save({'meta': {}, 'optimizer': {}, 'exact_state': state}, path)
    os.utime(path, (modified, modified))


def start(work_dir: Path, monkeypatch, is_restarted: bool, **settings) -> Config:
    """Return the config with which the only process starts."""
    monkeypatch.setattr(restarting, 'any_restarted', lambda: is_restarted)
    cfg = Config(dict(work_dir=str(work_dir), train_dataloader=dict(batch_size=4), **settings))
    agree_on_start(cfg)
    return cfg


def launch(work_dir: Path, monkeypatch) -> None:
    """Start for the first time, at a known time."""
    cfg = start(work_dir, monkeypatch, is_restarted=False)
    assert not cfg.resume
    os.utime(work_dir / restarting.LAUNCH, (LAUNCH_TIME, LAUNCH_TIME))


def test_a_restart_goes_on_from_what_the_launch_has_saved(work_dir, monkeypatch):
    launch(work_dir, monkeypatch)
    cfg = start(work_dir, monkeypatch, True, load_from='weights.pth')
    assert not cfg.get('resume') and cfg.load_from == 'weights.pth'  # nothing is saved yet
    save(work_dir / 'epoch_1.pth', LAUNCH_TIME + 1)
    cfg = start(work_dir, monkeypatch, True, load_from='weights.pth')
    assert cfg.resume and cfg.load_from == str(work_dir / 'epoch_1.pth')
    save(work_dir / 'epoch_2.pth', LAUNCH_TIME + 2)
    cfg = start(work_dir, monkeypatch, True, resume=True, load_from=str(work_dir / 'epoch_9.pth'))
    assert cfg.load_from == str(work_dir / 'epoch_2.pth')  # later than the one to resume from at first


@pytest.mark.parametrize('job', [None, '8'])
def test_another_launch_starts_as_it_is_told(work_dir, monkeypatch, job):
    launch(work_dir, monkeypatch)
    save(work_dir / 'epoch_1.pth', LAUNCH_TIME + 1)
    if job is None:
        (work_dir / restarting.LAUNCH).unlink()
    else:
        monkeypatch.setenv('SLURM_JOB_ID', job)
    assert not start(work_dir, monkeypatch, True).resume
    assert (work_dir / restarting.LAUNCH).read_text() == f'slurm {job or 7}'


def test_the_total_batch_is_kept_through_several_restarts(work_dir, monkeypatch):
    launch(work_dir, monkeypatch)
    # It began with 4 processes of 4 samples, and 2 of 8 have gone on.
    save(work_dir / 'epoch_1.pth', LAUNCH_TIME + 1, batch_size=8, processes=2)
    assert start(work_dir, monkeypatch, True).train_dataloader.batch_size == 16


def test_a_checkpoint_that_one_machine_does_not_have(work_dir, monkeypatch):
    def first_process(objects: list) -> None:
        objects[0] = (True, str(work_dir / 'epoch_3.pth'), 2)

    monkeypatch.setattr(restarting, 'is_main_process', lambda: False)
    monkeypatch.setattr(restarting, 'broadcast_object_list', first_process)
    with pytest.raises(FileNotFoundError, match=r'epoch_3.pth, which is not on this machine'):
        start(work_dir, monkeypatch, False)
    save(work_dir / 'epoch_3.pth', 0)
    cfg = start(work_dir, monkeypatch, False)
    assert cfg.resume and cfg.train_dataloader.batch_size == 2
