"""Validation of video lists: every fault is reported, and nothing else."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest
from clip_files import (
    write_clip,
    write_damaged,
    write_short_avi,
    write_sound,
    write_truncated,
    write_uneven,
)
from mmengine.config import Config
from mmengine.registry import init_default_scope

from resformer_mm.compat import prepare_mmaction
from resformer_mm.datasets.checks.configured import configured_sources
from resformer_mm.datasets.checks.report import CheckReport
from resformer_mm.tasks.video.check import ClipList, check_clip, check_clip_lists
from resformer_mm.tasks.video.files import ClipReader


def write_list(root: Path, lines: list[str], name: str = 'list.txt') -> Path:
    (root / name).write_text(''.join(f'{line}\n' for line in lines))
    return root / name


def check(root: Path, lines: list[str], num_classes: int | None = 2, **kwargs) -> CheckReport:
    return check_clip_lists([ClipList(str(write_list(root, lines)), str(root), num_classes, **kwargs)])


def found(report: CheckReport) -> Counter:
    """Return how often each kind was found at each file name."""
    return Counter((finding.kind, Path(finding.path).name) for finding in report.findings)


def test_a_sound_list(tmp_path: Path) -> None:
    write_clip(tmp_path / 'a b.mp4', 12, fps=10)
    write_clip(tmp_path / 'c.mp4', 20, fps=20)
    report = check(tmp_path, ['a b.mp4 1', 'c.mp4 1'], window=12)
    assert report.findings == [] and report.is_sound
    [fact] = report.facts
    assert fact.endswith('2 clips, 1 of 2 classes occur, 12 to 20 frames, 10 to 20 frames a second')


def test_labels_that_count_from_one(tmp_path: Path) -> None:
    """A note where the number of classes is not known: class 0 may be missing."""
    write_clip(tmp_path / 'a.mp4')
    write_clip(tmp_path / 'b.mp4')
    [note] = check(tmp_path, ['a.mp4 1', 'b.mp4 2'], None).findings
    assert (note.kind, note.is_fault) == ('labels that count from 1', False)
    assert 'subtract 1 from every label' in note.detail
    assert check(tmp_path, ['a.mp4 0', 'b.mp4 2'], None).findings == []


def test_every_bad_file_is_named(tmp_path: Path) -> None:
    faults = {
        'missing file': tmp_path / 'gone.mp4',
        'empty file': tmp_path / 'zero.mp4',
        'no video stream': write_sound(tmp_path / 'sound.mp4'),
        'truncated': write_truncated(tmp_path / 'cut.mp4'),
        'not a video, or missing its end': write_truncated(tmp_path / 'end.mp4', index_first=False),
        'damaged frames': write_damaged(tmp_path / 'damaged.mp4'),
    }
    faults['empty file'].touch()
    write_short_avi(tmp_path / 'cut.avi')
    write_uneven(tmp_path / 'uneven.mp4')
    write_clip(tmp_path / 'short.mp4', 5)
    names = [*(path.name for path in faults.values()), 'cut.avi', 'uneven.mp4', 'short.mp4']
    report = check(tmp_path, [f'{name} 0' for name in names], window=6)
    expected = Counter((kind, path.name) for kind, path in faults.items())
    expected[('truncated', 'cut.avi')] += 1
    notes = Counter([('variable frame rate', 'uneven.mp4'), ('shorter than the window', 'short.mp4')])
    assert found(report) == expected + notes
    assert {finding.kind for finding in report.findings if not finding.is_fault} == {
        kind for kind, _ in notes
    }
    details = {Path(finding.path).name: finding.detail for finding in report.findings}
    assert details['cut.avi'].startswith('its header announces 12 frames, but training sees ')
    assert details['uneven.mp4'].startswith('frames of 50 to 150 ms')


def test_every_bad_line_is_named(tmp_path: Path) -> None:
    for name in 'abc':
        write_clip(tmp_path / f'{name}.mp4')
    lines = ['a.mp4 0', 'a.mp4', 'b.mp4 two', 'b.mp4 2', 'b.mp4 -1', './a.mp4 0', 'c.mp4 0', 'c.mp4 1']
    report = check(tmp_path, lines)
    said = {(finding.kind, finding.detail) for finding in report.findings if finding.path.endswith('.txt')}
    assert said == {
        ('line without a label', "line 2: 'a.mp4' is not `PATH LABEL`"),
        ('label is not a number', "line 3: 'two' of 'b.mp4' is not an integer"),
        ('label out of range', "line 4: 2 of 'b.mp4' is not in 0 to 1"),
        ('label out of range', "line 5: -1 of 'b.mp4' is not in 0 to 1"),
    }
    [twice] = [finding for finding in report.findings if finding.kind == 'listed twice']
    assert not twice.is_fault and twice.detail.endswith('list.txt, lines 1, 6')
    [labels] = [finding for finding in report.findings if finding.kind == 'listed with two labels']
    assert labels.is_fault and labels.detail.endswith('lines 7, 8: [0, 1]')
    assert found(check(tmp_path, [])) == {('no clips', 'list.txt'): 1}
    (tmp_path / 'list.txt').write_bytes(b'\xff\x00a')
    picture = check_clip_lists([ClipList(str(tmp_path / 'list.txt'), str(tmp_path))])
    assert found(picture) == {('list is not a text file', 'list.txt'): 1} and not picture.is_sound
    nowhere = check_clip_lists([ClipList(str(tmp_path / 'nowhere.txt'), str(tmp_path))])
    assert found(nowhere) == {('missing list', 'nowhere.txt'): 1}


def test_clips_of_both_lists_are_noted(tmp_path: Path) -> None:
    for name in 'ab':
        write_clip(tmp_path / f'{name}.mp4')
    lists = [
        ClipList(str(write_list(tmp_path, lines, name)), str(tmp_path))
        for name, lines in (('train.txt', ['a.mp4 0', 'b.mp4 1']), ('val.txt', ['b.mp4 1']))
    ]
    report = check_clip_lists(lists, workers=2)
    assert report.is_sound and found(report) == {('in two lists', 'b.mp4'): 1}


def test_frames_that_an_edit_list_hides_are_noted(tmp_path: Path) -> None:
    path = write_clip(tmp_path / 'clip.mp4', 12)
    content = bytearray(path.read_bytes())
    at = content.index(b'elst') + 12  # the duration of its first entry
    content[at : at + 4] = (int.from_bytes(content[at : at + 4], 'big') // 2).to_bytes(4, 'big')
    path.write_bytes(content)
    findings, facts = check_clip(str(path))
    assert [(finding.kind, finding.is_fault) for finding in findings] == [
        ('frames cut by an edit list', False)
    ]
    assert facts.num_frames < 12


@pytest.mark.slow
def test_no_clip_takes_longer_than_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / 'clip.mp4', 40)
    decode = ClipReader.frames
    monkeypatch.setattr(ClipReader, 'frames', lambda *args: time.sleep(0.15) or decode(*args))
    [finding], _ = check_clip(str(path), timeout=0.4)
    assert finding.kind == 'not read in time'


def test_lists_of_a_config(tmp_path: Path) -> None:
    prepare_mmaction()
    init_default_scope('mmaction')
    resize = dict(type='Resize', scale=('{resolution}', '{resolution}'), keep_ratio=False)
    copies = dict(
        type='resformer_mm.MultiResolutionClips',
        resolutions=[64, 32],
        num_frames=[8, 4],
        frame_interval=[4, 9],
        transforms=[resize],
    )
    train = dict(
        type='resformer_mm.VideoList', ann_file='t.txt', data_root='root', num_classes=3, pipeline=[copies]
    )
    sample = dict(type='SampleFrames', clip_len=8, frame_interval=4, test_mode=True)
    val = dict(type='VideoDataset', ann_file='v.txt', data_prefix=dict(video='clips'), pipeline=[sample])
    cfg = Config(
        dict(
            train_dataloader=dict(dataset=dict(type='RepeatDataset', times=2, dataset=train)),
            val_dataloader=dict(dataset=val),
            test_dataloader=dict(dataset={**val, 'pipeline': []}),
        )
    )
    lists = configured_sources(cfg, ClipList.from_config)
    assert [(entry.path, entry.folder, entry.num_classes, entry.window) for entry in lists] == [
        ('root/t.txt', 'root/', 3, 36),
        ('v.txt', 'clips', None, 29),
    ]
    cfg.val_dataloader = dict(
        dataset=dict(type='RawframeDataset', ann_file='v.txt', data_prefix=dict(img='x'))
    )
    with pytest.raises(ValueError, match='val_dataloader.dataset does not read a list of video files'):
        configured_sources(cfg, ClipList.from_config)


def test_a_list_that_the_library_reads_otherwise(tmp_path: Path) -> None:
    prepare_mmaction()
    init_default_scope('mmaction')
    write_clip(tmp_path / 'a.mp4')
    settings = dict(ann_file=str(tmp_path / 'list.txt'), data_prefix=dict(video=str(tmp_path)), pipeline=[])
    settings['metainfo'] = dict(classes=['walk', 'run'])
    for line, kind in (
        ('a.mp4,1', 'read otherwise by this data set'),
        ('a.mp4 run', None),
        ('a.mp4 1', None),
    ):
        write_list(tmp_path, [line])
        reports = []
        for name in ('resformer_mm.VideoList', 'VideoDataset'):
            cfg = Config(dict(val_dataloader=dict(dataset=dict(settings, type=name))))
            reports.append(check_clip_lists(configured_sources(cfg, ClipList.from_config)))
        assert reports[0].is_sound and reports[0].counts_per_class == reports[1].counts_per_class
        assert (kind in reports[1].counts()) == (',' in line) and reports[1].is_sound == line.endswith(' 1')
