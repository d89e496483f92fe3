"""Folder data sets and the collate function: their samples and error messages."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmpretrain.registry import TRANSFORMS
from mmpretrain.structures import DataSample
from PIL import Image
from torch.utils.data import DataLoader

from resformer_mm import repairs
from resformer_mm.datasets.collate import multi_resolution_collate
from resformer_mm.datasets.samplers import ResolutionIndex
from resformer_mm.registry import DATASETS
from resformer_mm.tasks.classification.check import ClassFolders, check_class_folders

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


@pytest.fixture
def told(monkeypatch) -> list[str]:
    """What is told about the data, starting from nothing told."""
    lines: list[str] = []
    monkeypatch.setattr(repairs, '_told', set())
    monkeypatch.setattr(repairs, 'print_log', lambda text, **_: lines.append(text))
    return lines


def labels(dataset) -> dict[str, int]:
    """Return the label of every file, by its path relative to the split."""
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return {os.path.relpath(info['img_path'], dataset.img_prefix): info['gt_label'] for info in infos}


def test_hidden_and_other_files_are_neither_classes_nor_data(root: Path, told: list[str]) -> None:
    train = root / 'train'
    for folder in ('.ipynb_checkpoints', '__MACOSX', '.thumbnails', '@eaDir', 'cat/.ipynb_checkpoints'):
        (train / folder).mkdir()
        shutil.copy(train / 'cat' / 'cat_0.png', train / folder / 'x.png')
    for name in ('Thumbs.db', '._cat_0.png', 'notes.txt', 'a.webp', 'b.webp'):
        (train / 'cat' / name).touch()
    (train / 'loose.png').touch()
    shutil.copy(train / 'cat' / 'cat_0.png', train / 'cat' / 'LOUD.PNG')
    os.symlink(train / 'dog' / 'dog_0.png', train / 'dog' / 'link.png')
    dataset = build(root)
    expected = {
        f'{name}/{name}_{number}.png': label for label, name in enumerate(CLASSES) for number in (0, 1)
    }
    assert dataset.CLASSES == CLASSES
    assert labels(dataset) == {**expected, 'cat/LOUD.PNG': 1, 'dog/link.png': 2}
    assert len(told) == 4
    assert 'hidden folders left out: 4 (.ipynb_checkpoints, .thumbnails, @eaDir, __MACOSX)' in told[0]
    assert told[1].endswith('hidden files left out: 2 (cat/.ipynb_checkpoints/x.png, cat/Thumbs.db)')
    assert told[2].endswith('files with other suffixes left out: 2 .webp, 1 .txt')
    assert told[3].endswith('images outside the class folders left out: 1 (loose.png)')


def test_names_of_folders_in_the_classes_number_them(root: Path, told: list[str]) -> None:
    dataset = build(root, metainfo=dict(classes=('dog', 'fox', 'cat', 'bird')))
    assert labels(dataset) == {
        f'{n}/{n}_{i}.png': k for n, k in dict(bird=3, cat=2, dog=0).items() for i in (0, 1)
    }
    assert told == [f'{root}/train: classes without a folder: 1 of 4 (fox)']
    # Other names for the folders, as ImageNet has them, go by the alphabet.
    assert set(labels(build(root, metainfo=dict(classes=('vogel', 'katze', 'hund')))).values()) == {0, 1, 2}
    for classes in (('bird', 'cat', 'fox'), ('bird', 'cat', 'Dog'), ('Bird', 'Cat', 'Dog')):
        with pytest.raises(ValueError, match=r'Folders without a class: .*dog; classes without a folder: .*'):
            build(root, metainfo=dict(classes=classes))
    with pytest.raises(ValueError, match=r"classes='names' is neither a list of names nor a file"):
        build(root, metainfo=dict(classes='names'))


def test_folders_inside_a_class_are_told(root: Path, told: list[str]) -> None:
    for folder in ('cats', 'dogs'):
        (root / 'train' / 'dog' / folder).mkdir()
        (root / 'train' / 'dog' / f'dog_{folder == "dogs":d}.png').rename(
            root / 'train' / 'dog' / folder / 'a.png'
        )
    assert build(root).get_data_info(5)['gt_label'] == 2
    [line] = told
    assert 'the images of dog are in 2 folders (cats, dogs), which are one class' in line
    [note] = check_class_folders([ClassFolders(str(root / 'train'))]).findings
    assert note.kind == 'class of several folders' and not note.is_fault


def test_classes_of_two_spellings_are_told(root: Path, told: list[str]) -> None:
    shutil.copytree(root / 'train' / 'cat', root / 'train' / 'Cat')
    assert build(root).CLASSES == ('Cat', 'bird', 'cat', 'dog')
    assert told == [f'{root}/train: classes that differ in upper and lower case alone: Cat, cat']


def test_splits_are_not_classes(root: Path) -> None:
    shutil.copytree(root / 'train', root / 'val')
    with pytest.raises(ValueError, match=r'are train, val, which are splits, not classes: set data_prefix'):
        build(root, data_prefix='')


@pytest.mark.parametrize(
    ('text', 'repaired'),
    [
        ('\ufeffdog/dog_1.png 2\ncat/cat_0.png 1\n', 'byte order mark'),
        ('dog/dog_1.png 2\r\n\r\ncat/cat_0.png 1\r\n\r\n', None),
        ('dog/dog_1.png\t2\n  cat/cat_0.png   1  ', None),
        ('"dog/dog_1.png" 2\n\'cat/cat_0.png\' 1\n', '2 paths in quotes'),
        ('dog/dog_1.png,2\ncat/cat_0.png, 1\n', '2 lines with a comma'),
        ('image,label\ndog/dog_1.png,2\n"cat/cat_0.png",1\n', "header line 'image,label'"),
        ('dog/dog_1.png dog\ncat/cat_0.png cat\n', None),
        ('dog\\dog_1.png 2\ncat\\cat_0.png 1\n', '2 paths with backslashes'),
        ('path label\ndog/dog_1.png 2\ncat/cat_0.png 1\n', "header line 'path label'"),
        ('dog/dog_1.png 2.0\ncat/cat_0.png 1.0\n', '2 labels written as a fraction'),
        ('dog/dog_1.png 2\ncat/cat_0.png 1\n'.encode('utf-16'), 'encoded in UTF-16'),
    ],
)
def test_lists_as_programs_write_them(root: Path, told: list[str], text, repaired: str | None) -> None:
    (root / 'list.txt').write_bytes(text.encode() if isinstance(text, str) else text)
    options = dict(ann_file='list.txt', metainfo=dict(classes=CLASSES))
    assert labels(build(root, **options)) == {'dog/dog_1.png': 2, 'cat/cat_0.png': 1}
    assert (repaired or '') in ''.join(told) and bool(told) == (repaired is not None)
    repairs.set_strict(True)
    try:
        if repaired is not None:
            with pytest.raises(repairs.StrictError, match=r'list\.txt: '):
                build(root, **options)
    finally:
        repairs.set_strict(False)


def test_lists_that_are_ambiguous(root: Path, told: list[str]) -> None:
    options = dict(ann_file='list.txt', metainfo=dict(classes=CLASSES))
    for lines, message in (
        (('dog/dog_0.png 3', 'cat/cat_0.png 2', 'bird/bird_0.png 1'), 'labels run from 1 to 3.*subtract 1'),
        (('dog/dog_0.png 2', 'dog/dog_0.png 1'), r'lines 1 and 2: dog/dog_0.png has the labels 2 and 1'),
        (('dog/dog_0.png Dog',), "'Dog' of 'dog/dog_0.png' is not an integer.*must list the names"),
    ):
        write(root / 'list.txt', *lines)
        with pytest.raises(ValueError, match=message):
            build(root, **options)
    for path in ('/home/me/train/dog/dog_0.png', 'C:\\data\\dog\\dog_0.png'):
        write(root / 'list.txt', f'{path} 2')
        with pytest.raises(FileNotFoundError, match="without '(/home/me/train/|C:.*data.*)' it exists"):
            build(root, **options)
    write(root / 'list.txt', 'dog/dog_0.png 2', 'dog/dog_0.png 2')
    assert len(build(root, **options)) == 2
    assert told == [f'{root}/list.txt: lines that repeat a file and its label: 1 (dog/dog_0.png)']


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
    with pytest.raises(ValueError, match="train.txt, line 2: 1000 of 'dog/dog_0.png' is not in 0 to 999"):
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
        ('dog/dog_0.png dog', "'dog' of 'dog/dog_0.png' is not an integer.*metainfo.classes"),
        ('dog/dog_0.png 1.5', "'1.5' of 'dog/dog_0.png' is not an integer"),
        ('dog/dog_0.png -1', r"-1 of 'dog/dog_0.png' is not in 0 to 2.* labels 0\.\.2: .*metainfo.classes"),
        ('dog/dog_0.png 3', "3 of 'dog/dog_0.png' is not in 0 to 2"),
    ],
)
def test_a_bad_line_is_named(root: Path, line: str, message: str) -> None:
    name = write(root / 'list.txt', 'bird/bird_0.png 0', line, 'cat/cat_0.png 1')
    with pytest.raises(ValueError, match=f'list.txt, line 2: .*{message}'):
        build(root, ann_file=name, metainfo=dict(classes=CLASSES))


def test_a_negative_label_without_known_classes(root: Path) -> None:
    name = write(root / 'list.txt', 'bird/bird_0.png 5', 'bird/bird_0.png -1')
    with pytest.raises(ValueError, match=r"line 2: -1 of 'bird/bird_0.png' is not 0 or more"):
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
