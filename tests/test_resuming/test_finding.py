"""The checkpoint that a training goes on from."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from resformer_mm.checkpoints import CheckpointError
from resformer_mm.resuming import check_resumable, find_resumable, keep_total_batch


@pytest.fixture
def run(tmp_path) -> Config:
    """A work dir with two checkpoints, the second of which is noted."""
    folder = tmp_path / 'run'
    folder.mkdir()
    for number in (1, 2):
        torch.save(
            {'meta': {'epoch': number}, 'optimizer': {}, 'weight': torch.rand(100)},
            folder / f'epoch_{number}.pth',
        )
        os.utime(folder / f'epoch_{number}.pth', (number, number))
    torch.save({'meta': {'epoch': 9}}, folder / 'best_accuracy_epoch_9.pth')
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_2.pth'))
    return Config(dict(work_dir=str(folder)))


def epoch(cfg: Config) -> int:
    path, content = find_resumable(cfg)
    assert Path(path).name == f'epoch_{content["meta"]["epoch"]}.pth'
    return content['meta']['epoch']


def test_the_noted_one(run):
    assert epoch(run) == 2


def test_a_copied_folder_is_its_own(run):
    copy = Path(run.work_dir).with_name('copy')
    shutil.copytree(run.work_dir, copy)
    path, _ = find_resumable(Config(dict(work_dir=str(copy))))
    assert path == copy / 'epoch_2.pth'


def test_a_moved_folder(run):
    moved = Path(run.work_dir).rename(Path(run.work_dir).with_name('moved'))
    path, _ = find_resumable(Config(dict(work_dir=str(moved))))
    assert path == moved / 'epoch_2.pth'


def test_without_a_note_the_newest(run):
    Path(run.work_dir, 'last_checkpoint').unlink()
    assert epoch(run) == 2


@pytest.mark.parametrize('damage', ['truncated', 'empty', 'flipped'])
def test_a_damaged_one_is_named_and_the_one_before_is_taken(run, damage, monkeypatch):
    path = Path(run.work_dir, 'epoch_2.pth')
    content = bytearray(path.read_bytes())
    if damage == 'flipped':
        place = content.index(torch.load(path)['weight'].numpy().tobytes()) + 50
        content[place] ^= 0xFF
    else:
        content = content[: len(content) // 2] if damage == 'truncated' else b''
    path.write_bytes(content)
    told = []
    monkeypatch.setattr('resformer_mm.resuming.finding.print_log', lambda text, *_: told.append(text))
    assert epoch(run) == 1
    assert len(told) == 1 and str(path) in told[0]


def test_all_are_damaged(run):
    for path in Path(run.work_dir).glob('epoch_*.pth'):
        path.write_bytes(b'')
    with pytest.raises(CheckpointError, match='none of the 2 checkpoints'):
        find_resumable(run)


def test_none_is_there(tmp_path):
    assert find_resumable(Config(dict(work_dir=str(tmp_path / 'missing')))) is None


def test_weights_alone_are_not_taken(run):
    torch.save({'state_dict': {}}, Path(run.work_dir, 'pretrained.pth'))
    Path(run.work_dir, 'last_checkpoint').unlink()
    assert epoch(run) == 2


def test_out_dir_is_searched(run, tmp_path):
    target = tmp_path / 'elsewhere' / 'run'
    target.parent.mkdir()
    shutil.move(run.work_dir, target)
    Path(run.work_dir).mkdir()
    run.default_hooks = dict(checkpoint=dict(out_dir=str(target.parent)))
    path, _ = find_resumable(run)
    assert path == target / 'epoch_2.pth'


def test_weights_alone_cannot_be_resumed(run):
    with pytest.raises(CheckpointError, match=r'no optimizer.*load_from=best.pth, without --resume'):
        check_resumable('best.pth', {'meta': {}, 'state_dict': {}})
    with pytest.raises(CheckpointError, match='no meta and no optimizer'):
        check_resumable('best.pth', {'model': {}})
    check_resumable('epoch_1.pth', {'meta': {}, 'optimizer': {}})


@pytest.mark.parametrize(
    ('processes', 'size', 'expected'),
    [(1, 8, 16), (2, 8, 8), (4, 8, 4), (3, 8, 8), (1, 5, 5)],
)
def test_the_batches_of_all_processes_stay_as_large(processes, size, expected):
    cfg = Config(dict(train_dataloader=dict(batch_size=size)))
    keep_total_batch(cfg, {'exact_state': {'ranks': [{}, {}], 'batch_size': 8}}, processes)
    assert cfg.train_dataloader.batch_size == expected
