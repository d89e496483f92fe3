"""Data loaders of several resolutions read their data set once."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.registry import DATASETS, TRANSFORMS
from mmengine.runner import Runner

from resformer_mm.engine.resolution_loaders import dataset_at_resolution, loaders_at_resolutions

READS: list[str] = []


class Numbers(BaseDataset):
    """A data set that counts how often its annotations are read."""

    def load_data_list(self) -> list[dict]:
        READS.append(self.ann_file)
        return [dict(number=number) for number in range(3)]


class Sized:
    """A transform with a resolution."""

    def __init__(self, resolution: int) -> None:
        self.resolution = resolution

    def __call__(self, results: dict) -> dict:
        return dict(value=np.array([results['number'], self.resolution]))


class Renewed(BaseDataset):
    """A data set that needs its pipeline when it is made, so it cannot be shared."""

    def __init__(self, pipeline: list, **kwargs) -> None:
        super().__init__(**kwargs)
        self.pipeline = list(map(TRANSFORMS.build, pipeline))

    load_data_list = Numbers.load_data_list

    def prepare_data(self, idx: int) -> dict:
        return self.pipeline[0](self.get_data_info(idx))


@pytest.fixture(autouse=True)
def no_reads() -> None:
    READS.clear()


def plain(name: str = 'a', kind: type = Numbers) -> dict:
    return dict(type=kind, ann_file=name, pipeline=[dict(type=Sized, resolution=1)])


def joined(key: str) -> dict:
    return dict(
        type=ConcatDataset, **{key: [plain('a'), dict(type=RepeatDataset, times=2, dataset=plain('b'))]}
    )


@pytest.mark.parametrize(
    ('dataset', 'reads', 'length'),
    [
        (plain(), ['a'], 3),
        (joined('datasets'), ['a', 'b'], 9),
        (dict(type=RepeatDataset, times=2, dataset=plain()), ['a'], 6),
        (plain(kind=Renewed), ['a'] * 9, 3),
    ],
)
def test_annotations_are_read_once(dataset: dict, reads: list, length: int) -> None:
    resolutions = [16 * number for number in range(1, 10)]
    config = dict(dataset=dataset, batch_size=1, sampler=dict(type='DefaultSampler', shuffle=False))
    loaders = loaders_at_resolutions(config, resolutions, partial(Runner.build_dataloader, seed=0))
    assert reads == READS
    for resolution, loader in loaders.items():
        values = np.stack([batch['value'][0] for batch in loader])
        assert values[:, 1].tolist() == [resolution] * length
        assert values[:, 0].tolist() == [0, 1, 2] * (length // 3)
    assert dataset['type'] in (Numbers, Renewed, ConcatDataset, RepeatDataset)  # the config is unchanged
    assert '16' not in str(dataset)


def test_mistakes_are_found_before_anything_is_read() -> None:
    config = dict(dataset=dict(plain(), pipeline=[dict(type=Sized)]), batch_size=1)
    with pytest.raises(ValueError, match='no transform has a `resolution` field'):
        loaders_at_resolutions(config, [16], partial(Runner.build_dataloader, seed=0))
    assert not READS
    assert DATASETS.get('Numbers') is None


def test_the_pipeline_of_a_wrapper_is_the_one_that_changes() -> None:
    wrapped = dict(type='MultiImageMixDataset', dataset=plain(), pipeline=[dict(type=Sized, resolution=1)])
    changed = dataset_at_resolution(wrapped, 32)
    assert changed['pipeline'][0]['resolution'] == 32 and changed['dataset'] == plain()
