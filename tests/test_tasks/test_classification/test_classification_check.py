"""Validation of class folders and lists of images: every fault is reported, and nothing else."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from resformer_mm import repairs
from resformer_mm.datasets.checks.configured import configured_sources
from resformer_mm.datasets.checks.report import REPAIRED, CheckReport
from resformer_mm.datasets.label_lists import BAD_LABEL, NO_LABEL
from resformer_mm.tasks.classification import check as check
from resformer_mm.tasks.classification.check import ClassFolders, check_class_folders


def write_image(path: Path, seed: int, shape: tuple[int, int] = (8, 9)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two pictures of each of three classes in both splits, all different."""
    for number in range(12):
        split, label = ('train', 'val')[number // 6], 'cde'[number % 3]
        write_image(tmp_path / split / label / f'{number}.png', number)
    return tmp_path


def splits(root: Path, **kwargs) -> list[ClassFolders]:
    return [ClassFolders(str(root / name), name=name, **kwargs) for name in ('train', 'val')]


def found(report: CheckReport) -> Counter:
    return Counter((finding.kind, Path(finding.path).name) for finding in report.findings)


def test_a_sound_data_set(root: Path) -> None:
    write_image(root / 'train' / 'c' / 'large.PNG', 99, (20, 30))
    report = check_class_folders(splits(root, num_classes=3), workers=3)
    assert report.findings == [] and report.is_sound
    lines = report.text(details=True).splitlines()
    assert lines == [
        f'{root}/train: 7 images, 3 of 3 classes occur',
        f'{root}/val: 6 images, 3 of 3 classes occur',
        f'{root}/train: images per class: c 3, d 2, e 2',
        f'{root}/val: images per class: c 2, d 2, e 2',
        f'{root}/train: 2 sizes, from 8 x 9 to 20 x 30 (height x width)',
        f'{root}/val: all 8 x 9 (height x width)',
        'sound',
    ]
    assert report.text().count('per class') == 0


def test_one_of_each_fault(root: Path) -> None:
    train, val = root / 'train', root / 'val'
    write_image(train / '.ipynb_checkpoints' / 'x.png', 20)
    write_image(train / 'c' / '.thumbnails' / 'y.png', 20)
    (train / 'c' / 'Thumbs.db').touch()
    (train / 'c' / 'notes.txt').touch()
    write_image(train / 'c' / 'other.webp', 21)
    (train / 'c' / 'photo.HEIC').write_bytes(b'ftypheic')
    (train / 'd' / 'broken.png').write_bytes(b'no picture')
    (train / 'd' / 'empty.png').touch()
    write_image(train / 'loose.png', 22)
    shutil.copy(train / 'c' / '0.png', train / 'c' / 'again.png')
    shutil.copy(train / 'c' / '3.png', train / 'e' / 'elsewhere.png')
    shutil.copy(train / 'd' / '1.png', val / 'd' / 'leaked.png')
    (val / 'E').mkdir()
    (train / 'E').mkdir()
    report = check_class_folders(splits(root), workers=2)
    expected = {
        (check.HIDDEN, '.ipynb_checkpoints'), (check.HIDDEN, 'y.png'), (check.HIDDEN, 'Thumbs.db'),
        (check.OTHER_FILE, 'notes.txt'), (check.LEFT_OUT, 'other.webp'), (check.LEFT_OUT, 'photo.HEIC'),
        (check.BAD_IMAGE, 'broken.png'), (check.BAD_IMAGE, 'empty.png'),
        (check.OUTSIDE, 'loose.png'), (check.SAME_IN_CLASS, 'again.png'),
        (check.SAME_IN_CLASSES, 'elsewhere.png'), (check.SAME_IN_SPLITS, 'leaked.png'),
    }  # fmt: skip
    assert found(report) == Counter({**dict.fromkeys(expected, 1), (check.EMPTY_CLASS, 'E'): 2})
    assert set(report.counts()) == {check.LEFT_OUT, check.BAD_IMAGE, check.SAME_IN_CLASSES}
    details = ' '.join(finding.detail for finding in report.findings)
    assert 'the file is empty' in details and 'convert it to .jpg or .png' in details and '0x' not in details


@pytest.mark.parametrize(
    ('change', 'detail'),
    [
        (lambda val: shutil.rmtree(val / 'd'), 'only train has d'),
        (lambda val: (val / 'd').rename(val / 'D'), 'only train has d; only val has D'),
        (lambda val: (val / 'f').mkdir(), 'only val has f'),
    ],
)
def test_splits_with_different_classes(root: Path, change, detail: str) -> None:
    change(root / 'val')
    [finding] = [finding for finding in check_class_folders(splits(root)).findings if finding.is_fault]
    assert (finding.kind, finding.detail) == (check.OTHER_CLASSES, detail)


def test_classes_that_are_given(root: Path) -> None:
    shutil.rmtree(root / 'val' / 'd')
    report = check_class_folders(splits(root, classes=('e', 'd', 'c')))
    assert report.is_sound and found(report) == {(check.EMPTY_CLASS, 'd'): 1}
    assert check_class_folders(splits(root, classes=('c', 'e'))).counts() == {check.UNKNOWN_FOLDER: 1}
    assert check_class_folders(splits(root, num_classes=4)).counts()[check.NUMBER] == 2


def test_lists(root: Path) -> None:
    (root / 'a.txt').write_text('c/0.png 0\nd/1.png 1\ne/2.png 1\nc/nowhere.png 0\nc/3.png\nc/3.png x\n')
    source = ClassFolders(str(root / 'train'), str(root / 'a.txt'), ('c', 'd', 'e'))
    report = check_class_folders([source])
    assert report.counts() == {NO_LABEL: 1, BAD_LABEL: 1, check.OTHER_LABEL: 1, check.MISSING_IMAGE: 1}
    (root / 'a.txt').write_bytes('\ufeffc/0.png,0\nd\\1.png,1\n'.encode())
    report = check_class_folders([source])
    assert report.is_sound and report.counts(faults=False)[REPAIRED] == 3
    repairs.set_strict(True)
    try:
        assert check_class_folders([source]).counts() == {REPAIRED: 3}
    finally:
        repairs.set_strict(False)
    (root / 'a.txt').write_bytes('c/ä.png 0'.encode('latin-1'))
    assert check_class_folders([source]).counts() == {check.NO_LIST: 1}
    (root / 'a.txt').unlink()
    assert check_class_folders([source]).counts() == {check.MISSING_LIST: 1}


def test_missing_and_empty_folders(root: Path) -> None:
    assert check_class_folders([ClassFolders(str(root / 'nowhere'))]).counts() == {check.MISSING_FOLDER: 1}
    (root / 'empty').mkdir()
    assert check_class_folders([ClassFolders(str(root / 'empty'))]).counts() == {check.NO_IMAGES: 1}


def test_data_sets_of_a_config(root: Path) -> None:
    init_default_scope('mmpretrain')
    folder = dict(type='resformer_mm.ImageFolder', data_root=str(root), data_prefix='train')
    foreign = dict(type='CustomDataset', data_root=str(root), data_prefix='val', extensions=['.JPG'])
    cfg = Config(
        dict(
            train_dataloader=dict(dataset=dict(type='RepeatDataset', times=2, dataset=folder)),
            val_dataloader=dict(dataset=foreign),
            test_dataloader=dict(dataset=dict(folder, with_label=False)),
        )
    )
    with pytest.raises(ValueError, match='test_dataloader.dataset reads neither class folders nor'):
        configured_sources(cfg, ClassFolders.from_config)
    cfg.test_dataloader = None
    train, val = configured_sources(cfg, ClassFolders.from_config)
    assert train.folder == f'{root}/train' and train.classes is None and '.png' in train.suffixes
    assert val.suffixes == ('.jpg',) and val.name == 'val_dataloader.dataset'
