"""Recognition of what a folder has: layout, task, splits, classes, counts, and what is ambiguous."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_dialects import DIALECTS, cvat, pictures, voc, write, yolo_list

from resformer_mm.formats.recognition import AmbiguousDataError, UnknownDataError, layouts_of, recognise


def masks(folder: Path, names: str, mode: str = 'L') -> None:
    """A mask of 0 and 2 for each letter."""
    folder.mkdir(parents=True, exist_ok=True)
    values = np.zeros((20, 40), np.uint8)
    values[:, 30:] = 2
    picture = Image.fromarray(values)
    if mode == 'P':
        picture.putpalette([0, 0, 0, 1, 1, 1, 128, 0, 0])
    elif mode == 'RGB':
        colours = np.array([[128, 128, 128], [0, 0, 0], [128, 0, 128]], np.uint8)
        picture = Image.fromarray(colours[values])
    for name in names:
        picture.save(folder / f'{name}.png')


def class_folders(root: Path) -> None:
    pictures(*(root / f'{split}/{name}/a.jpg' for split in ('train', 'valid') for name in ('ant', 'bee')))
    pictures(root / 'train/ant/.hidden.jpg', root / '__MACOSX/train/ant/a.jpg')


def one_level(root: Path) -> None:
    pictures(root / 'ant/a.jpg', root / 'bee/a.jpg', root / 'bee/deep/b.jpg')


def image_lists(root: Path) -> None:
    pictures(*(root / f'pictures/{name}.jpg' for name in 'abc'))
    write(root / 'train.txt', 'a.jpg 0\nb.jpg 1\n')
    write(root / 'val_list.csv', 'path,label\nc.jpg,1\n')


def named_lists(root: Path) -> None:
    pictures(*(root / f'pictures/{name}.jpg' for name in 'ab'))
    write(root / 'train.csv', 'image,label\npictures/a.jpg,bee\npictures/b.jpg,ant\n')


def index_masks(root: Path) -> None:
    pictures(*(root / f'images/{name}.jpg' for name in ('train/a', 'val/b')))
    masks(root / 'masks/train', 'a')
    masks(root / 'masks/val', 'b', 'P')
    write(root / 'classes.txt', 'road\nsky\ntree\n')


def colour_masks(root: Path) -> None:
    pictures(root / 'train/a.jpg', root / 'val/b.jpg')
    masks(root / 'train_labels', 'a', 'RGB')
    masks(root / 'val_labels', 'b', 'RGB')
    write(root / 'class_dict.csv', 'name,r,g,b\nroad,128,128,128\nsky,128,0,128\n')


def cvat_masks(root: Path) -> None:
    pictures(root / 'JPEGImages/a.jpg', root / 'JPEGImages/b.jpg')
    masks(root / 'SegmentationClass', 'ab', 'RGB')
    write(root / 'labelmap.txt', '# label:color_rgb:parts:actions\nroad:128,128,128::\nsky:128,0,128::\n')
    write(root / 'ImageSets/Segmentation/train.txt', 'a\n')
    write(root / 'ImageSets/Segmentation/val.txt', 'b\n')


def roboflow_masks(root: Path) -> None:
    pictures(root / 'train/a.jpg', root / 'valid/b.jpg')
    for split, name in (('train', 'a'), ('valid', 'b')):
        masks(root / split, name)
        (root / split / f'{name}.png').rename(root / split / f'{name}_mask.png')
        write(root / split / '_classes.csv', 'Pixel Value, Class\n0, background\n1, ant\n2, bee\n')


def video_folders(root: Path) -> None:
    for name in ('train/run/a.mp4', 'train/jump/b.avi', 'val/run/c.mp4'):
        write(root / name, '')


def video_lists(root: Path) -> None:
    video_folders(root)
    write(root / 'train_list.txt', 'train/run/a.mp4 0\ntrain/jump/b.avi 1\n')
    write(root / 'val_list.txt', 'val/run/c.mp4 0\n')


ONE_EACH = {'train': 1, 'val': 1}
LAYOUTS: list[tuple[Callable[[Path], None], str, str, tuple[str, ...], dict[str, int]]] = [
    (class_folders, 'class folders', 'classification', ('ant', 'bee'), {'train': 2, 'val': 2}),
    (one_level, 'class folders', 'classification', ('ant', 'bee'), {'': 3}),
    (image_lists, 'image lists', 'classification', ('0', '1'), {'train': 2, 'val': 1}),
    (named_lists, 'image lists', 'classification', ('ant', 'bee'), {'train': 2}),
    (index_masks, 'masks', 'segmentation', ('road', 'sky', 'tree'), ONE_EACH),
    (colour_masks, 'masks', 'segmentation', ('road', 'sky'), ONE_EACH),
    (cvat_masks, 'masks', 'segmentation', ('road', 'sky'), ONE_EACH),
    (roboflow_masks, 'masks', 'segmentation', ('background', 'ant', 'bee'), ONE_EACH),
    (video_folders, 'video folders', 'video', ('jump', 'run'), {'train': 2, 'val': 1}),
    (video_lists, 'video lists', 'video', ('0', '1'), {'train': 2, 'val': 1}),
]


@pytest.mark.parametrize(
    ('make', 'layout', 'task', 'classes', 'numbers'), LAYOUTS, ids=[row[0].__name__ for row in LAYOUTS]
)
def test_layouts(tmp_path: Path, make, layout: str, task: str, classes: tuple, numbers: dict) -> None:
    make(tmp_path)
    assert layouts_of(tmp_path) == {layout: task}
    found = recognise(tmp_path)
    assert found.report.is_sound, found.report.text()
    assert (found.layout, found.task, found.classes) == (layout, task, classes)
    assert {name: split.number for name, split in found.splits.items()} == numbers
    if task != 'segmentation':
        assert {name: sum(split.counts.values()) for name, split in found.splits.items()} == numbers
        for split in found.splits.values():
            assert all((split.source.folder / path).is_file() for path, _ in split.source.files)
    else:
        folders = found.splits['train'].source
        assert (folders.images / f'{folders.names()[0]}{folders.img_suffix}').is_file()
        assert (folders.masks / f'{folders.names()[0]}{folders.mask_suffix}').is_file()
        is_coloured = make in (colour_masks, cvat_masks)
        assert found.mask_kind == ('colours' if is_coloured else found.mask_kind)
        assert found.splits['train'].counts == ({} if is_coloured else {0: 600, 2: 200})
    assert f'{len(classes)} classes' in found.text()


@pytest.mark.parametrize('dialect', DIALECTS, ids=lambda dialect: dialect.__name__)
def test_annotations(tmp_path: Path, dialect: Callable[[Path], None]) -> None:
    dialect(tmp_path)
    assert layouts_of(tmp_path) == {DIALECTS[dialect]: 'detection'}
    found = recognise(tmp_path)
    assert (found.layout, found.task, found.classes) == (DIALECTS[dialect], 'detection', ('ant', 'bee'))
    assert next(iter(found.splits.values())).counts == {'ant': 1, 'bee': 1}


def test_a_folder_in_a_folder_as_archives_are_unpacked(tmp_path: Path) -> None:
    yolo_list(tmp_path / 'a/boats.v1/boats')
    write(tmp_path / 'a/README.roboflow.txt', 'hello')
    (tmp_path / 'a/__MACOSX').mkdir()
    found = recognise(tmp_path / 'a')
    assert (found.folder, found.classes) == (tmp_path / 'a/boats.v1/boats', ('ant', 'bee'))
    pictures(tmp_path / 'b/train/ant/a.jpg', tmp_path / 'c/ant/a.jpg')
    assert recognise(tmp_path / 'b').splits.keys() == {'train'}
    found = recognise(tmp_path / 'c')
    assert found.classes == ('ant',) and 'nothing to tell apart' in found.text()
    (tmp_path / 'd').mkdir()
    (tmp_path / 'd/again').symlink_to(tmp_path / 'd')
    with pytest.raises(ValueError, match='leads back'):
        recognise(tmp_path / 'd')


def test_ambiguity_is_told_with_the_choices(tmp_path: Path) -> None:
    voc(tmp_path)
    masks(tmp_path / 'SegmentationClass', 'ab', 'P')
    with pytest.raises(AmbiguousDataError, match=r'voc \(detection\), masks \(segmentation\)') as error:
        recognise(tmp_path)
    assert error.value.choices == {'voc': 'detection', 'masks': 'segmentation'}
    assert recognise(tmp_path, task='detection').layout == 'voc'
    assert recognise(tmp_path, task='segmentation').classes == ('0', '1', '2')
    cvat(tmp_path)
    with pytest.raises(AmbiguousDataError, match=r'voc \(detection\), cvat \(detection\)'):
        recognise(tmp_path, task='detection')
    assert recognise(tmp_path, layout='cvat').layout == 'cvat'


def test_nothing_is_told_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        recognise(tmp_path / 'nowhere')
    with pytest.raises(UnknownDataError, match='has no images. Known are class folders'):
        recognise(tmp_path)
    pictures(tmp_path / 'a.jpg')
    with pytest.raises(UnknownDataError, match='1 images without annotations: label them first'):
        recognise(tmp_path)
    yolo_list(tmp_path)
    with pytest.raises(UnknownDataError, match=r'no data for video, but yolo \(detection\)'):
        recognise(tmp_path, task='video')
    with pytest.raises(FileNotFoundError, match='unpack it'):
        recognise(tmp_path / 'a.jpg')


def test_faults_of_layouts(tmp_path: Path) -> None:
    class_folders(tmp_path / 'a')
    pictures(tmp_path / 'a/valid/Ant/c.jpg')
    image_lists(tmp_path / 'b')
    with open(tmp_path / 'b/train.txt', 'a') as file:
        file.write('gone.jpg 1\na.jpg -1\n')
    colour_masks(tmp_path / 'c')
    (tmp_path / 'c/class_dict.csv').unlink()
    (tmp_path / 'c/val_labels/b.png').rename(tmp_path / 'c/val_labels/bb.png')
    index_masks(tmp_path / 'd')
    write(tmp_path / 'd/classes.txt', 'road\nsky\n')
    for name, words in (
        ('a', ['Ant: not in train']),
        ('b', ['1 of 3: gone.jpg', "line 4: -1 of 'a.jpg' is not 0 or more"]),
        ('c', ['add a list of the colours']),
        ('d', ['a value is 2, but the list has 2 names']),
    ):
        found = recognise(tmp_path / name)
        details = [finding.detail for finding in found.report.findings if finding.is_fault]
        assert len(details) >= len(words)
        for word in words:
            assert any(word in detail for detail in details), (name, details)
