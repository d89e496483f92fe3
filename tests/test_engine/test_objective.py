"""Equation 3 on a toy model, jointly and turn by turn, with the runner of MMEngine alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn

from resformer_mm.engine import MultiResolutionObjective, enumerate_copies, train_by_turns

SIZES = (8, 6, 4)


class ToyModel(MultiResolutionObjective, BaseModel):
    """A linear model of the mean over positions, with the square as its loss."""

    consistency_targets = ('score',)

    def __init__(self, consistency: dict | None = dict(type='L2Consistency', loss_weight=0.5)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 2)
        self.set_consistency(consistency, 'score')

    def supervise(self, inputs: Tensor, data_samples: list, index: int) -> tuple[dict[str, Tensor], Tensor]:
        score = self.linear(inputs.mean((2, 3)))
        target = torch.stack(data_samples)
        return {'loss_square': F.mse_loss(score, target), 'error': (score - target).abs().mean()}, score

    def forward(self, inputs, data_samples=None, mode: str = 'tensor', **kwargs):
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        return super().forward(inputs, data_samples, mode, **kwargs)


class ToyData(torch.utils.data.Dataset):
    """Eight samples, each at three resolutions."""

    metainfo: dict = {}

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict:
        generator = torch.Generator().manual_seed(index)
        inputs = [torch.randn(3, size, size, generator=generator) for size in SIZES]
        return dict(inputs=inputs, data_samples=torch.randn(2, generator=generator))


def collate(samples: list[dict]) -> dict:
    copies = zip(*(sample['inputs'] for sample in samples))
    return dict(
        inputs=[torch.stack(copy) for copy in copies], data_samples=[s['data_samples'] for s in samples]
    )


def literal_loss(model: ToyModel, batch: dict) -> Tensor:
    """Equation 3, written out."""
    total, teacher = torch.zeros(()), None
    for image in batch['inputs']:
        score = model.linear(image.mean((2, 3)))
        total = total + ((score - torch.stack(batch['data_samples'])) ** 2).mean() / 3
        if teacher is not None:
            total = total + 0.5 * ((score - teacher) ** 2).mean() / 3
        teacher = score.detach()
    return total


def test_the_terms_add_up_to_the_equation() -> None:
    model, batch = ToyModel(), collate([ToyData()[index] for index in range(4)])
    losses = model(**batch, mode='loss')
    assert list(losses) == [
        'loss_square_8', 'error_8', 'loss_square_6', 'error_6', 'loss_consistency_6',
        'loss_square_4', 'error_4', 'loss_consistency_4',
    ]  # fmt: skip
    torch.testing.assert_close(model.parse_losses(losses)[0], literal_loss(model, batch))
    # What is not a loss is logged as it is.
    score = model.linear(batch['inputs'][0].mean((2, 3)))
    torch.testing.assert_close(losses['error_8'], (score - torch.stack(batch['data_samples'])).abs().mean())


def test_copies_have_different_names() -> None:
    def names(*shapes: tuple[int, ...]) -> list[str]:
        return [copy.name for copy in enumerate_copies([torch.zeros(shape) for shape in shapes])]

    assert names((1, 3, 224, 224), (1, 3, 160, 128)) == ['224', '160x128']
    assert names((1, 3, 8, 8), (1, 3, 8, 8)) == ['8', '8_2']
    clips = [(1, 1, 3, frames, size, size) for frames, size in ((8, 32), (8, 24))]
    assert names(*clips) == ['32', '24']
    clips = [(1, 1, 3, frames, size, size) for frames, size in ((8, 32), (4, 32), (4, 32))]
    assert names(*clips) == ['8x32', '4x32', '4x32_2']
    (single,) = enumerate_copies(torch.zeros(2, 3, 8, 8))
    assert (single.index, single.number, single.name) == (0, 1, '8')


def train(loop: dict, folder: Path, wrapper: str = 'OptimWrapper', counts: int = 1) -> tuple[dict, Runner]:
    """Return the weights after a training with a loop, and the runner."""
    runner = Runner(
        model=ToyModel(),
        work_dir=str(folder),
        train_dataloader=dict(
            dataset=ToyData(),
            batch_size=2,
            num_workers=0,
            sampler=dict(type='InfiniteSampler' if 'max_iters' in loop else 'DefaultSampler', shuffle=True),
            collate_fn=collate,
        ),
        train_cfg=loop,
        optim_wrapper=dict(
            type=wrapper, optimizer=dict(type='SGD', lr=0.1, momentum=0.9), accumulative_counts=counts
        ),
        default_hooks=dict(checkpoint=None, logger=dict(type='LoggerHook', interval=1)),
        randomness=dict(seed=1),
        log_level='ERROR',
        experiment_name=folder.name,
    )
    runner.train()
    return {name: value.clone() for name, value in runner.model.state_dict().items()}, runner


LOOPS = [
    (dict(by_epoch=True, max_epochs=2), dict(type='resformer_mm.TurnByTurnEpochLoop', max_epochs=2)),
    (
        dict(type='IterBasedTrainLoop', max_iters=7),
        dict(type='resformer_mm.TurnByTurnIterLoop', max_iters=7),
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(('joint', 'turns'), LOOPS, ids=['epochs', 'iterations'])
@pytest.mark.parametrize('counts', [1, 2])
@pytest.mark.parametrize('wrapper', ['OptimWrapper', 'resformer_mm.AutocastOptimWrapper'])
def test_the_loops_train_as_those_of_mmengine(joint, turns, counts: int, wrapper: str, tmp_path) -> None:
    expected, theirs = train(joint, tmp_path / 'joint', wrapper, counts)
    actual, ours = train(turns, tmp_path / 'turns', wrapper, counts)
    assert ours.iter == theirs.iter and ours.epoch == theirs.epoch
    # In bfloat16 the joint step adds up the gradients of a weight with 8 bits, the turns in float32.
    tolerance = 1e-6 if wrapper == 'OptimWrapper' else 2e-2
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=tolerance, atol=tolerance)
    assert not torch.equal(actual['linear.weight'], ToyModel().linear.weight)


def test_another_model_is_refused() -> None:
    with pytest.raises(TypeError, match='MultiResolutionClassifier, not Linear'):
        train_by_turns(nn.Linear(1, 1), {}, None)
