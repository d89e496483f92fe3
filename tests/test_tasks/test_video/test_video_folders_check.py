"""Class folders of videos in the one check of all tasks."""

from __future__ import annotations

from pathlib import Path

import pytest
from clip_files import write_clip, write_truncated

from resformer_mm.datasets.checks.all_tasks import sources_below
from resformer_mm.datasets.checks.task_check import CheckOptions, repaired_copy

OPTIONS = CheckOptions()


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for number, split in enumerate(('train', 'val')):
        for label, name in enumerate(('falls', 'rises')):
            write_clip(tmp_path / 'clips' / split / name / 'a.mp4', 4 + 2 * number + label)
    (tmp_path / 'clips' / 'train' / 'falls' / '.a.mp4').write_bytes(b'')
    return tmp_path / 'clips'


def test_class_folders_are_checked_and_copied(folders: Path) -> None:
    task, check, sources = sources_below(folders, OPTIONS)
    assert task == 'video' and [Path(source.path).name for source in sources] == ['train', 'val']
    report = check.check(sources, OPTIONS)
    assert report.is_sound, report.text()
    assert list(report.counts_per_class.values()) == [{'falls': 1, 'rises': 1}] * 2
    assert '4 to 5 frames' in report.facts[0] and '6 to 7 frames' in report.facts[1]
    copies, repairs = repaired_copy(check, sources, folders.with_name('copy'))
    assert repairs == [f'{folders / "train"}: 1 hidden files left out']
    assert sorted(path.name for path in folders.with_name('copy').rglob('*.*')) == ['a.mp4'] * 4
    assert check.check(copies, OPTIONS).findings == []


def test_faults_of_class_folders(folders: Path) -> None:
    write_truncated(folders / 'train' / 'rises' / 'cut.mp4')
    (folders / 'val' / 'rises').rename(folders / 'val' / 'Rises')
    _, check, sources = sources_below(folders, OPTIONS)
    faults = [finding for finding in check.check(sources, OPTIONS).findings if finding.is_fault]
    assert {Path(fault.path).name for fault in faults} == {'cut.mp4', 'val'}
    [differ] = [fault for fault in faults if fault.kind == 'splits with different classes']
    assert 'rises' in differ.detail and 'Rises' in differ.detail
