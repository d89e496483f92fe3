"""Trainings whose loss or weights are not finite stop, in all processes, and before a checkpoint."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from runs import copies
from torch import nn

from resformer_mm.engine import InvalidLossHook

NAN, INF = float('nan'), float('inf')


def sample(name: str, field: str = 'img_path') -> BaseDataElement:
    return BaseDataElement(metainfo={field: f'{name}.x'})


def after_step(outputs: dict, batch: object = None, hook: InvalidLossHook | None = None, **runner) -> None:
    step = SimpleNamespace(**dict(iter=6, rank=1, **runner))
    (hook or InvalidLossHook()).after_train_iter(step, 0, batch, outputs)


@pytest.mark.parametrize('field', ['img_path', 'filename', 'frame_dir'])
@pytest.mark.parametrize('loss', [NAN, INF, -INF])
def test_a_loss_that_is_not_finite_stops_the_run(loss: float, field: str) -> None:
    outputs = dict(loss=torch.tensor(loss), loss_cls=torch.tensor([1.0, loss]), acc=torch.tensor(0.5))
    batch = dict(inputs=[], data_samples=[sample('a', field), sample('b', field)])
    message = (
        r'the loss is not finite at iteration 7 on rank 1: loss (nan|-?inf), loss_cls .*; '
        r'files of the batch: a\.x, b\.x\. Check the data\. .* optim_wrapper\.optimizer\.lr'
    )
    with pytest.raises(FloatingPointError, match=message) as error:
        after_step(outputs, batch)
    assert 'acc' not in str(error.value)


@pytest.mark.parametrize(
    'outputs',
    [
        {'loss': torch.tensor(2.0), 'loss_generator': torch.tensor(NAN)},  # the sum of another part
        {'d_real': torch.tensor(1.0), 'd_fake': torch.tensor(NAN)},
        {'d_fake': INF},
        {'loss': torch.tensor(INF), 'loss_other': torch.tensor(-INF)},
    ],
)
def test_losses_of_other_names(outputs: dict) -> None:
    with pytest.raises(FloatingPointError, match='not finite'):
        after_step(outputs)


@pytest.mark.parametrize(
    'outputs',
    [{'loss': torch.tensor(value)} for value in (0.0, -3.0, 1e30)]
    + [
        {'loss': torch.tensor(1.0), 'acc': torch.tensor(NAN)},
        {'loss': torch.tensor(3e38), 'loss_cls': torch.tensor(3e38)},  # their sum overflows
        {'loss': torch.tensor(1.0), 'mode': 'a text'},
        {},
        None,
    ],
)
def test_a_finite_loss_does_not(outputs: dict | None) -> None:
    after_step(outputs)


@pytest.mark.parametrize('batch', [None, torch.zeros(2), dict(inputs=torch.zeros(2))])
def test_a_batch_without_samples(batch) -> None:
    with pytest.raises(FloatingPointError, match=r'iteration 7 on rank 1: loss nan\. Check'):
        after_step(dict(loss=torch.tensor(NAN)), batch)


def test_a_batch_of_branches() -> None:
    """As in semi-supervised detection, where a sample is in some of the branches."""
    weak, strong = sample('b'), sample('b')
    branches = dict(sup=[sample('a'), None], unsup_teacher=[None, weak], unsup_student=[None, strong])
    with pytest.raises(FloatingPointError, match=r'batch: a\.x, b\.x\. '):
        after_step(dict(loss=torch.tensor(NAN)), dict(inputs=dict(sup=[]), data_samples=branches))


def test_steps_that_a_gradient_scaler_skips_go_on_until_there_are_too_many() -> None:
    wrapper = SimpleNamespace(loss_scaler=SimpleNamespace(is_enabled=lambda: True))
    hook = InvalidLossHook()
    broken, whole = dict(loss=torch.tensor(INF)), dict(loss=torch.tensor(1.0))
    for outputs in [broken] * 19 + [whole] + [broken] * 19:
        after_step(outputs, hook=hook, optim_wrapper=wrapper)
    with pytest.raises(FloatingPointError, match='not finite'):
        after_step(broken, hook=hook, optim_wrapper=wrapper)


def test_no_checkpoint_of_broken_weights() -> None:
    model = nn.Linear(1, 1)
    step = SimpleNamespace(iter=8, model=model)
    state = {'a': torch.ones(2), 'steps': torch.tensor(3), 'b': torch.tensor([1.0, NAN])}
    with pytest.raises(FloatingPointError, match=r'after iteration 8, e\.g\. b: no checkpoint is written'):
        InvalidLossHook().before_save_checkpoint(step, dict(state_dict=state))
    del state['b']
    InvalidLossHook().before_save_checkpoint(step, dict(state_dict={**state, 'mask': torch.tensor(-INF)}))
    with pytest.raises(FloatingPointError, match=r'e\.g\. weight'):
        InvalidLossHook().before_save_checkpoint(step, dict(state_dict={'weight': torch.tensor(INF)}))


# Two processes


class BrokenOnce(BaseModel):
    """Its loss is NaN in the third step of rank 1, without a gradient that is not finite."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.step = 0

    def forward(self, inputs: object, data_samples: object, mode: str = 'tensor') -> dict:
        self.step += 1
        broken = self.step == 3 and torch.distributed.get_rank() == 1
        return dict(loss=self.weight.sum() + (NAN if broken else 0))


def train(folder: Path, rank: int) -> None:
    """Train in one of two processes, and write why the training stopped."""
    torch.set_num_threads(1)
    Runner._log_env = lambda *_: None  # it runs compilers for their versions
    torch.distributed.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=2)
    model = BrokenOnce()
    loader = dict(
        dataset=[dict(inputs=torch.zeros(1), data_samples=sample(f'file_{rank}'))] * 20,
        sampler=dict(type='DefaultSampler', shuffle=False),
        batch_size=1,
    )
    runner = Runner(
        nn.parallel.DistributedDataParallel(model),
        str(folder / 'run'),
        train_dataloader=loader,
        optim_wrapper=OptimWrapper(torch.optim.SGD(model.parameters(), 0.1)),
        train_cfg=dict(by_epoch=False, max_iters=6),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, by_epoch=False)),
        custom_hooks=[InvalidLossHook()],
        experiment_name=f'rank_{rank}',
    )
    runner.model.train_step = lambda data, optim_wrapper: step(runner.model, data, optim_wrapper)
    try:
        runner.train()
    except FloatingPointError as error:
        (folder / f'rank_{rank}.txt').write_text(f'{runner.iter} {error}')
    torch.distributed.barrier()  # nobody waits for a process that has stopped


def step(model: nn.Module, data: dict, optim_wrapper: OptimWrapper) -> dict:
    loss, outputs = model.module.parse_losses(model(**data, mode='loss'))
    optim_wrapper.update_params(loss)
    return outputs


@pytest.mark.slow
def test_all_processes_stop_at_the_step_of_one(tmp_path: Path) -> None:
    context = copies()
    processes = [context.Process(target=train, args=(tmp_path, rank)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
    texts = [(tmp_path / f'rank_{rank}.txt').read_text() for rank in range(2)]
    assert 'iteration 3 on rank 1: loss nan; files of the batch: file_1.x. Check' in texts[1]
    assert 'iteration 3 on rank 1, which names the files. Check' in texts[0]
    assert [text.split()[0] for text in texts] == ['2', '2']
    assert sorted(path.name for path in (tmp_path / 'run').glob('*.pth')) == ['iter_1.pth', 'iter_2.pth']
