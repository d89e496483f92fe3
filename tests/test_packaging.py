"""The wheel: what it contains, what it asks for, and that the source tree is as before."""

import os
import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MIM = 'resformer_mm/.mim'


def listing() -> set[str]:
    return {str(p.relative_to(ROOT)) for p in (*ROOT.iterdir(), *(ROOT / 'resformer_mm').iterdir())}


def files_below(folder: str) -> set[str]:
    found = (p.relative_to(ROOT) for p in (ROOT / folder).rglob('*') if p.is_file())
    return {p.as_posix() for p in found if '__pycache__' not in p.parts}


def pip(*arguments: str) -> None:
    command = [sys.executable, '-m', 'pip', '--disable-pip-version-check', *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope='module')
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('wheel')
    before = listing()
    pip('wheel', '--no-index', '--no-deps', '--no-build-isolation', '-w', str(folder), str(ROOT))
    assert listing() - {'resformer_mm/__pycache__'} == before - {'resformer_mm/__pycache__'}
    (file,) = folder.glob('resformer_mm-*.whl')
    return file


def test_wheel_carries_configs_and_tools(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    carried = {name.removeprefix(f'{MIM}/') for name in names if name.startswith(f'{MIM}/')}
    clone_only = {
        'tools/install.sh',
        'tools/missing_requirements.py',
        'tools/quickstart.sh',
        'tools/run_tests.sh',
        'tools/test_stack.sh',
    }
    expected = files_below('configs') | files_below('tools') | {'model-index.yml'}
    assert carried == expected - clone_only


def test_wheel_carries_every_file_of_the_package_and_no_tests(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert files_below('resformer_mm') <= names
    assert not [name for name in names if not name.startswith('resformer_mm')]


def test_wheel_asks_for_neither_torch_nor_openmmlab(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (n for n in archive.namelist() if n.endswith('.dist-info/METADATA'))
    metadata = Parser().parsestr(archive.read(name).decode())
    version = re.search(r"'(.+)'", (ROOT / 'resformer_mm' / 'version.py').read_text()).group(1)
    assert (metadata['Name'], metadata['Version']) == ('resformer-mm', version)
    requirements = metadata.get_all('Requires-Dist')
    always = [item for item in requirements if 'extra ==' not in item]
    assert not [item for item in always if re.match(r'(onedl|mm|torch)', item)], always
    extras = {'onedl', 'openmmlab', 'analysis', 'demo', 'deployment', 'tests'}
    assert extras <= set(metadata.get_all('Provides-Extra'))
    for extra in extras:
        assert [item for item in requirements if f'extra == "{extra}"' in item], extra
    (name,) = (n for n in archive.namelist() if n.endswith('/LICENSE'))
    assert archive.read(name) == (ROOT / 'LICENSE').read_bytes()


def test_installed_wheel_imports_from_another_folder(wheel, tmp_path):
    target = tmp_path / 'site'
    pip('install', '--no-index', '--no-deps', '--target', str(target), str(wheel))
    paths = (str(target), os.environ.get('PYTHONPATH'))
    result = subprocess.run(
        [sys.executable, '-c', 'import resformer_mm; print(resformer_mm.__file__)'],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths))},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()).is_relative_to(target)


def test_public_names_are_imported_when_they_are_asked_for():
    code = """
import sys
import resformer_mm
assert not [name for name in sys.modules if name.split('.')[0] in ('mmengine', 'mmcv')]
from resformer_mm import ResFormer, VideoResFormer, load_model
from resformer_mm.models import ResFormer as direct
assert ResFormer is direct and issubclass(VideoResFormer, ResFormer)
assert load_model.__module__ == 'resformer_mm.checkpoints.models'
assert not [name for name in sys.modules if name.split('.')[0] == 'mmcv']
from resformer_mm import make_inferencer
assert all(hasattr(resformer_mm, name) for name in resformer_mm.__all__)
assert not hasattr(resformer_mm, 'no_such_name')
"""
    result = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=120, cwd=ROOT, check=False
    )
    assert result.returncode == 0, result.stderr
