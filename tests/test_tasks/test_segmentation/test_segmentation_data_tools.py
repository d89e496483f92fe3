"""The commands that generate and check segmentation data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from runs import run_tool, succeed
from segmentation_files import write_mask, write_pairs

CHECK = 'dataset_converters/check_segmentation.py'
GENERATE = 'dataset_converters/make_embedded_data.py'

CONFIG = """
default_scope = 'mmseg'
model = dict(type='EncoderDecoder')
train_dataloader = dict(
    dataset=dict(
        type='resformer_mm.SegmentationFolder',
        data_root={root!r},
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        classes_file='classes.txt',
        reduce_zero_label=True,
    )
)
val_dataloader = None
test_dataloader = None
"""


def check(tmp_path: Path, *arguments: object):
    return run_tool(CHECK, *arguments, data=tmp_path, cwd=tmp_path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split in ('training', 'validation'):
        write_pairs(tmp_path / 'data', split)
    return tmp_path / 'data'


@pytest.mark.slow
def test_generate_then_check(tmp_path: Path) -> None:
    command = ['made', '--task', 'segmentation', '--num-train', 11, '--num-val', 10, '--size', 32]
    result = succeed(run_tool(GENERATE, *command, '--workers', 1, data=tmp_path, cwd=tmp_path))
    assert 'made: wrote 11 training and 10 validation pictures of 11 classes' in result.stdout
    result = succeed(run_tool(GENERATE, *command, data=tmp_path, cwd=tmp_path))
    assert 'already exist, nothing to do' in result.stdout
    result = succeed(check(tmp_path, 'made', '--num-classes', 11, '--crop', 24, '--workers', 2))
    lines = result.stdout.splitlines()
    assert len(lines) == 3 and lines[-1] == 'sound'
    assert 'images/training: 11 images with masks' in lines[0]
    assert 'images/validation: 10 images with masks, 11 of 11 classes' in lines[1]
    (tmp_path / 'config.py').write_text(CONFIG.format(root=str(tmp_path / 'made')))
    result = succeed(check(tmp_path, '--config', 'config.py'))
    assert '11 images with masks, 11 of 11 classes' in result.stdout and 'validation' not in result.stdout


@pytest.mark.slow
def test_faults_are_named_and_end_non_zero(root: Path, tmp_path: Path) -> None:
    succeed(check(tmp_path, root, '--num-classes', 3))
    for name in 'abc':
        write_mask(root / 'annotations' / 'validation' / f'{name}.png', np.full((20, 30), 4, np.uint8))
    (root / 'annotations' / 'training' / 'b.png').unlink()
    result = check(tmp_path, root, '--num-classes', 3, '--max-lines', 2, '--crop', 25)
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert lines[0] == 'fault: label values out of range (3)'
    assert lines[1].startswith(f'  {root}/annotations/validation/a.png: 4 (600 pixels)')
    assert lines[3] == '  ... and 1 more'
    assert lines[4:6] == [
        'fault: missing mask (1)',
        f'  {root}/images/training/b.jpg: there is no {root}/annotations/training/b.png',
    ]
    assert lines[6] == 'note: smaller than the crop (5)'
    assert lines[-1] == 'NOT sound: 3 label values out of range, 1 missing mask'
    whole = check(tmp_path, root, '--num-classes', 3, '--max-lines', 0).stdout
    assert whole.count('annotations/validation/') == 3 and '...' not in whole
    # Without the reduction the values 0 to 4 are five classes.
    options = (
        '--no-reduce-zero-label',
        '--img-dir',
        'images/validation',
        '--ann-dir',
        'annotations/validation',
    )
    succeed(check(tmp_path, root, '--num-classes', 5, *options))
    assert check(tmp_path, root, '--num-classes', 4, *options).returncode == 1


@pytest.mark.slow
def test_a_fault_in_the_data_of_a_config(root: Path, tmp_path: Path) -> None:
    (tmp_path / 'config.py').write_text(CONFIG.format(root=str(root)))
    (root / 'classes.txt').write_text('other\nsky\ntree\n')
    result = check(tmp_path, '--config', 'config.py')
    assert result.returncode == 1 and '1..2 are classes' in result.stdout
    (root / 'classes.txt').write_text('other\nsky\ntree\nroad\n')
    succeed(check(tmp_path, '--config', 'config.py'))
    prefix = 'train_dataloader.dataset.data_prefix.img_path=images/nowhere'
    result = check(tmp_path, '--config', 'config.py', '--cfg-options', prefix)
    assert result.returncode == 1 and 'missing folder (1)' in result.stdout


@pytest.mark.slow
def test_commands_that_make_no_sense(root: Path, tmp_path: Path) -> None:
    (tmp_path / 'config.py').write_text(CONFIG.format(root=str(root)))
    for arguments, message in (
        ([], 'give either DATA_ROOT or --config CONFIG'),
        ([root, '--config', 'config.py'], 'give either DATA_ROOT or --config CONFIG'),
        ([root], '--num-classes is needed'),
        ([root / 'nowhere', '--num-classes', 3], 'there is no folder'),
        ([root, '--num-classes', 300], 'num_classes must be in 1..254'),
        ([root, '--num-classes', 3, '--img-dir', 'images/training'], 'names 1 folders, --ann-dir 2'),
        ([root, '--num-classes', 3, '--crop', 0], '--crop takes one or two positive'),
        ([root, '--num-classes', 3, '--workers', 0], '--workers must be at least 1'),
        (['--config', 'nowhere.py'], 'there is no config nowhere.py'),
        (['--config', 'config.py', '--num-classes', 3], '--num-classes goes with DATA_ROOT'),
        (['--config', 'config.py'], 'classes.txt: check classes_file'),
    ):
        result = check(tmp_path, *arguments)
        assert result.returncode == 2, arguments
        assert message in result.stderr and 'Traceback' not in result.stderr, result.stderr
