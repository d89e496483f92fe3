"""One loader of several resolutions yields what one loader per resolution does, and decodes once."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from resformer_mm.engine.failures import NamingCompose
from resformer_mm.engine.resolution_loaders import fitted_batch_sizes, loaders_at_resolutions
from resformer_mm.engine.shared_decoding import SMALL, Batches, ForkedCollate, shared_loader

RESOLUTIONS = [8, 16, 12]
DECODED: list[str] = []


class Decode:
    """A transform before the resolution: noise, as random as the file name."""

    def __call__(self, results: dict) -> dict | None:
        DECODED.append(results['img_path'])
        rng = np.random.default_rng(len(results['img_path']))
        return None if 'skipped' in results['img_path'] else {**results, 'img': rng.random((16, 20, 3))}


class Darken:
    """A transform that changes the pixels in place."""

    def __call__(self, results: dict) -> dict:
        results['img'] *= 0.5
        results.setdefault('history', []).append('darkened')
        return results


class Cut:
    """A transform with a resolution, which also changes the pixels and other entries in place."""

    def __init__(self, resolution: int) -> None:
        self.resolution = resolution

    def __call__(self, results: dict) -> dict:
        if 'broken' in results['img_path'] and self.resolution == 16:
            raise ArithmeticError('no pixels')
        results['img'] += self.resolution
        results['history'].append(self.resolution)
        results['img'] = results['img'][: self.resolution, : self.resolution]
        return results


class Pack:
    def __call__(self, results: dict) -> dict:
        image = torch.from_numpy(results['img'].copy()).permute(2, 0, 1)
        meta = dict(img_path=results['img_path'], history=results['history'])
        return dict(inputs=image, data_samples=BaseDataElement(metainfo=meta, gt_label=torch.tensor([3])))


class Files(BaseDataset):
    """A data set of files that are not there."""

    def load_data_list(self) -> list[dict]:
        names = self.ann_file.split(',')
        return [dict(img_path=name, nested=[]) for name in names]


class Changing(Files):
    """A data set that does more with a sample than its pipeline."""

    def prepare_data(self, index: int) -> Any:
        return {**super().prepare_data(index), 'index': index}


@pytest.fixture(autouse=True)
def nothing_decoded() -> None:
    DECODED.clear()


def files(names: str, kind: type = Files) -> dict:
    steps = [dict(type=Decode), dict(type=Darken), dict(type=Cut, resolution=16), dict(type=Pack)]
    return dict(type=kind, ann_file=names, test_mode=True, pipeline=steps)


def loader(dataset: dict, **kwargs: Any) -> dict:
    settings = dict(batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False))
    return dict(settings, dataset=dataset, **kwargs)


NAMES = ','.join('x' * number for number in range(1, 11))
build = partial(Runner.build_dataloader, seed=0)
DATA_SETS = {
    'plain': files(NAMES),
    'joined': dict(
        type=ConcatDataset, datasets=[files('a,bb'), dict(type=RepeatDataset, times=2, dataset=files(NAMES))]
    ),
}


def pair(config: dict, sizes: dict[int, int] | None = None) -> tuple[dict, Any]:
    """Return one loader per resolution, and the loader of all."""
    loaders = loaders_at_resolutions(config, RESOLUTIONS, build, sizes)
    return loaders, shared_loader(config, loaders, build)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, BaseDataElement):
        return one.metainfo == other.metainfo and same(one.gt_label, other.gt_label)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize('dataset', DATA_SETS)
@pytest.mark.parametrize('num_workers', [0, 2])
@pytest.mark.parametrize('sizes', [None, {8: 4, 16: 1, 12: 2}])
def test_batches_are_those_of_one_loader_per_resolution(dataset: str, num_workers: int, sizes) -> None:
    config = loader(DATA_SETS[dataset], num_workers=num_workers)
    loaders, shared = pair(config, sizes)
    found: dict[int, list] = {resolution: [] for resolution in RESOLUTIONS}
    for chunk in shared:
        for resolution, batches in zip(RESOLUTIONS, chunk):
            found[resolution] += batches
    if not num_workers:
        assert len(DECODED) == len(shared.dataset)
    for resolution in RESOLUTIONS:
        expected = list(loaders[resolution])
        assert len(found[resolution]) == len(loaders[resolution]) == len(expected)
        assert same(found[resolution], expected)
        assert {image.shape[-1] for batch in expected for image in batch['inputs']} == {resolution}


def test_transforms_that_are_changed_later_are_those_that_run() -> None:
    loaders, shared = pair(loader(files('a')))
    for resolution in RESOLUTIONS:
        dataset = loaders[resolution].dataset
        dataset.pipeline = NamingCompose(dataset.pipeline.transforms)
        dataset.pipeline.transforms = [
            step for step in dataset.pipeline.transforms if type(step) is not Darken
        ]
        dataset.pipeline.transforms.insert(1, lambda results: {**results, 'history': []})
    (chunk,) = shared
    for resolution, (batch,) in zip(RESOLUTIONS, chunk):
        assert batch['data_samples'][0].history == [resolution]
        assert batch['inputs'][0].min() >= resolution
    assert DECODED == ['a']


def test_errors_name_the_file() -> None:
    _, shared = pair(loader(files('a,broken')))
    with pytest.raises(ArithmeticError, match=r'no pixels \(file: broken\)'):
        list(shared)


def test_skipped_samples_are_replaced_as_in_a_single_loader() -> None:
    dataset = dict(files('skipped,x'), test_mode=False)
    _, shared = pair(loader(dataset))
    (chunk,) = shared
    assert all(sample.img_path == 'x' for (batch,) in chunk for sample in batch['data_samples'])


def test_data_sets_that_do_more_with_a_sample_are_not_shared() -> None:
    assert pair(loader(files(NAMES, Changing)))[1] is None
    assert pair(loader(dict(type=ConcatDataset, datasets=[files('a'), files('b', Changing)])))[1] is None


def test_small_tensors_pass_to_another_process_by_value() -> None:
    values = [
        torch.arange(6).reshape(2, 3).T,
        torch.tensor(2.5, dtype=torch.float64),
        torch.zeros(0, 4),
        torch.tensor([1.5, 2], dtype=torch.bfloat16),
        torch.rand(SMALL),
        torch.nn.Parameter(torch.ones(2)),
    ]
    batches = Batches([[dict(inputs=values, data_samples=[BaseDataElement(gt_label=values[0])])]])
    _, (_, large) = batches.__reduce__()
    assert [value.dtype for value in large] == [torch.bfloat16, torch.float32] and large[1] is values[4]
    read = pickle.loads(ForkingPickler.dumps(batches))
    assert type(read) is Batches and same(read[0][0]['inputs'], values)
    assert torch.equal(read[0][0]['data_samples'][0].gt_label, values[0])
    read[0][0]['inputs'][0] += 1  # it is writable
    assert copy.copy(batches)[0] is batches[0] and type(copy.copy(batches)) is Batches


def test_batch_sizes_have_at_most_the_pixels_of_the_configured_one() -> None:
    config = {**loader(files(NAMES)), 'batch_size': 128}
    sizes = fitted_batch_sizes(config, [8, 16, 17, 32, 40, 400])
    assert sizes == {8: 128, 16: 128, 17: 64, 32: 32, 40: 16, 400: 1}
    assert fitted_batch_sizes(config, [8, 16, 32], 8) == {8: 128, 16: 32, 32: 8}
    assert fitted_batch_sizes(config, [8, 400], 400) == {8: 128, 400: 128}
    assert fitted_batch_sizes({**config, 'batch_size': 100}, [17, 40], 16) == {17: 50, 40: 10}
    assert fitted_batch_sizes({**config, 'batch_size': 1}, [17, 40]) == {17: 1, 40: 1}
    joined = dict(type=ConcatDataset, datasets=[files('a'), dict(type=RepeatDataset, dataset=files('b'))])
    assert fitted_batch_sizes({**config, 'dataset': joined}, [32]) == {32: 32}
    for field in (dict(batch_sampler=dict(type='x')), dict(drop_last=True), dict(num_batch_per_epoch=2)):
        assert fitted_batch_sizes({**config, **field}, [400]) == {400: 128}
    with pytest.raises(ValueError, match='batch_resolution contains 0'):
        fitted_batch_sizes(config, [8], 0)


def test_a_sampler_of_batches_forms_them() -> None:
    config = loader(files(NAMES), batch_sampler=dict(type=torch.utils.data.BatchSampler, drop_last=False))
    loaders, shared = pair(config)
    for number, resolution in enumerate(RESOLUTIONS):
        assert same([batch for chunk in shared for batch in chunk[number]], list(loaders[resolution]))


def test_collate_functions_are_those_of_the_resolutions() -> None:
    collate = ForkedCollate([len, sum], [2, 3])
    assert collate([[1, 10], [2, 20], [3, 30], [4, 40]]) == [[2, 2], [60, 40]]
