"""Two processes train a recognizer on clips as one does, jointly and in turns."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from test_multi_resolution_recognizer import SPACE_TIME, batch, build
from torch import nn

from resformer_mm.engine import train_by_turns


def joint(model: nn.Module, data: dict, optim: OptimWrapper) -> dict[str, torch.Tensor]:
    return model.train_step(data, optim)


STEPS = ((joint, False), (joint, True), (train_by_turns, True))  # and whether in one forward pass


def train(step: Callable, one_forward: bool, share: slice) -> dict[str, torch.Tensor]:
    """Two steps on a share of the batch of four videos; return the weights."""
    with DefaultScope.overwrite_default_scope('mmaction'):
        model = build(one_forward=one_forward)
    wrapped = MMDistributedDataParallel(model, broadcast_buffers=False) if dist.is_initialized() else model
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    for _ in range(2):
        data = batch(SPACE_TIME, size=4)
        inputs = [clips[share] for clips in data['inputs']]
        step(wrapped, dict(inputs=inputs, data_samples=data['data_samples'][share]), optimizer)
    return model.state_dict()


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    for number, step in enumerate(STEPS):
        torch.save(train(*step, slice(2 * rank, 2 * rank + 2)), folder / f'{number}_{rank}.pth')
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context('spawn')
    workers = [context.Process(target=work, args=(rank, tmp_path)) for rank in range(2)]
    for worker in workers:
        worker.start()
    expected = [train(*step, slice(4)) for step in STEPS]
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    for number, state in enumerate(expected):
        for rank in range(2):
            actual = torch.load(tmp_path / f'{number}_{rank}.pth', weights_only=True)
            for name, value in state.items():
                torch.testing.assert_close(actual[name], value, rtol=1e-4, atol=1e-5, msg=name)
