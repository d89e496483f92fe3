"""The report as a command, also where libraries are missing or broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
COMMAND = ['-m', 'resformer_mm.collect_env']
TASKS = {'classification', 'segmentation', 'detection', 'video'}


def run(*command: str, path: Path = ROOT) -> subprocess.CompletedProcess:
    paths = (str(path), str(ROOT), os.environ.get('PYTHONPATH'))
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=path,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths))},
    )


def hide(folder: Path, *modules: str, error: str = 'ImportError("hidden")') -> None:
    """Make the import of some modules fail."""
    for name in modules:
        (folder / f'{name}.py').write_text(f'raise {error}\n')


def test_a_report_of_this_environment() -> None:
    result = run(*COMMAND, '--json')
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report['PyTorch']['torch'] == torch.__version__
    assert not [name for name, facts in report.items() if 'error' in facts]
    assert set(report['tasks']) == TASKS
    # Classification needs no operators: the tests themselves import mmpretrain.
    pytest.importorskip('mmpretrain')
    assert report['tasks']['classification'] == 'usable, with mmpretrain'


def test_broken_libraries_are_facts_of_the_report(tmp_path: Path) -> None:
    hide(tmp_path, 'torchvision', 'mmpretrain', error='RuntimeError("built for another PyTorch")')
    report = json.loads(run(*COMMAND, '--json', path=tmp_path).stdout)
    assert report['PyTorch']['torchvision'] == 'RuntimeError: built for another PyTorch'
    assert report['compiled operators']['torchvision'].startswith('do not load: RuntimeError')
    classification = report['tasks']['classification']
    assert classification.startswith('not usable: ') and 'RuntimeError: built for another' in classification


@pytest.mark.parametrize('missing', ['torch', 'mmengine'])
def test_a_report_without_a_requirement(tmp_path: Path, missing: str) -> None:
    hide(tmp_path, missing)
    result = run(*COMMAND, path=tmp_path)
    assert result.returncode == 0, result.stderr
    assert 'hidden' in result.stdout and 'OpenMMLab libraries' in result.stdout


def test_a_bare_interpreter_reports_and_says_what_is_missing(tmp_path: Path) -> None:
    """-S leaves out site-packages: as after `pip install --no-deps` in a new environment."""
    result = run('-S', *COMMAND, '--json', path=tmp_path)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report['PyTorch'] == {'error': "ModuleNotFoundError: No module named 'torch'"}
    assert report['compiled operators'] == {'torchvision': 'not installed', 'mmcv': 'not installed'}
    for code in (
        'import resformer_mm',
        'import sys; sys.argv = ["-c", "-m"]; import resformer_mm.collect_env',
    ):
        result = run('-S', '-c', code, path=tmp_path)
        assert result.returncode == 1 and 'resformer_mm needs PyTorch' in result.stderr
