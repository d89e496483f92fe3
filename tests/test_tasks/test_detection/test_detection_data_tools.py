"""The commands that generate and check detection data."""

from __future__ import annotations

from pathlib import Path

import pytest
from detection_files import annotation, content, write_coco, write_content
from runs import run_tool, succeed

CHECK = 'dataset_converters/check_detection.py'
GENERATE = 'dataset_converters/make_embedded_data.py'

CONFIG = """
default_scope = 'mmdet'
model = dict(type='MaskRCNN')
train_dataloader = dict(
    dataset=dict(
        type='resformer_mm.DetectionFolder',
        data_root={root!r},
        ann_file='annotations/instances_train2017.json',
        classes_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017'),
    )
)
val_dataloader = None
test_dataloader = None
"""


def check(tmp_path: Path, *arguments: object):
    return run_tool(CHECK, *arguments, data=tmp_path, cwd=tmp_path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split in ('train2017', 'val2017'):
        write_coco(tmp_path / 'data', split)
    return tmp_path / 'data'


@pytest.mark.slow
def test_generate_then_check(tmp_path: Path) -> None:
    command = ['made', '--task', 'detection', '--num-train', 8, '--num-val', 5, '--size', 32]
    result = succeed(run_tool(GENERATE, *command, '--workers', 1, data=tmp_path, cwd=tmp_path))
    assert 'made: wrote 8 training and 5 validation pictures of 5 classes' in result.stdout
    result = succeed(run_tool(GENERATE, *command, data=tmp_path, cwd=tmp_path))
    assert 'already exist, nothing to do' in result.stdout
    result = succeed(check(tmp_path, 'made', '--workers', 2))
    lines = result.stdout.splitlines()
    assert len(lines) == 3 and lines[-1] == 'sound'
    assert 'instances_train2017.json: 8 images' in lines[0] and 'val2017.json: 5 images' in lines[1]
    (tmp_path / 'config.py').write_text(CONFIG.format(root=str(tmp_path / 'made')))
    result = succeed(check(tmp_path, '--config', 'config.py'))
    assert '8 images' in result.stdout and 'val2017' not in result.stdout


@pytest.mark.slow
def test_faults_are_named_and_end_non_zero(root: Path, tmp_path: Path) -> None:
    succeed(check(tmp_path, root))
    entries = content()
    entries['annotations'] += [annotation(number, 10, 5) for number in (11, 12, 13)]
    path = write_content(root, entries, 'val2017')
    (root / 'train2017' / '2.jpg').unlink()
    result = check(tmp_path, root, '--max-lines', 2)
    assert result.returncode == 1
    assert result.stdout.splitlines()[:6] == [
        'fault: unknown category (3)',
        f'  {path}: annotation 11 (1.jpg): category_id 5 does not exist',
        f'  {path}: annotation 12 (1.jpg): category_id 5 does not exist',
        '  ... and 1 more',
        'fault: missing image (1)',
        f'  {root}/train2017/2.jpg: image 20 of the annotation file',
    ]
    assert result.stdout.splitlines()[-1] == 'NOT sound: 3 unknown category, 1 missing image'
    options = ('--img-dir', 'train2017', '--ann-file', 'annotations/instances_train2017.json')
    result = check(tmp_path, root, *options, '--classes', 'cat', 'wolf')
    assert result.returncode == 1 and 'it has no category wolf' in result.stdout
    (tmp_path / 'config.py').write_text(CONFIG.format(root=str(root)))
    result = check(tmp_path, '--config', 'config.py')
    assert result.returncode == 1 and 'missing image (1)' in result.stdout


@pytest.mark.slow
def test_commands_that_make_no_sense(root: Path, tmp_path: Path) -> None:
    (tmp_path / 'config.py').write_text(CONFIG.format(root=str(root)))
    (tmp_path / 'lost.py').write_text(CONFIG.format(root=str(root / 'nowhere')))
    for arguments, message in (
        ([], 'give either DATA_ROOT or --config CONFIG'),
        ([root / 'nowhere'], 'there is no folder'),
        ([root, '--img-dir', 'train2017'], 'names 1 folders, --ann-file 2'),
        (['--config', 'config.py', '--classes', 'cat'], '--classes goes with DATA_ROOT'),
        (['--config', 'lost.py'], 'json: check classes_file'),
    ):
        result = check(tmp_path, *arguments)
        assert result.returncode == 2, arguments
        assert message in result.stderr and 'Traceback' not in result.stderr, result.stderr
