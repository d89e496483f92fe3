"""Positions in checkpoints of FlexibleRunner."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner._flexible_runner import FlexibleRunner
from torch import nn
from torch.utils.data import DataLoader

from resformer_mm.compat.flexible_positions import keep_positions


class Model(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, inputs: torch.Tensor, data_samples: object = None, mode: str = 'loss') -> dict:
        return {'loss': self.layer(inputs).sum()}


@pytest.fixture
def runner(tmp_path: Path) -> FlexibleRunner:
    runner = FlexibleRunner(
        Model(),
        work_dir=str(tmp_path),
        train_dataloader=DataLoader([{'inputs': torch.ones(2)}] * 2, batch_size=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        default_hooks=dict(checkpoint=None),
        experiment_name='positions',
        launcher='none',
        log_level='ERROR',
    )
    runner.train()
    return runner


def saved_position(runner: FlexibleRunner, folder: Path) -> tuple[int, int]:
    runner.save_checkpoint(str(folder), 'saved.pth', meta={'epoch': 1, 'iter': 2}, by_epoch=False)
    meta = torch.load(folder / 'saved.pth', weights_only=False)['meta']
    assert 'seed' in meta and 'experiment_name' in meta
    return meta['epoch'], meta['iter']


def test_the_position_that_is_given_is_saved(runner: FlexibleRunner, tmp_path: Path) -> None:
    assert saved_position(runner, tmp_path) == (1, 3), 'the defect is gone: remove the module'
    keep_positions(runner)
    assert saved_position(runner, tmp_path) == (1, 2)
