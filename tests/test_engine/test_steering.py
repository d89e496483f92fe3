"""Weights of drawn resolutions that follow the losses: rules, processes, checkpoints, resumed runs."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor, nn
from torch.utils.data import Dataset

from resformer_mm.datasets.samplers import MultiResolutionBatchSampler, ResolutionBatchSampler
from resformer_mm.engine import LossGapHook, LossProgressHook, MultiResolutionObjective, SteerResolutionsHook
from resformer_mm.registry import HOOKS

SIZES = [64, 48, 32]


class Numbers(Dataset):
    """As many samples as asked for, at the drawn sizes."""

    metainfo: dict = {}

    def __init__(self, length: int = 40) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        generator = torch.Generator().manual_seed(int(index))
        inputs = [torch.randn(1, size, size, generator=generator) for size in index.resolutions]
        return dict(inputs=inputs, data_samples=torch.randn(1, generator=generator))


def sampler(**kwargs) -> ResolutionBatchSampler:
    return ResolutionBatchSampler(DefaultSampler(Numbers(), seed=0), 4, SIZES, seed=0, **kwargs)


def runner(batches: ResolutionBatchSampler) -> SimpleNamespace:
    """What the hook needs of a runner."""
    hub = MessageHub.get_instance('steering')
    loop = object.__new__(EpochBasedTrainLoop)
    loader = SimpleNamespace(batch_sampler=batches)
    return SimpleNamespace(
        train_dataloader=loader, train_loop=loop, model=nn.Linear(1, 1), message_hub=hub, _resume=True
    )


def epoch(hook: SteerResolutionsHook, of: SimpleNamespace, steps: list[dict[str, float]]) -> list[float]:
    """Run the hook through an epoch of steps with losses; return the frequencies after it."""
    for losses in steps:
        copies = [None] * sum(name.startswith('loss_cls') for name in losses)
        outputs = {name: torch.tensor(value) for name, value in losses.items()}
        hook.after_train_iter(of, 0, dict(inputs=copies), outputs)
    hook.after_train_epoch(of)
    return of.train_dataloader.batch_sampler.probabilities.tolist()


def started(hook: SteerResolutionsHook) -> tuple[SteerResolutionsHook, SimpleNamespace]:
    of = runner(sampler())
    hook.before_train(of)
    assert of.train_dataloader.batch_sampler.probabilities.tolist() == pytest.approx([1 / 3] * 3)
    return hook, of


def test_the_gap_of_the_losses() -> None:
    """Means over the steps; a step with two copies has halves of their losses."""
    hook, of = started(LossGapHook(floor=0.4))
    steps = [
        dict(loss_cls_64=0.5, loss_cls_32=1.0, loss_consistency_32=9.0, loss=10.0),  # losses of 1 and 2
        dict(loss_cls_32=3.0),
        dict(loss_cls_48=1.5),
    ]
    # Mean losses are 1, 1.5 and 2.5, gaps 0, 0.5 and 1.5.
    expected = [0.4 / 3 + 0.6 * gap / 2 for gap in (0, 0.5, 1.5)]
    assert epoch(hook, of, steps) == pytest.approx(expected)
    assert of.message_hub.get_scalar('train/share_32').current() == pytest.approx(expected[2])
    # What is not drawn in an epoch has the loss of the last epoch in which it was.
    expected = [0.4 / 3 + 0.6 * gap / 2 for gap in (0.5, 0, 1.5)]
    assert epoch(hook, of, [dict(loss_cls_64=1.5), dict(loss_cls_48=1.0)]) == pytest.approx(expected)
    assert epoch(hook, of, [{f'loss_cls_{size}': 1.0 / 3 for size in SIZES}]) == pytest.approx([1 / 3] * 3)


def test_the_progress_per_pixel() -> None:
    """Two epochs, written out."""
    hook, of = started(LossProgressHook(floor=0.3, rate=2.0, decay=0.5))
    assert epoch(hook, of, [dict(loss_cls_64=1.0), dict(loss_cls_32=2.0)]) == pytest.approx([1 / 3] * 3)
    found = epoch(hook, of, [dict(loss_cls_64=0.6), dict(loss_cls_48=1.0), dict(loss_cls_32=1.8)])
    # Falls of 0.4 in 4096 pixels and 0.2 in 1024: rewards of 0.5 and 1.
    logs = [2 * 0.5, 0.0, 2 * 1.0]
    total = sum(map(math.exp, logs))
    assert found == pytest.approx([0.1 + 0.7 * math.exp(log) / total for log in logs])
    found = epoch(hook, of, [dict(loss_cls_48=1.9), dict(loss_cls_32=1.8)])  # only 48 changes, for the worse
    logs = [0.5 * logs[0], -2.0, 0.5 * logs[2]]
    total = sum(map(math.exp, logs))
    assert found == pytest.approx([0.1 + 0.7 * math.exp(log) / total for log in logs])


def test_an_epoch_without_losses_changes_nothing() -> None:
    hook, of = started(LossGapHook())
    before = epoch(hook, of, [dict(loss_cls_64=1.0), dict(loss_cls_32=2.0)])
    assert epoch(hook, of, []) == before


def test_losses_of_all_processes_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_reduce(sums: Tensor) -> None:
        sums += torch.tensor([[0.0, 3.0, 8.0], [0, 3, 2]], dtype=sums.dtype)  # those of the other process

    monkeypatch.setattr('resformer_mm.engine.steering.all_reduce', all_reduce)
    hook, of = started(LossGapHook(floor=1e-9))
    # 48: (0 + 3) / 3 = 1, 32: (1 + 8) / 3 = 3, 64: 2.
    found = epoch(hook, of, [dict(loss_cls_64=2.0), dict(loss_cls_32=1.0)])
    assert found == pytest.approx([1 / 3, 0, 2 / 3], abs=1e-8)


def test_another_number_of_processes_continues_with_the_mean() -> None:
    hook, of = started(LossGapHook())
    hook.load_process_states([{64: (3.0, 2), 32: (1.0, 1)}, {64: (1.0, 2)}])
    assert hook.process_state() == {64: (2.0, 2), 32: (0.5, 0.5)}
    assert hook._mean_losses(of) == {64: 1.0, 32: 1.0}


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(type='LossGapHook', floor=0), r'LossGapHook\.floor = 0 must be above 0'),
        (dict(type='LossProgressHook', floor=1.5), r'LossProgressHook\.floor = 1\.5'),
        (dict(type='LossProgressHook', rate=0), 'rate = 0 must be positive'),
        (dict(type='LossProgressHook', decay=2), r'decay = 2 in \[0, 1\]'),
    ],
    ids=str,
)
def test_bad_arguments(config: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HOOKS.build({**config, 'type': f'resformer_mm.{config["type"]}'})


def test_what_cannot_be_steered() -> None:
    of = runner(SimpleNamespace())
    with pytest.raises(ValueError, match='SimpleNamespace draws none: set .*ResolutionBatchSampler'):
        LossGapHook().before_train(of)
    all_of_them = MultiResolutionBatchSampler(DefaultSampler(Numbers()), 4, 3, resolutions=SIZES)
    with pytest.raises(ValueError, match=r'every batch has all 3 resolutions.*batch_sampler\.number'):
        LossGapHook().before_train(runner(all_of_them))
    of = runner(sampler())
    of.train_loop = None
    with pytest.raises(ValueError, match='loop that counts epochs'):
        LossGapHook().before_train(of)


# Runs


class ToyModel(MultiResolutionObjective, BaseModel):
    """A linear model of the mean, with an offset by size in its loss."""

    consistency_targets = ('score',)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(1, 1)
        self.set_consistency(None, 'score')

    def supervise(self, inputs: Tensor, data_samples: list, index: int) -> tuple[dict[str, Tensor], Tensor]:
        score = self.linear(inputs.mean((2, 3)))
        return {'loss_cls': ((score - torch.stack(data_samples)) ** 2).mean() * 64 / inputs.shape[-1]}, score

    def forward(self, inputs, data_samples=None, mode: str = 'tensor', **kwargs):
        return self.loss(inputs, data_samples)


def collate(samples: list[dict]) -> dict:
    copies = zip(*(sample['inputs'] for sample in samples))
    return dict(
        inputs=[torch.stack(copy) for copy in copies], data_samples=[s['data_samples'] for s in samples]
    )


def train(folder: Path, name: str, epochs: int, load: Path | None = None) -> Runner:
    loader = dict(
        dataset=Numbers(),
        batch_size=4,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True, seed=0),
        batch_sampler=dict(type='resformer_mm.ResolutionBatchSampler', resolutions=SIZES, seed=0),
        collate_fn=collate,
    )
    made = Runner(
        model=ToyModel(),
        work_dir=str(folder / name),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05)),
        custom_hooks=[dict(type='resformer_mm.LossProgressHook')],
        randomness=dict(seed=1),
        log_level='ERROR',
        experiment_name=f'{folder.name}_{name}',
        load_from=None if load is None else str(load),
        resume=load is not None,
    )
    made.train()
    return made


def test_a_resumed_run_ends_with_the_weights_and_frequencies_of_an_undisturbed_one(tmp_path: Path) -> None:
    through = train(tmp_path, 'through', 4)
    train(tmp_path, 'first', 2)
    resumed = train(tmp_path, 'second', 4, tmp_path / 'first' / 'epoch_2.pth')
    expected = through.train_dataloader.batch_sampler.probabilities
    assert resumed.train_dataloader.batch_sampler.probabilities.tolist() == expected.tolist()
    assert len(set(expected.tolist())) == 3
    assert torch.equal(resumed.model.linear.weight, through.model.linear.weight)
