"""The installer's decisions and messages; nothing is downloaded or installed here."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MISSING = ROOT / 'tools' / 'missing_requirements.py'


def write_distributions(folder: Path, **versions: str) -> Path:
    for name, version in versions.items():
        metadata = folder / f'{name}-{version}.dist-info' / 'METADATA'
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')
    return folder


def missing(site: Path, *arguments: str) -> tuple[list[str], str]:
    """Run the script with ``site`` in the place of the site-packages."""
    result = subprocess.run(
        [sys.executable, '-S', str(MISSING), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, 'PYTHONPATH': str(site)},
        check=True,
    )
    return result.stdout.split(), result.stderr


def write_environment(folder: Path, body: str) -> Path:
    python = folder / 'bin' / 'python'
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\n{body}\n')
    python.chmod(0o755)
    return folder


def install(project: Path, **variables: str) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if k not in ('VIRTUAL_ENV', 'CONDA_PREFIX')}
    return subprocess.run(
        ['bash', str(project / 'tools' / 'install.sh')],
        capture_output=True,
        text=True,
        timeout=60,
        env={**environment, **variables},
        check=False,
    )


def test_what_is_there_is_kept_under_either_name(tmp_path):
    requirements = tmp_path / 'requirements.txt'
    requirements.write_text(
        'torch==2.13.0\nonedl-mmcv==2.3.6\nonedl-mmengine==0.10.12\n'
        'opencv-python==4.12.0.88  # one only\n\n# comment\nmmaction2==1.2.0\neinops\n'
    )
    site = write_distributions(
        tmp_path / 'site',
        torch='2.8.0+cu126',
        mmcv='2.1.0',
        onedl_mmengine='0.10.12',
        opencv_contrib_python_headless='4.10.0.84',
    )
    found, notes = missing(site, str(requirements))
    assert found == ['mmaction2==1.2.0', 'einops']
    assert 'keeping mmcv 2.1.0 (tested with onedl-mmcv==2.3.6)' in notes
    assert 'keeping torch 2.8.0+cu126 (tested with torch==2.13.0)' in notes
    assert 'mmengine' not in notes
    kept, _ = missing(site, '--freeze')
    assert {'torch==2.8.0+cu126', 'mmcv==2.1.0', 'onedl-mmengine==0.10.12'} <= set(kept)


def test_exact_requirements_and_local_versions(tmp_path):
    requirements = tmp_path / 'requirements.txt'
    requirements.write_text('ruff==0.17.6\ntorch==2.13.0\n')
    site = write_distributions(tmp_path / 'site', ruff='0.1.0', torch='2.13.0+cpu')
    assert missing(site, '--exact', str(requirements)) == (['ruff==0.17.6'], '')


def test_a_range_becomes_the_version_of_the_pins(tmp_path):
    requirements = tmp_path / 'extra.txt'
    requirements.write_text('plotly>=6\njinja2>=3\nonnx>=1.18\n')
    (tmp_path / 'pins.txt').write_text('# tested\nplotly==7.1.0\nonnx==1.23.2\n')
    site = write_distributions(tmp_path / 'site', onnx='1.20.0')
    found, notes = missing(site, str(requirements))
    assert found == ['plotly==7.1.0', 'jinja2>=3']
    assert 'keeping onnx 1.20.0 (tested with onnx==1.23.2)' in notes
    assert missing(site, '--exact', str(requirements))[0] == ['plotly==7.1.0', 'jinja2>=3', 'onnx==1.23.2']


def test_project_of_another_folder_does_not_count(tmp_path):
    site = write_distributions(tmp_path / 'site', resformer_mm='0.1.0')
    origin = site / 'resformer_mm-0.1.0.dist-info' / 'direct_url.json'
    for project, answer in ((tmp_path, []), (ROOT, ['missing'])):
        origin.write_text(f'{{"url": "{tmp_path.as_uri()}", "dir_info": {{"editable": true}}}}')
        assert missing(site, '--project', str(project))[0] == answer


def test_requirement_files_name_each_package_once():
    names = {}
    for file in sorted((ROOT / 'requirements').glob('*.txt')):
        lines = [line.split('#')[0].strip() for line in file.read_text().splitlines()]
        names[file.stem] = [re.split('[=<>]', line)[0] for line in lines if line]
    del names['openmmlab']  # instead of onedl.txt and mmcv.txt
    pinned = names.pop('pins')
    once = [name for names_of_file in names.values() for name in names_of_file]
    assert len(once) == len(set(once))
    assert len(pinned) == len(set(pinned)) and set(pinned) <= set(once)


@pytest.fixture
def project(tmp_path) -> Path:
    folder = tmp_path / 'project'
    for name in ('tools', 'requirements'):
        shutil.copytree(ROOT / name, folder / name)
    return folder


def test_no_usable_python(project):
    result = install(project, PYTHON='/nowhere/python3')
    assert result.returncode == 1
    assert 'error: no usable Python: /nowhere/python3 is missing' in result.stderr


def test_python_of_the_active_environment_is_too_old(project, tmp_path):
    environment = write_environment(tmp_path / 'env', 'exit 1')
    result = install(project, VIRTUAL_ENV=str(environment))
    assert result.returncode == 1
    assert 'is missing or not of version 3.10 to 3.13' in result.stderr


def test_python_without_venv(project, tmp_path):
    # An interpreter of a fitting version, all of whose modules are missing.
    environment = write_environment(tmp_path / 'env', '[ "$1" = -m ] && exit 1\nexit 0')
    result = install(project, PYTHON=str(environment / 'bin' / 'python'))
    assert result.returncode == 1
    assert 'its module venv or ensurepip is missing' in result.stderr
    assert not (project / '.venv').exists()


def test_no_compiler(project, tmp_path):
    environment = write_environment(tmp_path / 'env', f'exec {sys.executable} -S "$@"')
    result = install(project, VIRTUAL_ENV=str(environment), CXX='no-such-compiler')
    assert result.returncode == 1
    assert 'error: no C++ compiler (no-such-compiler)' in result.stderr


def test_conda_environment_is_used(project, tmp_path):
    environment = write_environment(tmp_path / 'env', f'exec {sys.executable} -S "$@"')
    result = install(project, CONDA_PREFIX=str(environment), CXX='no-such-compiler')
    assert f'using {environment}/bin/python' in result.stdout
