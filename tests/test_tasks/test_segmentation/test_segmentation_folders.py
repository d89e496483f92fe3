"""Segmentation data sets: their samples and error messages."""

from __future__ import annotations

import logging
from pathlib import Path

import mmseg.datasets
import numpy as np
import pytest
from segmentation_files import write_image, write_mask, write_pairs

from resformer_mm import repairs
from resformer_mm.registry import DATASETS

PIPELINE = [dict(type='resformer_mm.LoadImage'), dict(type='resformer_mm.LoadSegMap')]
CLASSES = ('sky', 'tree', 'road')


def build(root: Path, kind: str = 'SegmentationFolder', split: str = 'training', **kwargs):
    prefix = dict(img_path=f'images/{split}', seg_map_path=f'annotations/{split}')
    options = dict(data_root=str(root), data_prefix=prefix, pipeline=PIPELINE, reduce_zero_label=True)
    if kind == 'SegmentationFolder' and 'classes_file' not in kwargs:
        options['metainfo'] = dict(classes=CLASSES)
    return DATASETS.build({'type': f'resformer_mm.{kind}', **options, **kwargs})


@pytest.fixture
def told(monkeypatch) -> list[str]:
    """What is told about the data, starting from nothing told."""
    lines: list[str] = []
    monkeypatch.setattr(repairs, '_told', set())
    monkeypatch.setattr(repairs, 'print_log', lambda text, **_: lines.append(text))
    return lines


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / 'data')


def test_pairs(root: Path) -> None:
    dataset = build(root)
    assert len(dataset) == 3 and dataset.metainfo['classes'] == CLASSES
    for index, name in enumerate('abc'):
        sample = dataset[index]
        assert Path(sample['img_path']) == root / 'images' / 'training' / f'{name}.jpg'
        assert Path(sample['seg_map_path']) == root / 'annotations' / 'training' / f'{name}.png'
        assert set(np.unique(sample['gt_seg_map'])) == {0, 1, 2, 255}


def test_ade20k_is_that_of_mmsegmentation(root: Path) -> None:
    dataset = build(root, 'ADE20K')
    theirs = mmseg.datasets.ADE20KDataset(
        data_root=str(root), data_prefix=dict(img_path='images/training', seg_map_path='annotations/training')
    )
    assert dataset.metainfo == theirs.metainfo and len(dataset.metainfo['classes']) == 150
    assert [dataset.get_data_info(i)['img_path'] for i in range(3)] == [
        theirs.get_data_info(i)['img_path'] for i in range(3)
    ]
    write_mask(root / 'annotations' / 'training' / 'a.png', np.full((20, 30), 150, np.uint8))
    assert (dataset[0]['gt_seg_map'] == 149).all()
    write_mask(root / 'annotations' / 'training' / 'a.png', np.full((20, 30), 151, np.uint8))
    with pytest.raises(RuntimeError, match=r'a.png of the image .*a.jpg has the values \[151\]'):
        dataset[0]


def test_a_choice_of_classes(root: Path) -> None:
    dataset = build(root, 'ADE20K', metainfo=dict(classes=('sky', 'wall')))  # labels 2 and 0
    values = np.arange(600, dtype=np.uint8).reshape(20, 30) % 151
    write_mask(root / 'annotations' / 'training' / 'a.png', values)
    expected = np.full((20, 30), 255)
    expected[values == 3], expected[values == 1] = 0, 1
    assert np.array_equal(dataset[0]['gt_seg_map'], expected)


def test_subfolders(tmp_path: Path) -> None:
    write_pairs(tmp_path, 'training/street', names=('x',))
    write_pairs(tmp_path, 'training/park', names=('x', 'y'))
    dataset = build(tmp_path)
    masks = [Path(dataset[index]['seg_map_path']).relative_to(tmp_path) for index in range(3)]
    assert [str(path) for path in masks] == [
        f'annotations/training/{name}.png' for name in ('park/x', 'park/y', 'street/x')
    ]


