"""Folder data sets and the collate function: their samples and error messages."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmpretrain.registry import TRANSFORMS
from mmpretrain.structures import DataSample
from PIL import Image
from torch.utils.data import DataLoader

from resformer_mm.datasets.collate import multi_resolution_collate
from resformer_mm.datasets.samplers import ResolutionIndex
from resformer_mm.registry import DATASETS

CLASSES = ('bird', 'cat', 'dog')


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two images in each of three class folders."""
    for label, name in enumerate(CLASSES):
        (tmp_path / 'train' / name).mkdir(parents=True)
        for number in range(2):
            image = np.full((40, 50, 3), 40 * label + 10 * number, np.uint8)
            Image.fromarray(image).save(tmp_path / 'train' / name / f'{name}_{number}.png')
    return tmp_path


def build(root: Path, kind: str = 'ImageFolder', pipeline: tuple[dict, ...] = (), **kwargs):
    pipeline = [TRANSFORMS.build(step) for step in pipeline]
    options = dict(data_root=str(root), data_prefix='train', pipeline=pipeline)
    return DATASETS.build(dict(type=f'resformer_mm.{kind}', **{**options, **kwargs}))


def write(path: Path, *lines: str) -> str:
    path.write_text(''.join(f'{line}\n' for line in lines))
    return path.name


def test_folders_are_classes(root: Path) -> None:
    dataset = build(root)
    assert dataset.CLASSES == CLASSES and len(dataset) == 6
    assert [dataset.get_data_info(index)['gt_label'] for index in range(6)] == [0, 0, 1, 1, 2, 2]
    assert Path(dataset.get_data_info(3)['img_path']) == root / 'train' / 'cat' / 'cat_1.png'


def test_an_annotation_file_names_images(root: Path) -> None:
    (root / 'train' / 'with space.png').touch()
    name = write(root / 'list.txt', 'dog/dog_1.png 2', 'bird/bird_0.png 0', 'with space.png 1')
    dataset = build(root, ann_file=name)
    infos = [dataset.get_data_info(index) for index in range(3)]
    assert [info['gt_label'] for info in infos] == [2, 0, 1]
    assert Path(infos[2]['img_path']) == root / 'train' / 'with space.png'


def test_images_without_labels(root: Path) -> None:
    name = write(root / 'list.txt', 'dog/dog_1.png', 'bird/bird_0.png')
    dataset = build(root, ann_file=name, with_label=False)
    assert len(dataset) == 2 and 'gt_label' not in dataset.get_data_info(0)


def test_imagenet_has_its_classes_and_folders(root: Path) -> None:
    dataset = build(root, 'ImageNet', data_prefix='', split='train', metainfo=dict(classes=CLASSES))
    assert len(dataset) == 6
    with pytest.raises(ValueError, match=r'ImageNet.*train.*\(3\).*\(1000\)'):
        build(root, 'ImageNet', data_prefix='', split='train')
    (root / 'meta').mkdir()
    write(root / 'meta' / 'train.txt', 'dog/dog_1.png 999', 'dog/dog_0.png 1000')
    with pytest.raises(ValueError, match=r'train.txt, line 2: label 1000 of dog/dog_0.png.*0\.\.999'):
        build(root, 'ImageNet', data_prefix='', split='train')


@pytest.mark.parametrize('kind', ['ImageFolder', 'ImageNet'])
def test_a_missing_folder(root: Path, kind: str) -> None:
    with pytest.raises(FileNotFoundError, match=f'{kind}: there is no folder .*nowhere.*data_root'):
        build(root / 'nowhere', kind)
    with pytest.raises(FileNotFoundError, match='nothing.*data_prefix'):
        build(root, data_prefix='nothing')


def test_a_missing_annotation_file(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match='annotation file .*no.txt: check ann_file'):
        build(root, ann_file='no.txt')


def test_a_folder_without_images(root: Path) -> None:
    for name in CLASSES:
        shutil.rmtree(root / 'train' / name)
    with pytest.raises((RuntimeError, ValueError, FileNotFoundError), match='train.*'):
        build(root)
    (root / 'train' / 'cat').mkdir()
    with pytest.raises(RuntimeError, match='ImageFolder: .*train contains no images.*data_root.*class'):
        build(root)
    (root / 'train' / 'cat' / 'notes.txt').touch()
    with pytest.raises(RuntimeError, match='contains no images'):
        build(root)


def test_images_outside_class_folders(root: Path) -> None:
    for name in CLASSES:
        for path in (root / 'train' / name).iterdir():
            path.rename(root / 'train' / path.name)
        (root / 'train' / name).rmdir()
    with pytest.raises((RuntimeError, ValueError, FileNotFoundError), match='train.*class'):
        build(root)


