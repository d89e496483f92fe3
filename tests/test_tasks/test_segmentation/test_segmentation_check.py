"""Validation of segmentation data: every fault is reported, and nothing else."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from segmentation_files import write_image, write_mask, write_pairs

from resformer_mm.datasets.checks.configured import configured_sources
from resformer_mm.datasets.checks.report import CheckReport, Finding, check_each
from resformer_mm.tasks.segmentation import check as check
from resformer_mm.tasks.segmentation.check import PairFolders, check_pairs
from resformer_mm.tasks.segmentation.label_maps import LabelValues

LABELS = LabelValues(3, reduce_zero_label=True)


def folders(root: Path, split: str = 'training', **kwargs) -> PairFolders:
    return PairFolders(root / 'images' / split, root / 'annotations' / split, LABELS, **kwargs)


def found(report: CheckReport) -> Counter:
    """Return how often each kind was found at each file name."""
    return Counter((finding.kind, Path(finding.path).name) for finding in report.findings)


def details(report: CheckReport) -> dict[str, str]:
    """Return what is said of each file name."""
    return {Path(finding.path).name: finding.detail for finding in report.findings}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / 'data')


def image(root: Path, name: str) -> Path:
    return root / 'images' / 'training' / name


def mask(root: Path, name: str) -> Path:
    return root / 'annotations' / 'training' / name


def test_a_sound_data_set(root: Path) -> None:
    values = np.zeros((20, 30), np.uint8)
    values[:, :12] = 2  # 40 % of the pixels
    for name in 'abc':
        write_mask(mask(root, f'{name}.png'), values)
    (root / 'images' / 'training' / 'Thumbs.db').touch()
    report = check_pairs(folders(root), workers=3)
    [note] = report.findings
    assert note.kind == check.NO_PIXEL and report.is_sound
    assert 'the class 0 with the value 1, 2 with the value 3, while 60.0 % of the pixels' in note.detail
    [fact] = report.facts
    assert '3 images with masks, 1 of 3 classes occur, 60.0 % of the pixels are ignored' in fact
    assert report.text().endswith('\nsound')


def break_everything(root: Path) -> Counter:
    """Add one of each fault to a sound data set, and return them."""
    broken = Counter()

    def add(kind: str, name: str) -> Path:
        broken[kind, name] += 1
        return image(root, name) if name.endswith(('.jpg', '.jpeg')) else mask(root, name)

    write_image(add(check.MISSING_MASK, 'maskless.jpg'))
    write_mask(add(check.LONE_MASK, 'imageless.png'), (20, 30))
    write_image(add(check.SAME_NAME, 'a.jpeg'))
    write_image(add(check.LEFT_OUT, 'other.jpeg'))

    truncated = write_image(add(check.BAD_IMAGE, 'half.jpg'))
    truncated.write_bytes(truncated.read_bytes()[:-300])
    write_mask(mask(root, 'half.png'), (20, 30))
    values = (np.arange(600, dtype=np.uint8) % 7 // 3).reshape(20, 30)
    truncated = write_mask(add(check.BAD_MASK, 'half_mask.png'), values)
    truncated.write_bytes(truncated.read_bytes()[:-40])
    write_image(image(root, 'half_mask.jpg'))

    for name, kind, values, mode in (
        ('colours', check.NOT_LABELS, np.arange(1800, dtype=np.uint8).reshape(20, 30, 3), None),
        ('grey', check.EQUAL_CHANNELS, (20, 30), 'RGB'),
        ('wider', check.SIZES_DIFFER, (20, 31), None),
        ('unknown', check.UNKNOWN_VALUES, np.where(np.eye(20, 30) > 0, 4, 3).astype(np.uint8), None),
        ('wide', check.UNKNOWN_VALUES, np.full((20, 30), 258, np.uint16), None),
        ('nothing', check.NO_LABEL, np.where(np.eye(20, 30) > 0, 255, 0).astype(np.uint8), None),
    ):
        write_image(image(root, f'{name}.jpg'))
        write_mask(add(kind, f'{name}.png'), values, mode)

    write_image(add(check.AMBIGUOUS, 'turned.jpg'), orientation=3)
    write_mask(mask(root, 'turned.png'), (20, 30))
    write_image(add(check.SMALL, 'small.jpg'), (8, 30))
    write_mask(mask(root, 'small.png'), (8, 30))
    return broken


def test_one_of_each_fault(root: Path) -> None:
    broken = break_everything(root)
    report = check_pairs(folders(root), crop_size=(16, 16), workers=2)
    assert found(report) == broken
    assert {finding.kind for finding in report.findings if not finding.is_fault} == {
        check.EQUAL_CHANNELS,
        check.NO_LABEL,
        check.SMALL,
    }
    assert not report.is_sound
    said = details(report)
    assert '20 x 31' in said['wider.png'] and '20 x 30' in said['wider.png']
    assert '4 (20 pixels)' in said['unknown.png'] and '1..3 are classes' in said['unknown.png']
    assert '258 (600 pixels)' in said['wide.png']
    assert "'RGB'" in said['colours.png']
    assert 'orientation 3' in said['turned.jpg']
    assert '8 x 30, crop 16 x 16' in said['small.jpg']
    assert report.counts() == Counter(
        kind
        for kind, _ in broken.elements()
        if kind not in (check.EQUAL_CHANNELS, check.NO_LABEL, check.SMALL)
    )


def test_the_same_faults_whatever_the_number_of_threads(root: Path) -> None:
    break_everything(root)
    reports = [check_pairs(folders(root), workers=workers) for workers in (1, 4)]
    assert reports[0].text() == reports[1].text()


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('shape', [(20, 30), (24, 24)])
def test_orientations(tmp_path: Path, orientation: int, shape: tuple[int, int]) -> None:
    """A mask that fits the image as it is read is sound, unless it would fit the stored one as well."""
    write_image(image(tmp_path, 'x.jpg'), shape, orientation)
    stored = write_mask(mask(tmp_path, 'x.png'), shape)
    kinds = check_pairs(folders(tmp_path)).counts()
    turns_sides = orientation > 4 and shape[0] != shape[1]
    if orientation == 1:
        assert kinds == {}
    elif turns_sides:
        assert kinds == {check.SIZES_DIFFER: 1}
        assert f'orientation {orientation}' in details(check_pairs(folders(tmp_path)))['x.png']
        write_mask(stored, shape[::-1])
        assert check_pairs(folders(tmp_path)).is_sound
    else:
        assert kinds == {check.AMBIGUOUS: 1}


def test_an_image_too_small_in_one_direction(root: Path) -> None:
    for crop_size, expected in (((20, 30), 0), ((21, 30), 3), ((20, 31), 3)):
        report = check_pairs(folders(root), crop_size=crop_size)
        assert report.is_sound and sum(report.counts(faults=False).values()) == expected


def test_folders_that_are_missing_or_empty(root: Path) -> None:
    assert found(check_pairs(folders(root, 'validation'))) == Counter(
        {(check.MISSING_FOLDER, 'validation'): 2}
    )
    shutil.rmtree(root / 'images' / 'training')
    (root / 'images' / 'training').mkdir()
    report = check_pairs(folders(root))
    assert found(report)[check.NO_IMAGES, 'training'] == 1
    assert report.counts() == {check.LONE_MASK: 3, check.NO_IMAGES: 1}


def test_a_list_chooses(root: Path) -> None:
    image(root, 'b.jpg').unlink()
    mask(root, 'c.png').unlink()
    write_image(image(root, 'd.jpeg'))
    report = check_pairs(folders(root, names=('a', 'b', 'c', 'x/y')))
    assert found(report) == Counter(
        {
            (check.MISSING_IMAGE, 'b.jpg'): 1,
            (check.MISSING_IMAGE, 'y.jpg'): 1,
            (check.MISSING_MASK, 'c.jpg'): 1,
        }
    )
    assert check_pairs(folders(root, names=('a',))).is_sound
    assert check_pairs(folders(root, names=())).counts() == {check.NO_IMAGES: 1}


def test_suffixes_subfolders_and_one_folder_for_both(tmp_path: Path) -> None:
    for name in ('park/x', 'street/x'):
        write_image(tmp_path / f'{name}_photo.png')
        write_mask(tmp_path / f'{name}_labels.png', (20, 30))
    pair = PairFolders(tmp_path, tmp_path, LABELS, '_photo.png', '_labels.png')
    assert check_pairs(pair).counts(faults=False) == {check.NO_PIXEL: 1}
    (tmp_path / 'street' / 'x_labels.png').unlink()
    assert check_pairs(pair).counts() == {check.MISSING_MASK: 1}


def test_negative_values(root: Path) -> None:
    for name in 'abc':
        write_mask(mask(root, f'{name}.tif'), np.full((20, 30), 2, np.int32))
    pair = folders(root, seg_map_suffix='.tif')
    assert check_pairs(pair).is_sound
    write_mask(mask(root, 'b.tif'), np.full((20, 30), -3, np.int32))
    [finding] = [finding for finding in check_pairs(pair).findings if finding.is_fault]
    assert finding.kind == check.UNKNOWN_VALUES and '-3 (600 pixels)' in finding.detail


def test_values_that_are_not_those_of_the_classes(root: Path) -> None:
    def checked(values: tuple[int, ...], labels: LabelValues) -> CheckReport:
        for name in 'abc':
            write_mask(mask(root, f'{name}.png'), np.resize(np.array(values, np.uint8), (20, 30)))
        pair = folders(root, classes=('ground', 'house', 'road'))
        return check_pairs(dataclasses.replace(pair, labels=labels))

    for values in ((0, 255), (255, 1)):
        report = checked((*values, values[0]), LabelValues(2))
        assert report.counts() == {check.WRONG_VALUES: 1}
        [said] = details(report).values()
        assert f'Exported as {min(values)}/{max(values)}?' in said
        missing = '1 (house) with the value 1' if 0 in values else '0 (ground) with the value 0'
        assert f'no pixel has the class {missing}' in said
    report = checked((0, 0, 0, 1), LabelValues(2, reduce_zero_label=True))
    assert report.counts() == {check.WRONG_VALUES: 1}
    [said] = details(report).values()
    assert '1 (house) with the value 2, while 75.0 % of the pixels are ignored' in said
    assert 'set reduce_zero_label=False' in said
    report = checked((0, 255), LabelValues(2, reduce_zero_label=True))
    assert report.counts() == {check.WRONG_VALUES: 1}
    assert 'all pixels of all masks are ignored: reduce_zero_label: 0 is ignored' in report.text()
    # Sound: an ignored border, a class that is rare, classes of which few occur, another void value.
    for values, labels in (
        ((0, 1, 255), LabelValues(2)),
        ((0, 1, 2), LabelValues(2, reduce_zero_label=True)),
        ((0, 1, 11), LabelValues(2, ignore_index=11)),
    ):
        assert checked(values, labels).findings == []
    for values, labels in (((0, 1, 255), LabelValues(3)), ((0, 2), LabelValues(3, reduce_zero_label=True))):
        assert checked(values, labels).counts(faults=False) == {check.NO_PIXEL: 1}


# The report


def test_the_text_of_a_report() -> None:
    report = CheckReport(
        [Finding(f'{number}.png', 'bad', 'why') for number in (3, 1, 2)]
        + [Finding('z.png', 'worse')]
        + [Finding(f'{number}.jpg', 'odd', is_fault=False) for number in range(4)],
        ['4 files.'],
    )
    assert report.text(max_lines=2).splitlines() == [
        'fault: bad (3)', '  1.png: why', '  2.png: why', '  ... and 1 more',
        'fault: worse (1)', '  z.png',
        'note: odd (4)', '  0.jpg', '  1.jpg', '  ... and 2 more',
        '', '4 files.', 'NOT sound: 3 bad, 1 worse',
    ]  # fmt: skip
    assert report.text().count('.png') == 4 and '...' not in report.text()
    notes = CheckReport(report.findings[-4:])
    assert notes.is_sound and notes.text().endswith('sound') and 'NOT' not in notes.text()
    notes.extend(report)
    assert len(notes.findings) == 12 and notes.facts == ['4 files.'] and not notes.is_sound


def test_results_keep_their_order_and_errors_come_through() -> None:
    assert list(check_each(lambda number: number**2, range(50), workers=4)) == [n**2 for n in range(50)]
    with pytest.raises(ZeroDivisionError):
        list(check_each(lambda number: 1 // number, [1, 0], workers=2))


# Configs


def dataset(root: Path, split: str, **kwargs) -> dict:
    prefix = dict(img_path=f'images/{split}', seg_map_path=f'annotations/{split}')
    return dict(type='resformer_mm.ADE20K', data_root=str(root), data_prefix=prefix, **kwargs)


@pytest.fixture(autouse=True)
def scope() -> None:
    init_default_scope('mmseg')


def test_folders_of_a_config(root: Path) -> None:
    train = dict(type='mmseg.RepeatDataset', dataset=dataset(root, 'training'), times=3)
    val = dataset(root, 'validation', metainfo=dict(classes=('sky', 'wall')), img_suffix='.jpeg')
    val['seg_map_suffix'] = '.tif'
    cfg = Config(
        dict(
            train_dataloader=dict(dataset=train),
            val_dataloader=dict(dataset=val),
            test_dataloader=dict(
                dataset=dict(type='ConcatDataset', datasets=[val, dataset(root, 'training')])
            ),
        )
    )
    training, validation = configured_sources(cfg, PairFolders.from_config)
    assert training == PairFolders(
        f'{root}/images/training',
        f'{root}/annotations/training',
        LabelValues(150, reduce_zero_label=True),
    )
    assert (validation.img_suffix, validation.seg_map_suffix) == ('.jpeg', '.tif')
    assert validation.labels.num_classes == 2
    assert validation.labels.label_map[2] == 0 and validation.labels.label_map[1] == 255
    assert check_pairs(training).is_sound


def test_a_list_in_a_config(root: Path) -> None:
    (root / 'list.txt').write_text('a\nc\n')
    cfg = Config(dict(train_dataloader=dict(dataset=dataset(root, 'training', ann_file='list.txt'))))
    [training] = configured_sources(cfg, PairFolders.from_config)
    assert training.names == ('a', 'c')
    (root / 'list.txt').write_text('"a"\nc.jpg\n')
    settings = dataset(root, 'training', ann_file='list.txt', pipeline=[dict(type='LoadAnnotations')])
    write_mask(root / 'annotations/training/a.png', np.ones((20, 30), np.uint8), 'RGB')
    for kind, faults in (
        ('resformer_mm.ADE20K', {}),
        ('ADE20KDataset', {'read otherwise by this data set': 1}),
    ):
        cfg = Config(dict(train_dataloader=dict(dataset={**settings, 'type': kind})))
        [training] = configured_sources(cfg, PairFolders.from_config)
        assert training.names == ('a', 'c')
        assert check_pairs(training).counts() == {**faults, 'mask of equal channels': 1}


def test_configs_that_say_too_little(root: Path) -> None:
    with pytest.raises(ValueError, match='no data set in train_dataloader'):
        configured_sources(Config(dict(train_dataloader=None)), PairFolders.from_config)
    unlabelled = {**dataset(root, 'training'), 'data_prefix': dict(img_path='images/training')}
    with pytest.raises(ValueError, match='test_dataloader.dataset has no data_prefix with both'):
        configured_sources(Config(dict(test_dataloader=dict(dataset=unlabelled))), PairFolders.from_config)
    nameless = {**dataset(root, 'training'), 'type': 'mmseg.BaseSegDataset'}
    with pytest.raises(ValueError, match='train_dataloader.dataset names no classes'):
        configured_sources(Config(dict(train_dataloader=dict(dataset=nameless))), PairFolders.from_config)