def test_a_list_of_names(root: Path) -> None:
    (root / 'list.txt').write_text('c\na\n')
    dataset = build(root, ann_file='list.txt')
    assert [Path(dataset[index]['img_path']).stem for index in range(2)] == ['c', 'a']
    (root / 'list.txt').write_text('c\nnowhere\n')
    with pytest.raises(FileNotFoundError, match='1 of 2 images do not exist: .*nowhere.jpg'):
        build(root, ann_file='list.txt')
    (root / 'list.txt').write_text('a.jpg,a.png\n')
    with pytest.raises(FileNotFoundError, match=r"such as 'a.jpg,a.png' has 2 parts: write the name"):
        build(root, ann_file='list.txt')


def test_images_without_masks_by_intention(root: Path) -> None:
    dataset = build(root, data_prefix=dict(img_path='images/training'), pipeline=PIPELINE[:1])
    assert len(dataset) == 3 and 'seg_map_path' not in dataset[0]


def test_another_ignored_label(root: Path) -> None:
    values = np.full((20, 30), 200, np.uint8)
    write_mask(root / 'annotations' / 'training' / 'a.png', values)
    sample = build(root, ignore_index=200, reduce_zero_label=False)[0]
    assert (sample['gt_seg_map'] == 255).all()


def test_hidden_and_other_images_are_left_out(root: Path, told: list[str]) -> None:
    images = root / 'images' / 'training'
    write_image(images / '.ipynb_checkpoints' / 'a-checkpoint.jpg')
    for name in ('x.JPG', 'y.JPG', 'z.jpeg', 'sub/w.png'):
        write_image(images / name)
    dataset = build(root)
    assert [Path(dataset.get_data_info(index)['img_path']).name for index in range(len(dataset))] == [
        'a.jpg', 'b.jpg', 'c.jpg',
    ]  # fmt: skip
    assert 'hidden files left out: 1 (.ipynb_checkpoints/a-checkpoint.jpg)' in told[0]
    assert told[1].endswith('do not end in .jpg left out: 2 .JPG, 1 .jpeg, 1 .png')
    with pytest.raises(RuntimeError, match=r'\(\*\.tif\); it has 3 .jpg, 2 .JPG, 1 .jpeg, 1 .png'):
        build(root, img_suffix='.tif')


@pytest.mark.parametrize(
    ('values', 'options', 'words'),
    [
        ((0, 255), dict(reduce_zero_label=False), 'Exported as 0/255?'),
        ((0, 1), {}, 'set reduce_zero_label=False'),
        ((0, 1, 2, 255), {}, None),
    ],
)
def test_values_of_other_classes_are_told(root: Path, told: list[str], values, options, words) -> None:
    for name in 'abc':
        pixels = np.resize(np.array(values, np.uint8), (20, 30))
        write_mask(root / 'annotations' / 'training' / f'{name}.png', pixels)
    build(root, metainfo=dict(classes=('ground', 'object')), **options)
    assert len(told) == (words is not None)
    assert words is None or ('in 3 masks, no pixel has the class 1 (object)' in told[0] and words in told[0])


@pytest.mark.parametrize(
    ('content', 'repaired'),
    [
        ('\ufeffc\r\n\r\na\r\n\r\n'.encode(), 'byte order mark: not part of'),
        ('c\na\n'.encode('utf-16'), 'encoded in UTF-16'),
        (b'c.jpg\na.jpg\n', '2 names with the suffix'),
        (b'.\\c.jpg\n"a.jpg"\n', '1 paths with backslashes'),
    ],
)
def test_a_list_as_programs_write_it(root: Path, told: list[str], content: bytes, repaired: str) -> None:
    (root / 'list.txt').write_bytes(content)
    dataset = build(root, ann_file='list.txt')
    assert [Path(dataset.get_data_info(index)['img_path']).stem for index in (0, 1)] == ['c', 'a']
    assert len(dataset) == 2 and repaired in ''.join(told) and all('repaired' in line for line in told)


