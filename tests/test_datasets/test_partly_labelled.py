"""The sampler of labelled and unlabelled samples: what is in a batch, in one process and in several."""

from __future__ import annotations

from collections import Counter

import pytest
from torch.utils.data import BatchSampler

from resformer_mm.datasets import partly_labelled
from resformer_mm.registry import DATA_SAMPLERS

LABELLED, UNLABELLED = 7, 40


class Data(list):
    """So many samples, the first of which have labels."""

    num_labelled = LABELLED


DATA = Data(range(LABELLED + UNLABELLED))


def build(world: tuple[int, int] = (0, 1), monkeypatch=None, **kwargs):
    if monkeypatch is not None:
        monkeypatch.setattr(partly_labelled, 'get_dist_info', lambda: world)
    settings = dict(type='resformer_mm.PartlyLabelledSampler', batch_size=8, labelled=2, seed=3)
    return DATA_SAMPLERS.build({**settings, **kwargs}, default_args=dict(dataset=DATA))


def batches(sampler) -> list[list[int]]:
    return list(BatchSampler(sampler, sampler.batch_size, drop_last=False))


def test_labelled_samples_come_first_in_every_batch() -> None:
    sampler = build()
    found = batches(sampler)
    assert len(found) == UNLABELLED // 6 and len(sampler) == 8 * len(found)
    for batch in found:
        assert all(index < LABELLED for index in batch[:2])
        assert all(LABELLED <= index < len(DATA) for index in batch[2:])


def test_an_epoch_is_one_pass_over_the_unlabelled_samples() -> None:
    found = batches(build())
    unlabelled = [index for batch in found for index in batch[2:]]
    assert len(set(unlabelled)) == len(unlabelled) == 36
    labelled = Counter(index for batch in found for index in batch[:2])
    assert len(labelled) == LABELLED and max(labelled.values()) - min(labelled.values()) <= 1


def test_labelled_samples_are_repeated_where_there_are_few() -> None:
    sampler = build(batch_size=4, labelled=3)  # 40 batches
    labelled = Counter(index for batch in batches(sampler) for index in batch[:3])
    assert sum(labelled.values()) == 120 and max(labelled.values()) - min(labelled.values()) <= 1


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    first = build()
    assert list(first) == list(first) == list(build())
    assert list(first) != list(build(seed=4))
    first.set_epoch(1)
    other = build()
    assert list(first) != list(other)
    other.set_epoch(1)
    assert list(first) == list(other)


def test_processes_share_what_one_process_takes_in_larger_batches(monkeypatch) -> None:
    ranks = [batches(build((rank, 2), monkeypatch, batch_size=4, labelled=1)) for rank in range(2)]
    alone = batches(build((0, 1), monkeypatch, batch_size=8, labelled=2))
    assert len(ranks[0]) == len(ranks[1]) == len(alone)
    for left, right, both in zip(*ranks, alone):
        assert sorted([*left, *right]) == sorted(both)


def test_errors() -> None:
    with pytest.raises(
        ValueError, match=r'sampler\.labelled = 8 must be at least 1 and less than batch_size'
    ):
        build(labelled=8)
    with pytest.raises(ValueError, match='40 unlabelled samples do not fill a batch of 41'):
        build(batch_size=43)
    with pytest.raises(ValueError, match='needs a data set that is partly labelled, not list'):
        partly_labelled.PartlyLabelledSampler([1, 2], 8, 2)
