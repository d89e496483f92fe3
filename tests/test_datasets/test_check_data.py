"""One command for the data of all tasks: it finds the layout, checks, and writes repaired copies."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from resformer_mm.datasets.checks.all_tasks import sources_below, sources_in_config
from resformer_mm.datasets.checks.task_check import CheckOptions, Copier, repaired_copy

TOOL = Path(__file__).parents[2] / 'tools' / 'check_data.py'
OPTIONS = CheckOptions(workers=2)
SEGMENTATION = pytest.mark.operators('mmseg')
DETECTION = pytest.mark.operators('mmdet')


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(path)
    return path


def classes(root: Path) -> None:
    for number, split in enumerate(('train', 'val')):
        for label, name in enumerate(('cat', 'dog')):
            picture(root / split / name / 'a.png', 2 * number + label)
    picture(root / 'train' / '.ipynb_checkpoints' / 'x.png')


def lists(root: Path) -> None:
    classes(root)
    (root / 'meta').mkdir()
    for split in ('train', 'val'):
        (root / 'meta' / f'{split}.txt').write_text('\ufeffcat/a.png,0\n"dog/a.png",1\n', encoding='utf-8')


def named_lists(root: Path) -> None:
    """Lists beside the images, with a header and names for labels."""
    for number, split in enumerate(('train', 'test', 'val')):
        lines = []
        for label, name in enumerate(('cat', 'dog')):
            picture(root / 'photos' / f'{split}_{name}.png', 2 * number + label)
            lines.append(f'{split}_{name}.png,{name}\n')
        (root / f'{split}.csv').write_text('path,label\n' + ''.join(lines))


def masks(root: Path) -> None:
    for number, split in enumerate(('training', 'validation')):
        picture(root / 'images' / split / 'a.jpg', number)
        path = root / 'annotations' / split / 'a.png'
        path.parent.mkdir(parents=True)
        values = np.resize(np.array([0, 1, 2], np.uint8), (12, 16))
        Image.fromarray(values).convert('RGB').save(path)
    (root / 'classes.txt').write_text('\ufeffunlabelled\nsky\ntree\n', encoding='utf-8')


def boxes(root: Path) -> None:
    for number, split in enumerate(('train', 'val')):
        picture(root / split / 'a.png', number)
        (root / 'annotations').mkdir(exist_ok=True)
        content = dict(
            images=[dict(id=1, file_name='a.png', height=12, width=16)],
            categories=[dict(id=1, name='boat')],
            annotations=[
                dict(
                    id=1,
                    image_id=1,
                    category_id=1,
                    bbox=[1, 1, 5, 5],
                    area=25,
                    segmentation=[[1, 1, 6, 1, 6, 6, 1, 6]],
                )
            ],
        )
        (root / 'annotations' / f'instances_{split}.json').write_text('\ufeff' + json.dumps(content), 'utf-8')


LAYOUTS = [
    pytest.param(classes, 'classification', 2, id='classes'),
    pytest.param(lists, 'classification', 4, id='lists'),
    pytest.param(masks, 'segmentation', 3, id='masks', marks=SEGMENTATION),
    pytest.param(boxes, 'detection', 2, id='boxes', marks=DETECTION),
]


@pytest.mark.parametrize(('write', 'expected', 'repaired'), LAYOUTS)
def test_a_folder_is_checked_and_repaired(tmp_path: Path, write, expected: str, repaired: int) -> None:
    root, copy = tmp_path / 'data', tmp_path / 'copy'
    write(root)
    before = {path: path.read_bytes() for path in root.rglob('*') if path.is_file()}
    task, check, sources = sources_below(root, OPTIONS)
    assert task == expected and len(sources) == 2
    report = check.check(sources, OPTIONS)
    assert report.is_sound, report.text()
    assert len(report.counts_per_class) == len(report.facts) == 2
    copies, repairs = repaired_copy(check, sources, copy)
    assert len(repairs) == (1 if write is classes else repaired + (write is boxes) * 2 - (write is lists))
    after = check.check(copies, OPTIONS)
    assert after.findings == [], after.text()
    assert [list(counts.values()) for counts in after.counts_per_class.values()] == [
        list(counts.values()) for counts in report.counts_per_class.values()
    ]
    assert {path: path.read_bytes() for path in root.rglob('*') if path.is_file()} == before
    assert not any(path.name.startswith('.') for path in copy.rglob('*'))
    assert repaired_copy(check, copies, tmp_path / 'again')[1] == []  # nothing is left to repair


@DETECTION
@pytest.mark.parametrize('layout', ['annotations/instances_{}.json', '{}/_annotations.coco.json'])
def test_splits_with_other_categories(tmp_path: Path, layout: str) -> None:
    """As for class folders; files of another kind, such as key points, have categories of their own."""
    boxes(tmp_path)
    for split in ('train', 'val'):
        path = tmp_path / layout.format(split)
        (tmp_path / 'annotations' / f'instances_{split}.json').rename(path)
    path.write_text(path.read_text('utf-8-sig').replace('boat', 'Boat'), 'utf-8')
    _, check, sources = sources_below(tmp_path, OPTIONS)
    faults = [finding for finding in check.check(sources, OPTIONS).findings if finding.is_fault]
    assert [(fault.kind, fault.path) for fault in faults] == [('splits with different classes', str(path))]
    assert faults[0].detail.endswith('has boat; only ' + f'{path} has Boat')
    path.rename(path.with_name('person_keypoints_val.json'))
    _, check, sources = sources_below(tmp_path, OPTIONS)
    assert len(sources) == 2 and check.check(sources, OPTIONS).is_sound


def test_folders_without_a_layout_or_with_several(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='there is no folder'):
        sources_below(tmp_path / 'nowhere', OPTIONS)
    with pytest.raises(ValueError, match='layout of none of the tasks classification, .*data.md'):
        sources_below(tmp_path, OPTIONS)
    lists(tmp_path)
    (tmp_path / 'train_list.txt').write_text('a.mp4 0\n')
    assert sources_below(tmp_path, OPTIONS)[0] == 'video'  # class folders are no evidence beside it
    assert sources_below(tmp_path, OPTIONS, 'classification')[0] == 'classification'


@DETECTION
@pytest.mark.parametrize(
    ('file', 'folder'),
    [
        ('annotations/instances_{}.json', 'images/{}'),
        ('{}/_annotations.coco.json', '{}'),
        ('{}/annotations.json', '{}/images'),
        ('labels/{}.json', 'images/{}'),
        ('{}.json', 'data/{}'),
    ],
)
def test_layouts_of_detection_data(tmp_path: Path, file: str, folder: str) -> None:
    boxes(tmp_path / 'from')
    for split in ('train', 'val'):
        for source, target in (
            (f'annotations/instances_{split}.json', file),
            (f'{split}/a.png', f'{folder}/a.png'),
        ):
            path = tmp_path / 'data' / target.format(split)
            path.parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / 'from' / source).rename(path)
    task, check, sources = sources_below(tmp_path / 'data', OPTIONS)
    assert task == 'detection' and [Path(source.img_dir) for source in sources] == [
        tmp_path / 'data' / folder.format(split) for split in ('train', 'val')
    ]
    assert check.check(sources, OPTIONS).is_sound


@SEGMENTATION
def test_an_option_that_the_folder_does_not_tell(tmp_path: Path) -> None:
    masks(tmp_path)
    with pytest.raises(
        ValueError, match='names 2 classes besides the ignored value 0, but --num-classes is 3'
    ):
        sources_below(tmp_path, CheckOptions(num_classes=3))
    whole = sources_below(tmp_path, CheckOptions(num_classes=3, reduce_zero_label=False))
    assert whole[2][0].labels.num_classes == 3
    (tmp_path / 'classes.txt').unlink()
    with pytest.raises(ValueError, match='segmentation: .* has no classes.txt: .* give --num-classes'):
        sources_below(tmp_path, OPTIONS)


def test_copies_do_not_touch_the_data(tmp_path: Path) -> None:
    classes(tmp_path / 'data')
    _, check, sources = sources_below(tmp_path / 'data', OPTIONS)
    for target in ('data', 'data/train', 'data/train/cat/copy'):
        with pytest.raises((ValueError, FileExistsError), match='overlap|not empty'):
            repaired_copy(check, sources, tmp_path / target)
    with pytest.raises(FileNotFoundError, match='there is nothing to repair'):
        Copier([str(tmp_path / 'nowhere')], tmp_path / 'copy')


def test_data_sets_of_a_config(tmp_path: Path) -> None:
    classes(tmp_path)
    dataset = dict(type='resformer_mm.ImageFolder', data_root=str(tmp_path), data_prefix='train', pipeline=[])
    model = dict(type='ImageClassifier', backbone=dict(type='ResNet'), head=dict(num_classes=3))
    cfg = Config(dict(default_scope='mmpretrain', model=model, train_dataloader=dict(dataset=dataset)))
    check, sources = sources_in_config(cfg)
    assert check.check(sources, OPTIONS).counts() == {'number of classes': 1}


def test_a_copy_for_a_data_set_of_the_library(tmp_path: Path) -> None:
    """Which reads the copy, not the lists that it cannot read."""
    lists(tmp_path / 'data')
    settings = dict(type='CustomDataset', data_root=str(tmp_path / 'data'), pipeline=[])
    loaders = {
        f'{split}_dataloader': dict(dataset=dict(settings, ann_file=f'meta/{split}.txt', data_prefix=split))
        for split in ('train', 'val')
    }
    model = dict(type='ImageClassifier', backbone=dict(type='ResNet'), head=dict(num_classes=2))
    check, sources = sources_in_config(Config(dict(default_scope='mmpretrain', model=model, **loaders)))
    assert check.check(sources, OPTIONS).counts() == {'read otherwise by this data set': 2}
    copies, _ = repaired_copy(check, sources, tmp_path / 'copy')
    assert check.check(copies, OPTIONS).findings == []


def test_the_tool(tmp_path: Path, monkeypatch, capsys) -> None:
    classes(tmp_path / 'data')
    (tmp_path / 'data' / 'val' / 'emu').mkdir()

    def run(*words: object) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(TOOL), run_name='__main__')
        return ended.value.code, *capsys.readouterr()

    code, output, _ = run(tmp_path / 'data', '--fix', tmp_path / 'copy', '--workers', 1)
    assert code == 1 and 'data for classification' in output
    assert '1 kind of repairs\n  ' in output and 'fault: splits with different classes (1)' in output
    assert 'only val has emu' in output and 'images per class: cat 1, dog 1' in output
    (tmp_path / 'data' / 'val' / 'emu').rmdir()
    assert run(tmp_path / 'data', '--workers', 1)[0] == 0
    code, _, errors = run(tmp_path / 'data', '--task', 'video')
    assert code == 2 and 'layout of none of the tasks video' in errors


def test_lists_with_names_beside_the_images(tmp_path: Path) -> None:
    root, copy = tmp_path / 'data', tmp_path / 'copy'
    named_lists(root)
    task, check, sources = sources_below(root, OPTIONS)
    assert task == 'classification' and [source.name for source in sources] == ['train', 'val', 'test']
    report = check.check(sources, OPTIONS)
    assert report.is_sound, report.text()
    assert list(report.counts_per_class.values()) == [{'cat': 1, 'dog': 1}] * 3
    copies, repairs = repaired_copy(check, sources, copy)
    assert len(repairs) == 3 and (copy / 'train.csv').read_text() == 'train_cat.png 0\ntrain_dog.png 1\n'
    after = check.check(copies, OPTIONS)
    assert not after.findings and list(after.counts_per_class.values()) == [{'cat': 1, 'dog': 1}] * 3
    (root / 'val.csv').write_text('val_cat.png,cat\nval_dog.png,wolf\n')
    sources = sources_below(root, OPTIONS)[2]
    faults = [finding for finding in check.check(sources, OPTIONS).findings if finding.is_fault]
    assert {fault.kind for fault in faults} == {'splits with different classes'}


def test_lists_of_pairs_of_files_are_no_labels(tmp_path: Path) -> None:
    picture(tmp_path / 'a.png')
    picture(tmp_path / 'b.png', 1)
    (tmp_path / 'train.txt').write_text('a.png b.png\nb.png a.png\n')
    with pytest.raises(ValueError, match='layout of none of the tasks'):
        sources_below(tmp_path, OPTIONS)


@SEGMENTATION
@pytest.mark.parametrize('layout', ['beside', 'lists', 'suffix'])
def test_masks_of_other_layouts(tmp_path: Path, layout: str) -> None:
    """A folder of masks for each split, lists of the splits, and masks beside the images."""
    folders = {'beside': ('{}', '{}annot', ''), 'lists': ('JPEGImages', 'SegmentationClass', '')}
    images, annotations, end = folders.get(layout, ('{}', '{}', '_mask'))
    lines: dict[str, list[str]] = {'train': [], 'val': []}
    for number, (split, name) in enumerate([('train', 'a'), ('train', 'b'), ('val', 'c')]):
        picture(tmp_path / images.format(split) / f'{name}.jpg', number)
        path = tmp_path / annotations.format(split) / f'{name}{end}.png'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.resize(np.array([0, 1, 2], np.uint8), (12, 16))).save(path)
        lines[split].append(name)
    if layout == 'lists':
        for split, names in lines.items():
            file = tmp_path / 'ImageSets' / 'Segmentation' / f'{split}.txt'
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text('\n'.join(names))
    (tmp_path / 'classes.txt').write_text('background\nsky\ntree\n')
    task, check, sources = sources_below(tmp_path, OPTIONS)
    report = check.check(sources, OPTIONS)
    assert task == 'segmentation' and report.is_sound, report.text()
    assert [text.partition(': ')[2].partition(' ')[0] for text in report.facts] == ['2', '1']
    assert sum(sum(counts.values()) for counts in report.counts_per_class.values()) > 0
