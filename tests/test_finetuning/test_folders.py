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
    lines = (out / 'config.py').read_text().splitlines()
    assert max(map(len, lines)) < 200 and not any(line.startswith('{') for line in lines)