# Names of the classes


@pytest.mark.parametrize('reduce_zero_label', [True, False])
def test_a_file_names_the_values(root: Path, reduce_zero_label: bool) -> None:
    (root / 'names.txt').write_text('other\nsky\ntree \n road\n')
    dataset = build(root, classes_file='names.txt', reduce_zero_label=reduce_zero_label)
    assert dataset.metainfo['classes'] == ('other', *CLASSES)[reduce_zero_label:]
    assert len(dataset.metainfo['palette']) == len(dataset.metainfo['classes'])
    assert dataset[0]['num_classes'] == 4 - reduce_zero_label


@pytest.mark.parametrize(
    ('text', 'message'),
    [('sky\ntree\nsky\n', "'sky'"), ('sky\n\ntree\n', "''.* empty or repeated"), ('sky', '1 names')],
)
def test_a_bad_file_of_names(root: Path, text: str, message: str) -> None:
    (root / 'names.txt').write_text(text)
    with pytest.raises(ValueError, match=f'names.txt must contain a name for every mask value.*{message}'):
        build(root, classes_file='names.txt')


def test_names_are_given_once(root: Path) -> None:
    for kwargs in (
        dict(metainfo=None),
        dict(metainfo=dict(classes='names.txt')),
        dict(metainfo=dict(classes=CLASSES), classes_file='names.txt'),
    ):
        with pytest.raises(ValueError, match='once, as a list in metainfo.classes or .* classes_file'):
            build(root, **kwargs)
    with pytest.raises(FileNotFoundError, match='no file of class names .*names.txt.*check classes_file'):
        build(root, classes_file='names.txt')


# Mistakes


@pytest.mark.parametrize('kind', ['SegmentationFolder', 'ADE20K'])
def test_a_missing_folder(root: Path, kind: str) -> None:
    with pytest.raises(
        FileNotFoundError, match=f'{kind}: there is no folder .*validation.*data_prefix.img_path'
    ):
        build(root, kind, 'validation')
    prefix = dict(img_path='images/training', seg_map_path='masks')
    with pytest.raises(FileNotFoundError, match='no folder .*masks.*data_prefix.seg_map_path'):
        build(root, kind, data_prefix=prefix)
    with pytest.raises(FileNotFoundError, match='annotation file .*list.txt: check ann_file'):
        build(root, kind, ann_file='list.txt')


def test_no_images(root: Path) -> None:
    with pytest.raises(RuntimeError, match=r'no images in .*training \(\*.jpeg\).*img_suffix'):
        build(root, img_suffix='.jpeg')
    (root / 'list.txt').touch()
    with pytest.raises(RuntimeError, match='no images in .*list.txt'):
        build(root, ann_file='list.txt')


def test_missing_masks(root: Path) -> None:
    (root / 'annotations' / 'training' / 'b.png').unlink()
    with pytest.raises(FileNotFoundError, match='1 of 3 masks do not exist: .*training/b.png. Add'):
        build(root)
    with pytest.raises(FileNotFoundError, match="3 of 3 masks .*the suffix '_labels.png'"):
        build(root, seg_map_suffix='_labels.png')


def test_masks_without_an_image_are_reported(root: Path, monkeypatch) -> None:
    messages = []
    monkeypatch.setattr(
        'resformer_mm.tasks.segmentation.folders.print_log',
        lambda text, **kwargs: messages.append((text, kwargs)),
    )
    build(root)
    assert not messages
    (root / 'images' / 'training' / 'b.jpg').unlink()
    write_image(root / 'images' / 'training' / 'b.JPG')
    assert len(build(root)) == 2
    [(text, kwargs)] = messages
    assert '1 masks have no image' in text and 'b.png' in text and kwargs['level'] == logging.WARNING
