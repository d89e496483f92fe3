"""Checkpoints are whole or not there, and the last whole one is never deleted."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from resformer_mm.resuming import ExactCheckpointHook, ExactResumeHook, save_whole_files


class Model(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, inputs, data_samples=None, mode='loss'):
        return {'loss': self.linear(torch.stack(inputs)).square().sum()}


class Data(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict:
        return {'inputs': torch.rand(2)}


def make(
    work_dir: Path, epochs: int = 3, resume: bool = False, **settings
) -> tuple[Runner, ExactCheckpointHook]:
    runner = Runner(
        model=Model(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=Data(), batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True)
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint=dict(type='resformer_mm.ExactCheckpointHook', **settings)),
        custom_hooks=[dict(type='resformer_mm.ExactResumeHook')],
        default_scope='mmengine',
        experiment_name=f'{work_dir.name}_{id(settings)}',
        resume=resume,
        log_level='ERROR',
    )
    save_whole_files(runner)
    hooks = {type(hook): hook for hook in runner.hooks}
    hooks[ExactResumeHook].attach(runner)
    return runner, hooks[ExactCheckpointHook]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob('*.pth'))


def fail_while_writing(monkeypatch, number: int) -> None:
    """Let the disk be full for the n-th checkpoint, after a part of it is written."""
    save, calls = torch.save, []

    def save_a_part(content, file):
        calls.append(file)
        if len(calls) == number:
            raise OSError(errno.ENOSPC, 'No space left on device')
        save(content, file)

    monkeypatch.setattr(torch, 'save', save_a_part)


@pytest.mark.parametrize('keep', [1, 2, -1])
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch, keep):
    runner, _ = make(tmp_path, interval=1, max_keep_ckpts=keep)
    fail_while_writing(monkeypatch, 2)
    with pytest.raises(OSError, match=r'epoch_2.pth cannot be written.*Free space.*epoch_1.pth \(') as raised:
        runner.train()
    assert raised.value.errno == errno.ENOSPC
    assert names(tmp_path) == ['epoch_1.pth']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_1.pth')
    assert torch.load(tmp_path / 'epoch_1.pth', weights_only=False)['meta']['epoch'] == 1


def test_older_checkpoints_are_deleted_after_the_new_one_is_whole(tmp_path):
    runner, hook = make(tmp_path, interval=1, max_keep_ckpts=1)
    present, save = [], runner.save_checkpoint
    runner.save_checkpoint = lambda *args, **kwargs: (save(*args, **kwargs), present.append(names(tmp_path)))
    runner.train()
    assert present == [['epoch_1.pth'], ['epoch_1.pth', 'epoch_2.pth'], ['epoch_2.pth', 'epoch_3.pth']]
    assert names(tmp_path) == ['epoch_3.pth']


def test_checkpoints_by_minutes_are_replaced(tmp_path):
    runner, hook = make(tmp_path, epochs=1, interval=1, minutes=10)
    present = []
    step = runner.train_loop.run_iter

    def run_iter(idx: int, data_batch: dict) -> None:
        step(idx, data_batch)
        hook._saved_at -= 601 if idx in (0, 1) else 200
        if hook.is_late:
            runner.train_loop._iter -= 1  # as within the step
            hook.save_interim(runner, runner.iter + 1)
            runner.train_loop._iter += 1
        present.append(names(tmp_path))

    runner.train_loop.run_iter = run_iter
    runner.train()
    assert present == [['iter_1.pth'], ['iter_2.pth'], ['iter_2.pth'], ['iter_2.pth']]
    assert names(tmp_path) == ['epoch_1.pth']


@pytest.mark.parametrize('minutes', [0, -1])
def test_minutes_must_be_positive(minutes):
    with pytest.raises(ValueError, match='minutes'):
        ExactCheckpointHook(minutes=minutes)


def test_the_best_checkpoint_of_the_original_is_left_alone(tmp_path):
    runner, hook = make(tmp_path / 'copy', save_best='accuracy')
    original = tmp_path / 'original' / 'best_accuracy_epoch_1.pth'
    original.parent.mkdir()
    original.touch()
    runner.message_hub.update_info('best_ckpt', str(original))
    hook.before_train(runner)
    assert hook.best_ckpt_path is None
    copy = Path(runner.work_dir, original.name)
    copy.touch()
    hook.before_train(runner)
    assert hook.best_ckpt_path == str(copy)


def test_leftovers_of_killed_runs_are_removed(tmp_path):
    leftover = tmp_path / '.epoch_1.123.partial.pth'
    leftover.touch()
    runner, _ = make(tmp_path, epochs=1, interval=1)
    runner.train()
    assert not leftover.exists()
    assert names(tmp_path) == ['epoch_1.pth']


def test_accumulated_gradients_and_sampler_seeds_are_saved(tmp_path):
    runner, hook = make(tmp_path, epochs=1, by_epoch=False, interval=1)
    runner.train()
    state = torch.load(tmp_path / 'iter_3.pth', weights_only=False)['exact_state']
    assert state['batches_done'] == 3
    assert state['batches_per_epoch'] == 4
    assert state['ranks'][0]['gradients'] == {}
    assert runner.seed in state['sampler_seeds']
    assert MessageHub.get_current_instance() is not None
