"""Folders with few labels: which images are chosen, and that no other label is left."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from PIL import Image

from resformer_mm.datasets.samplers import ResolutionIndex
from resformer_mm.registry import DATASETS

PER_CLASS = {'cat': 7, 'dog': 5, 'owl': 6}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Class folders, whose images have the grey of their class, and a folder of other images."""
    for label, (name, number) in enumerate(PER_CLASS.items()):
        (tmp_path / 'train' / name).mkdir(parents=True)
        for index in range(number):
            image = np.full((8, 8, 3), 50 * (label + 1), np.uint8)
            Image.fromarray(image).save(tmp_path / 'train' / name / f'{index}.png')
    (tmp_path / 'more' / 'deep').mkdir(parents=True)
    for index in range(4):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / 'more' / 'deep' / f'{index}.png')
    return tmp_path


def build(kind: str, root: Path, **kwargs) -> object:
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return DATASETS.build(
            dict(type=f'resformer_mm.{kind}', data_root=str(root), data_prefix='train', **kwargs)
        )


def entries(dataset) -> list[dict]:
    return [dataset.get_data_info(index) for index in range(len(dataset))]


def paths(dataset) -> list[str]:
    return [entry['img_path'] for entry in entries(dataset)]


def test_as_many_of_every_class_with_their_labels(root: Path) -> None:
    found = entries(build('FewLabelsFolder', root, per_class=3))
    assert Counter(entry['gt_label'] for entry in found) == {0: 3, 1: 3, 2: 3}
    for entry in found:
        assert Path(entry['img_path']).parent.name == list(PER_CLASS)[entry['gt_label']]


def test_the_choice_depends_on_the_seed_alone_and_grows(root: Path) -> None:
    few, more = (build('FewLabelsFolder', root, per_class=number, choice_seed=1) for number in (2, 4))
    assert paths(few) == paths(build('FewLabelsFolder', root, per_class=2, choice_seed=1))
    assert set(paths(few)) < set(paths(more))
    chosen = {tuple(paths(build('FewLabelsFolder', root, per_class=2, choice_seed=n))) for n in range(6)}
    assert len(chosen) > 1


def test_all_images_once_more_without_labels(root: Path) -> None:
    dataset = build('PartlyLabelledFolder', root, per_class=2)
    few = build('FewLabelsFolder', root, per_class=2)
    assert dataset.num_labelled == len(few) == 6
    found = entries(dataset)
    assert [entry['img_path'] for entry in found[:6]] == paths(few)
    assert all('gt_label' in entry for entry in found[:6])
    assert not any('gt_label' in entry for entry in found[6:])
    assert Counter(paths(dataset)[6:]) == Counter(paths(build('ImageFolder', root)))


def test_images_of_another_folder(root: Path) -> None:
    dataset = build('PartlyLabelledFolder', root, per_class=None, unlabelled_prefix='more')
    number = sum(PER_CLASS.values())
    assert dataset.num_labelled == number and len(dataset) == 2 * number + 4
    assert [Path(path).parts[-3:-1] for path in paths(dataset)[-4:]] == [('more', 'deep')] * 4
    assert not any('gt_label' in entry for entry in entries(dataset)[number:])


@pytest.mark.parametrize('part', ['labelled', 'unlabelled'])
def test_a_skipped_image_is_replaced_by_one_of_its_kind(root: Path, part: str) -> None:
    load = dict(type='resformer_mm.LoadImage', on_error='skip')
    dataset = build('PartlyLabelledFolder', root, per_class=2, pipeline=[load, dict(type='PackInputs')])
    index = 0 if part == 'labelled' else dataset.num_labelled + 3
    Path(dataset.get_data_info(index)['img_path']).write_bytes(b'nothing')
    for seed in range(8):
        np.random.seed(seed)
        assert ('gt_label' in dataset[index]['data_samples']) == (part == 'labelled')
        dataset._wanted = ResolutionIndex(index, 64, 32)
        assert dataset._rand_another().resolutions == (64, 32)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(per_class=6), r'fewer than per_class=6 images .*: dog\. Lower per_class'),
        (dict(per_class=0), 'per_class=0 must be at least 1'),
        (dict(per_class=2.5), 'per_class=2.5 must be an integer'),
        (dict(with_label=False), 'with_label=False leaves no labels'),
    ],
)
def test_errors(root: Path, kwargs: dict, message: str) -> None:
    for kind in ('FewLabelsFolder', 'PartlyLabelledFolder'):
        with pytest.raises(ValueError, match=f'{kind}: {message}'):
            build(kind, root, **kwargs)


def test_errors_of_unlabelled_images(root: Path) -> None:
    with pytest.raises(ValueError, match='indices would mix up'):
        build('PartlyLabelledFolder', root, per_class=2, indices=4)
    (root / 'empty').mkdir()
    with pytest.raises(RuntimeError, match='lists no images'):
        build('PartlyLabelledFolder', root, per_class=2, unlabelled_prefix='empty')
