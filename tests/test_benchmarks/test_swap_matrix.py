"""The swap of backbones in the libraries' own configs: a few of each library, and what it must notice."""

from __future__ import annotations

import csv
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / 'benchmarks' / 'results' / 'swap_matrix.csv'
NEW_LINES = {
    'mmpretrain': ('mobilenet_v[23]/mobilenet-v[23]*_8xb*_in1k.py', 'model.head.in_channels=192'),
    'mmseg': ('segmenter/*vit-[ts]*', ''),
    'mmdet': ('detr/detr_r50*', 'model.neck.in_channels=[192]'),
    'mmaction': ('recognition/tsn/*r50_8xb32-1x1x3*', 'model.cls_head.in_channels=192'),
}


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def run(*options: object) -> subprocess.CompletedProcess:
    command = [sys.executable, 'benchmarks/swap_matrix.py', *map(str, options)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    'library',
    [
        'mmpretrain',
        pytest.param('mmseg', marks=pytest.mark.operators('mmseg')),
        pytest.param('mmdet', marks=pytest.mark.operators('mmdet')),
        'mmaction',
    ],
)
def test_a_zoo(library: str, tmp_path: Path) -> None:
    pattern, line = NEW_LINES[library]
    out = tmp_path / 'swap.csv'
    result = run('--library', library, '--config', pattern, '--out', out)
    assert result.returncode == 0, result.stdout + result.stderr
    found = rows(out)
    for row in found:
        assert (row['loss'], row['prediction'], row['note']) == ('ok', 'ok', ''), row
        assert row['backbone'].startswith("backbone=dict(type='resformer_mm."), row
    assert line in [row['changed_lines'] for row in found]


@pytest.mark.slow
def test_a_config_that_does_not_exist() -> None:
    result = run('--library', 'mmpretrain', '--config', 'nothing/*')
    assert result.returncode == 2
    assert 'no config was found' in result.stderr


def test_the_committed_matrix_has_no_failure_without_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / 'benchmarks')
    results = importlib.import_module('swap_results')
    committed = rows(RESULTS)
    assert {row['library'] for row in committed} == set(NEW_LINES)
    assert not [row['config'] for row in committed if results.outcome(row) == 'failed']
    assert results.merge(RESULTS, committed[:3]) == committed
    broken = {**committed[0], 'loss': 'failed', 'note': 'RuntimeError: sizes (head.py:3)'}
    assert results.outcome(broken) == 'failed'
