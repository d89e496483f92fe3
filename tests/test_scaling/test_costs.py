"""Costs of a training on many GPUs, against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from mmengine.config import Config
from runs import ROOT

from resformer_mm.config.files import enter_scope
from resformer_mm.scaling import Cluster, Workload, all_reduce_bytes, costs_at, read_workload, sharded_bytes
from resformer_mm.scaling.costs import memory_at_rest
from resformer_mm.scaling.workload import copies_of_step

WORKLOAD = Workload('model', 100, 60, 80, 160, 100, 400, 10, 3, 1e-3, 80)


def test_one_gpu_exchanges_nothing() -> None:
    costs = costs_at(WORKLOAD, Cluster(), 1, 50, 10)
    assert (costs.sent, costs.exchange, costs.overlapped, costs.apart) == (0, 0, 1, 1)
    assert costs.step == pytest.approx(0.2)
    assert costs.cores == pytest.approx(0.5)


def test_a_machine_and_several() -> None:
    cluster = Cluster(gpus_per_node=4, network=100, link=1000, disk=1)
    within = costs_at(WORKLOAD, cluster, 4, 50, 10)
    assert within.sent == pytest.approx(2 * 3 / 4 * 80)
    assert within.exchange == pytest.approx(0.12)
    assert within.apart == pytest.approx(0.2 / 0.32)
    assert within.overlapped == 1  # 0.12 s of 0.133 s of the backward pass
    across = costs_at(WORKLOAD, cluster, 8, 50, 10)
    assert across.exchange == pytest.approx(2 * 7 / 8 * 80 / 100)
    assert across.overlapped == pytest.approx(0.2 / (0.2 + 1.4 - 0.4 / 3))
    assert (across.total_batch, across.lr, across.images) == (80, pytest.approx(1e-3), 400)
    assert costs_at(WORKLOAD, cluster, 16, 50, 10).lr == pytest.approx(2e-3)


def test_a_total_batch() -> None:
    costs = costs_at(WORKLOAD, Cluster(), 16, 50, 10, total_batch=80)
    assert (costs.total_batch, costs.lr, costs.step) == (80, pytest.approx(1e-3), pytest.approx(0.1))
    for batch in (8, 81):
        with pytest.raises(ValueError, match=f'a batch of {batch} images cannot be shared equally by 16'):
            costs_at(WORKLOAD, Cluster(), 16, 50, 10, total_batch=batch)


@pytest.mark.parametrize('numbers', [(0, 50, 10), (8, 0, 10), (8, 50, -1)])
def test_numbers_are_positive(numbers: tuple) -> None:
    with pytest.raises(ValueError, match='must be positive'):
        costs_at(WORKLOAD, Cluster(), *numbers)


def test_no_rate_without_its_batch() -> None:
    assert costs_at(replace(WORKLOAD, base_batch_size=None), Cluster(), 8, 50, 10).lr is None


def test_shards_and_memory() -> None:
    assert sharded_bytes(WORKLOAD, 4, 6) == pytest.approx(3 / 4 * (100 + 5 * 60 + 80))
    assert all_reduce_bytes(80, 2) == 80
    parts = 100 + 80 + 160 + 100
    assert memory_at_rest(WORKLOAD, 4, 'DDP') == parts + 80
    assert memory_at_rest(WORKLOAD, 4, 'FSDP') == parts / 4
    assert memory_at_rest(WORKLOAD, 4, 'SHARD_GRAD_OP') == parts / 4 + 100


def test_a_recipe() -> None:
    name = 'resformer-tiny_mr-224-160-128_8xb128-300e_in1k.py'
    cfg = Config.fromfile(ROOT / 'configs' / 'classification' / name)
    enter_scope(cfg)
    workload = read_workload(cfg)
    assert workload.gradients == workload.weights == workload.averages
    assert workload.weights == pytest.approx(4 * 5.7e6, rel=0.05)
    assert 0.8 * workload.weights < workload.blocks < 11 / 12 * workload.weights
    assert workload.states == 2 * workload.weights
    assert workload.checkpoint == pytest.approx(4 * workload.weights, rel=1e-3)
    assert (workload.batch_size, workload.copies) == (128, 3)
    assert (workload.lr, workload.base_batch_size) == (1e-3, 1024)
    cfg.model.backbone.frozen_stages = 12
    frozen = read_workload(cfg)
    assert frozen.weights == workload.weights and frozen.gradients < 0.1 * frozen.weights


@pytest.mark.parametrize(
    ('name', 'options', 'copies'),
    [
        ('resformer-mini_mr-64-48-32_1xb64-30e_mini.py', {}, 3),
        ('resformer-mini_mr-drawn-96-32_1xb64-30e_mini.py', {}, 3),
        (
            'resformer-mini_mr-drawn-96-32_1xb64-30e_mini.py',
            {'train_dataloader.batch_sampler.number': 2},
            2,
        ),
        ('ablations/resformer-small_mr-one-per-iteration_8xb128-300e_in1k.py', {}, 1),
        ('resformer-mini_mr-64-48-32_pairs_1xb64-30e_mini.py', {}, 2),
        ('resformer-mini_mr-64-48-32_staged_1xb64-30e_mini.py', {}, 3),
        (
            'resformer-mini_mr-64-48-32_staged_1xb64-30e_mini.py',
            {'train_dataloader.batch_sampler.stages': None, 'train_dataloader.batch_sampler.ends': None},
            1,
        ),
    ],
)
def test_copies_of_a_step(name: str, options: dict, copies: int) -> None:
    cfg = Config.fromfile(ROOT / 'configs' / 'classification' / name)
    cfg.merge_from_dict(options)
    assert copies_of_step(cfg.train_dataloader) == copies


def test_copies_of_a_range() -> None:
    transform = dict(type='resformer_mm.MultiResolution', resolutions=dict(low=32, high=64, step=8))
    assert copies_of_step(dict(dataset=dict(pipeline=[dict(type='LoadImage'), transform]))) == 5
    assert copies_of_step(dict(dataset=dict(pipeline=[]))) == 1
