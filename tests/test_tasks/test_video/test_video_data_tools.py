"""Generating clips and checking lists of them from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from clip_files import write_clip, write_truncated
from runs import run_tool, succeed

CHECK = 'dataset_converters/check_video.py'
GENERATE = 'dataset_converters/make_embedded_data.py'
CONFIG = """
default_scope = 'mmaction'
model = dict()
train_dataloader = dict(
    dataset=dict(
        type='resformer_mm.VideoList',
        data_root={root!r},
        ann_file='train_list.txt',
        data_prefix=dict(video=''),
        num_classes={num_classes},
        pipeline=[dict(type='SampleFrames', clip_len=4, frame_interval=3)],
    )
)
val_dataloader = None
test_dataloader = None
"""


def check(tmp_path: Path, *arguments: object):
    return run_tool(CHECK, *arguments, data=tmp_path, cwd=tmp_path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ('walk 1.mp4', 'run.mp4', 'late.mp4'):
        write_clip(tmp_path / 'data' / name)
    (tmp_path / 'data' / 'train_list.txt').write_text('walk 1.mp4 0\nrun.mp4 1\n')
    (tmp_path / 'data' / 'val_list.txt').write_text('late.mp4 1\n')
    return tmp_path / 'data'


@pytest.mark.slow
def test_generate_then_check(tmp_path: Path) -> None:
    command = ['made', '--task', 'video', '--num-train', 6, '--num-val', 3, '--size', 32, '--workers', 1]
    result = succeed(run_tool(GENERATE, *command, data=tmp_path, cwd=tmp_path))
    assert 'made: wrote 6 training and 3 validation clips of 6 classes' in result.stdout
    result = succeed(check(tmp_path, 'made', '--num-classes', 6, '--window', 32))
    lines = result.stdout.splitlines()
    assert len(lines) == 3 and lines[-1] == 'sound'
    assert 'train_list.txt: 6 clips, 6 of 6 classes occur, 32 to 32 frames' in lines[0]


@pytest.mark.slow
def test_faults_are_named_and_end_non_zero(root: Path, tmp_path: Path) -> None:
    succeed(check(tmp_path, root, '--num-classes', 2))
    write_truncated(root / 'run.mp4')
    (root / 'val_list.txt').write_text('late.mp4 2\nlate.mp4 1\nrun.mp4 1\nnot there.mp4 0\n')
    result = check(tmp_path, root, '--num-classes', 2, '--window', 13)
    assert result.returncode == 1
    said = result.stdout.splitlines()
    for words in (
        'fault: truncated (2)',
        f'  {root}/run.mp4',
        f"  {root}/val_list.txt: line 1: 2 of 'late.mp4' is not in 0 to 1",
        f'  {root}/not there.mp4',
        f'  {root}/run.mp4: {root}/train_list.txt and {root}/val_list.txt',
        f'  {root}/walk 1.mp4: 12 frames, window 13: looped or padded, depending on the pipeline',
        'NOT sound: 2 truncated, 1 label out of range, 1 missing file',
    ):
        assert words in said, result.stdout
    (tmp_path / 'config.py').write_text(CONFIG.format(root=str(root), num_classes=2))
    result = check(tmp_path, '--config', 'config.py')
    assert result.returncode == 1 and 'fault: truncated (1)' in result.stdout
    assert 'shorter' not in result.stdout and 'val_list' not in result.stdout
    (tmp_path / 'config.py').write_text(CONFIG.format(root=str(root), num_classes=1))
    result = check(tmp_path, '--config', 'config.py')
    assert result.returncode == 1 and 'line 2: 1 of' in result.stdout


@pytest.mark.slow
def test_lists_and_folders_of_other_names(root: Path, tmp_path: Path) -> None:
    (root / 'clips').mkdir()
    (root / 'late.mp4').rename(root / 'clips' / 'late.mp4')
    (root / 'val_list.txt').rename(root / 'other.txt')
    options = ['--num-classes', 2, '--ann-file', 'train_list.txt', 'other.txt']
    succeed(check(tmp_path, root, *options, '--video-dir', '.', 'clips'))
    assert check(tmp_path, root, *options).returncode == 1
    # A whole path, as a list may have, needs no folder.
    (root / 'other.txt').write_text(f'{root}/clips/late.mp4 1\n')
    succeed(check(tmp_path, root, *options))


@pytest.mark.slow
def test_commands_that_make_no_sense(root: Path, tmp_path: Path) -> None:
    (tmp_path / 'config.py').write_text(CONFIG.format(root=str(root), num_classes=2))
    for arguments, message in (
        ([], 'give either DATA_ROOT or --config CONFIG'),
        ([root], '--num-classes is needed'),
        ([root / 'nowhere', '--num-classes', 2], 'there is no folder'),
        ([root, '--num-classes', 2, '--video-dir', 'a', 'b', 'c'], '2 lists, but --video-dir names 3'),
        ([root, '--num-classes', 2, '--timeout', 0], '--timeout and --window must be positive'),
        (['--config', 'config.py', '--num-classes', 2], '--num-classes goes with DATA_ROOT'),
        (['--config', 'config.py', '--cfg-options', 'train_dataloader=None'], 'has no data set'),
    ):
        result = check(tmp_path, *arguments)
        assert result.returncode == 2, arguments
        assert message in result.stderr and 'Traceback' not in result.stderr, result.stderr
