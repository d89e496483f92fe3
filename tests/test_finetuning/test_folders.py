"""From folders as people have them to configs that train."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from resformer_mm.apis import check_config, make_train_config
from resformer_mm.datasets.checks.task_check import CheckOptions
from resformer_mm.finetuning import check_folder, make_plan, prepare_data, write_config
from resformer_mm.formats.conversion import read_annotations, write_annotations
from resformer_mm.synthetic import write_clips, write_detection, write_image_folder, write_segmentation

pytestmark = pytest.mark.slow


def class_folders(root: Path) -> str:
    write_image_folder(root, num_train=40, num_val=20, size=32)
    return 'classification'


def class_folders_alone(root: Path) -> str:
    write_image_folder(root.with_name('both'), num_train=60, num_val=20, size=32)
    shutil.move(root.with_name('both') / 'train', root)
    return 'classification'


def coco(root: Path) -> str:
    write_detection(root, num_train=8, num_val=4)
    return 'detection'


def yolo(root: Path) -> str:
    source = root.with_name('coco')
    coco(source)
    write_annotations(read_annotations(source), root, 'yolo')
    return 'detection'


def voc_without_masks(root: Path) -> str:
    source = root.with_name('coco')
    coco(source)
    write_annotations(read_annotations(source), root, 'voc', boxes_only=True)
    return 'detection'


def masks(root: Path) -> str:
    write_segmentation(root, num_train=8, num_val=4)
    return 'segmentation'


def masks_in_colours(root: Path) -> str:
    colours = np.array([[0, 0, 0], [250, 20, 20], [20, 250, 20]], np.uint8)
    generator = np.random.default_rng(0)
    for n in 'abcdefghij':
        for folder in ('images', 'masks'):
            (root / folder).mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 255, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / 'images' / f'{n}.jpg')
        mask = np.repeat(np.repeat(generator.integers(0, 3, (5, 6)), 8, 0), 8, 1)
        Image.fromarray(colours[mask]).save(root / 'masks' / f'{n}.png')
    lines = [f'{name},{",".join(map(str, colour))}\n' for name, colour in zip(('sky', 'sea', 'sun'), colours)]
    (root / 'classes.csv').write_text('name,r,g,b\n' + ''.join(lines))
    return 'segmentation'


def video_folders(root: Path) -> str:
    source = root.with_name('clips')
    write_clips(source, num_train=12, num_val=6)
    for split in ('train', 'val'):
        for line in (source / f'{split}_list.txt').read_text().splitlines():
            path, label = line.rsplit(' ', 1)
            target = root / split / f'motion{label}' / Path(path).name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / path, target)
    return 'video'


@pytest.mark.parametrize(
    'make',
    [
        class_folders,
        class_folders_alone,
        *(
            pytest.param(make, marks=pytest.mark.operators('mmdet'))
            for make in (coco, yolo, voc_without_masks)
        ),
        *(pytest.param(make, marks=pytest.mark.operators('mmseg')) for make in (masks, masks_in_colours)),
        video_folders,
    ],
)
def test_a_folder_becomes_a_config_that_passes_the_check(make, tmp_path):
    root, out = tmp_path / 'photos', tmp_path / 'out'
    task = make(root)
    before = {path: path.stat().st_mtime_ns for path in root.rglob('*')}
    found, sources, report = check_folder(root, out / 'data', CheckOptions())
    assert found == task and report.is_sound, report.text()
    data = prepare_data(task, sources, out / 'data')
    plan = make_plan(data, 'mini')
    write_config(out / 'config.py', data, plan)
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob('*')}

    cfg = Config.fromfile(out / 'config.py')
    assert list(cfg.train_dataloader.dataset.metainfo.classes) == list(data.classes)
    assert cfg.train_cfg.max_epochs == plan.max_epochs
    assert '_delete_' not in cfg.pretty_text
    findings = check_config(make_train_config(out / 'config.py', work_dir=tmp_path / 'work'))
    assert findings.is_sound, findings.text()
    assert cfg.test_dataloader.dataset == cfg.val_dataloader.dataset
    lines = (out / 'config.py').read_text().splitlines()
    assert max(map(len, lines)) < 200 and not any(line.startswith('{') for line in lines)


@pytest.mark.operators('mmseg')
def test_a_class_of_pixels_without_a_label_is_named(tmp_path):
    masks_in_colours(tmp_path / 'photos')
    legend = tmp_path / 'photos' / 'classes.csv'
    legend.write_text(legend.read_text().replace('sky', 'Void'))
    data, _ = config_of(tmp_path / 'photos', tmp_path / 'out')
    assert 'Void is learned as a class' in data.notes[-1] and '--ignore Void' in data.notes[-1]


@pytest.mark.operators('mmseg')
def test_classes_without_names_are_called_by_their_values(tmp_path):
    root = tmp_path / 'photos'
    masks(root)
    number = len((root / 'classes.txt').read_text().split('\n')) - 2  # without the ignored value 0
    (root / 'classes.txt').unlink()
    with pytest.raises(ValueError, match='write the names of the values 0, 1, ... to it'):
        check_folder(root, tmp_path / 'out', CheckOptions())
    task, sources, _ = check_folder(root, tmp_path / 'out', CheckOptions(num_classes=number))
    data = prepare_data(task, sources, tmp_path / 'out')
    assert data.classes == tuple(str(value) for value in range(1, number + 1))
    assert 'the classes are called by their values' in data.notes[-1]


def add_test_split(root: Path, task: str) -> None:
    """Copy the validation split."""
    if task == 'classification':
        shutil.copytree(root / 'val', root / 'test')
    elif task == 'segmentation':
        for folder in ('images', 'annotations'):
            shutil.copytree(root / folder / 'validation', root / folder / 'test')
    elif task == 'detection':
        shutil.copytree(root / 'val2017', root / 'test2017')
        files = root / 'annotations'
        shutil.copy(files / 'instances_val2017.json', files / 'instances_test2017.json')
    else:
        shutil.copy(root / 'val_list.txt', root / 'test_list.txt')


def video_lists(root: Path) -> str:
    write_clips(root, num_train=12, num_val=6)
    return 'video'


def config_of(root: Path, out: Path):
    task, sources, report = check_folder(root, out / 'data', CheckOptions())
    assert report.is_sound, report.text()
    data = prepare_data(task, sources, out / 'data')
    write_config(out / 'config.py', data, make_plan(data, 'mini'))
    return data, Config.fromfile(out / 'config.py')


@pytest.mark.parametrize(
    'make',
    [
        class_folders,
        pytest.param(coco, marks=pytest.mark.operators('mmdet')),
        pytest.param(masks, marks=pytest.mark.operators('mmseg')),
        video_lists,
    ],
)
def test_a_test_split_is_for_the_evaluation_after_the_training(make, tmp_path):
    task = make(tmp_path / 'photos')
    add_test_split(tmp_path / 'photos', task)
    data, cfg = config_of(tmp_path / 'photos', tmp_path / 'out')
    assert data.num_test == data.num_val and any(note.startswith('evaluation after') for note in data.notes)
    val, test = cfg.val_dataloader.dataset, cfg.test_dataloader.dataset
    fields = [field for field in val if field not in ('test_mode', 'pipeline') and val[field] != test[field]]
    assert fields and {field.partition('_')[0] for field in fields} <= {'ann', 'data'}
    for field in fields:
        expected, value = (str(settings[field]).replace(data.root, '') for settings in (val, test))
        assert value == expected.replace('validation', 'test').replace('val', 'test')
    assert val.pipeline == test.pipeline
    if task == 'detection':
        assert cfg.test_evaluator.ann_file == str(Path(data.root, test.ann_file))
        assert cfg.val_evaluator.ann_file == str(Path(data.root, val.ann_file))
    findings = check_config(make_train_config(tmp_path / 'out' / 'config.py', work_dir=tmp_path / 'work'))
    assert findings.is_sound, findings.text()


def test_a_folder_in_a_folder_is_unpacked(tmp_path):
    write_image_folder(tmp_path / 'archive' / 'photos', num_train=40, num_val=20, size=32)
    shutil.move(tmp_path / 'archive' / 'photos' / 'train', tmp_path / 'wrapped' / 'train')
    (tmp_path / 'wrapped' / 'train').rename(tmp_path / 'wrapped' / 'photos')  # class folders one level down
    data, cfg = config_of(tmp_path / 'wrapped', tmp_path / 'out')
    assert len(data.classes) == 10 and len(cfg.classes) == 10


def test_one_class_is_a_fault(tmp_path):
    write_image_folder(tmp_path / 'photos', num_train=20, num_val=20, size=32)
    for folder in sorted((tmp_path / 'photos').glob('*/*'))[1:]:
        shutil.rmtree(folder)
    report = check_folder(tmp_path / 'photos', tmp_path / 'out', CheckOptions())[2]
    assert not report.is_sound and 'there is nothing to tell apart' in report.text()


def test_without_a_training_split_the_validation_is_divided(tmp_path):
    root = tmp_path / 'photos'
    write_image_folder(root, num_train=20, num_val=50, size=32)
    (root / 'train').rename(root / 'test')
    data, cfg = config_of(root, tmp_path / 'out')
    assert (data.num_train, data.num_val, data.num_test) == (40, 10, 20)
    assert 'there is no training split: val is divided' in data.notes
    listed = [
        {line.rsplit(' ', 1)[0] for line in Path(loader.dataset.ann_file).read_text().splitlines()}
        for loader in (cfg.train_dataloader, cfg.val_dataloader)
    ]
    assert not listed[0] & listed[1] and len(listed[0] | listed[1]) == 50
    assert all(path.startswith('val/') and (root / path).is_file() for path in listed[0] | listed[1])
    assert cfg.test_dataloader.dataset.data_prefix == 'test' and cfg.data_root == str(root)