def test_an_empty_annotation_file(root: Path) -> None:
    with pytest.raises(RuntimeError, match='empty.txt lists no images'):
        build(root, ann_file=write(root / 'empty.txt'))


def test_another_number_of_classes(root: Path) -> None:
    with pytest.raises(ValueError, match=r'ImageFolder: .*train.*3.*2'):
        build(root, metainfo=dict(classes=('bird', 'cat')))


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('dog/dog_0.png', "'dog/dog_0.png' is not `PATH LABEL`"),
        ('dog/dog_0.png dog', 'is not `PATH LABEL`'),
        ('dog/dog_0.png 1.5', 'is not `PATH LABEL`'),
        (
            'dog/dog_0.png -1',
            r'label -1 of dog/dog_0.png is outside the classes \(0\.\.2\).*metainfo.classes',
        ),
        ('dog/dog_0.png 3', r'label 3 of dog/dog_0.png is outside the classes \(0\.\.2\)'),
        ('', "'' is not `PATH LABEL`"),
    ],
)
def test_a_bad_line_is_named(root: Path, line: str, message: str) -> None:
    name = write(root / 'list.txt', 'bird/bird_0.png 0', line, 'cat/cat_0.png 1')
    with pytest.raises(ValueError, match=f'list.txt, line 2: .*{message}'):
        build(root, ann_file=name, metainfo=dict(classes=CLASSES))


def test_a_negative_label_without_known_classes(root: Path) -> None:
    name = write(root / 'list.txt', 'bird/bird_0.png 5', 'bird/bird_0.png -1')
    with pytest.raises(ValueError, match=r'line 2: label -1 .*\(0 or more\)'):
        build(root, ann_file=name)


PIPELINE = (
    dict(type='resformer_mm.LoadImage', on_error='skip'),
    dict(
        type='resformer_mm.MultiResolution',
        resolutions=(32, 24, 16),
        transforms=[dict(type='mmpretrain.RandomResizedCrop', scale='{resolution}')],
    ),
    dict(type='mmpretrain.PackInputs'),
)


def test_a_stand_in_keeps_the_resolution_of_the_batch(root: Path) -> None:
    for name in CLASSES[:2]:
        (root / 'train' / name / f'{name}_0.png').write_bytes(b'broken')
    dataset = build(root, pipeline=PIPELINE)
    for resolution in (32, 24, 16):
        batch = [dataset[ResolutionIndex(index, resolution)] for index in range(6)]
        images = multi_resolution_collate(batch)['inputs']
        assert [tuple(image.shape) for image in images] == [(6, 3, resolution, resolution)]
        assert not [sample for sample in batch if 'bird_0' in sample['data_samples'].img_path]
    assert dataset.pipeline.transforms[0].num_skipped >= 6
    sizes = [image.shape[-1] for image in dataset[0]['inputs']]  # a plain index afterwards
    assert sizes == [32, 24, 16]


def test_collate_stacks_every_resolution(root: Path) -> None:
    dataset = build(root, pipeline=PIPELINE)
    for batch in DataLoader(dataset, batch_size=3, collate_fn=multi_resolution_collate):
        assert [tuple(image.shape) for image in batch['inputs']] == [(3, 3, r, r) for r in (32, 24, 16)]
        assert all(image.dtype == torch.uint8 for image in batch['inputs'])
        assert len(batch['data_samples']) == 3 and isinstance(batch['data_samples'][0], DataSample)


def sample(name: str, inputs) -> dict:
    return dict(inputs=inputs, data_samples=DataSample(metainfo=dict(img_path=name)))


def test_collate_keeps_one_tensor_one_tensor() -> None:
    images = [torch.rand(3, 8, 8) for _ in range(2)]
    batch = multi_resolution_collate([sample('a.png', images[0]), sample('b.png', images[1])])
    assert torch.equal(batch['inputs'], torch.stack(images))


@pytest.mark.parametrize(
    'inputs',
    [
        [torch.zeros(3, 8, 8), torch.zeros(3, 8, 8), torch.zeros(3, 8, 9)],
        [[torch.zeros(3, 8, 8), torch.zeros(3, 4, 4)]] * 2 + [[torch.zeros(3, 8, 8), torch.zeros(3, 5, 4)]],
        [[torch.zeros(3, 8, 8), torch.zeros(3, 4, 4)]] * 2 + [[torch.zeros(3, 8, 8)]],
        [torch.zeros(3, 8, 8)] * 2 + [torch.zeros(1, 8, 8)],
    ],
)
def test_collate_names_the_files_that_disagree(inputs) -> None:
    batch = [sample(f'{name}.png', image) for name, image in zip('abc', inputs)]
    with pytest.raises(ValueError, match=r'differ in size: a.png has .*c.png has .*ResizeCenterCrop'):
        multi_resolution_collate(batch)
