"""What an image costs in a training, computed from the config, against sums by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.model import BaseModel

from resformer_mm.analysis.resolution_complexity import complexity_at
from resformer_mm.analysis.training_cost import copies_per_image, format_costs, training_cost
from resformer_mm.apis import load_model
from resformer_mm.config.files import read_config

CONFIGS = Path(__file__).parents[2] / 'configs' / 'classification'
TOKENS = {64: 65, 48: 37, 32: 17}  # of patches of 8 pixels, and a class token


def config(name: str, **options) -> Config:
    cfg = read_config(CONFIGS / f'resformer-mini_{name}_1xb64-30e_mini.py')
    cfg.merge_from_dict(options)
    return cfg


def model(name: str, **options) -> BaseModel:
    return load_model(config(name, **options), device='cpu')


def test_all_copies_of_every_image() -> None:
    built = model('mr-64-48-32')
    cost = training_cost(built)
    assert cost.copies == {64: 1, 48: 1, 32: 1}
    assert cost.tokens == sum(TOKENS.values())
    assert cost.flops == sum(complexity_at(built, (size, size)).flops for size in TOKENS)


@pytest.mark.parametrize(
    ('name', 'copies'),
    [
        ('64', {64: 1}),
        ('mr-64-48-32_few-large', {64: 22 / 64, 48: 1, 32: 1}),
        ('mr-64-48-32_pairs', {64: 0.5, 48: 0.5, 32: 1}),
        ('mr-64-48-32_staged', {64: 0.35, 48: 1, 32: 1}),
        ('mr-64-48-32_steered', {64: 2 / 3, 48: 2 / 3, 32: 2 / 3}),
    ],
)
def test_copies_of_a_schedule(name: str, copies: dict[int, float]) -> None:
    found = copies_per_image(config(name))
    assert found == pytest.approx(copies, abs=0.03 if 'steered' in name else 0.005)


def test_frequencies_that_a_hook_has_chosen() -> None:
    """In the first of two epochs 64 is never drawn, in the second always."""
    cfg = config('mr-64-48-32_steered', **{'train_cfg.max_epochs': 2})
    found = copies_per_image(cfg, [[0, 1, 1], [1, 1, 0]])
    assert found == pytest.approx({64: 0.5, 48: 1, 32: 0.5})


def test_dropped_patches() -> None:
    """Of 64 patches, 22 are left; evaluation still has all."""
    built, plain = model('mr-64-48-32_token-drop'), model('mr-64-48-32')
    cost, whole = training_cost(built), training_cost(plain)
    assert cost.tokens == 23 + 37 + 17
    # Blocks dominate: their operations are in proportion to the tokens, and those of attention to the square.
    assert cost.tokens / whole.tokens < cost.flops / whole.flops + 0.02 < 0.7
    assert complexity_at(built, (64, 64)).flops == complexity_at(plain, (64, 64)).flops


def test_the_table() -> None:
    costs = {name: training_cost(model(name)) for name in ('64', 'mr-64-48-32_pairs')}
    header, _, single, pairs = format_costs(costs, costs['64']).splitlines()
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in (header, single, pairs)]
    assert cells[0] == [
        'training', 'at 64', 'at 48', 'at 32', 'tokens', 'GFLOPs', 'tokens /', 'GFLOPs /'
    ]  # fmt: skip
    assert cells[1][:5] == ['64', '1.00', '', '', '65.0'] and cells[1][6:] == ['1.00', '1.00']
    assert cells[2][1:5] == ['0.50', '0.50', '1.00', '68.0'] and cells[2][6] == '1.05'


def test_what_has_no_schedule() -> None:
    cfg = config('64')
    cfg.train_dataloader.dataset.pipeline = []
    with pytest.raises(ValueError, match='has no MultiResolution transform'):
        copies_per_image(cfg)
    cfg = config('mr-64-48-32_pairs')
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=7)
    with pytest.raises(ValueError, match=r'set train_cfg\.max_epochs'):
        copies_per_image(cfg)
    cfg = config('mr-64-48-32')
    cfg.train_dataloader.batch_sampler = dict(type='DefaultSampler', shuffle=False)
    with pytest.raises(ValueError, match='DefaultSampler draws no resolutions'):
        copies_per_image(cfg)
