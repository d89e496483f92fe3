"""The wheel: what it contains, what it asks for, and that the source tree is as before."""

import os
import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from importlib.metadata import distributions
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


def test_a_clone_has_the_folder_that_a_wheel_has():
    folder = ROOT / MIM
    assert {path.name for path in folder.iterdir()} == {'configs', 'tools', 'model-index.yml'}
    for path in folder.iterdir():
        assert path.is_symlink() and path.resolve() == ROOT / path.name


def test_editable_install_is_found_by_its_metadata(tmp_path):
    """MMEngine up to 0.10.7 and MIM join the folder of the metadata with the first line of top_level.txt."""
    before = listing()
    code = f'from setuptools import build_meta; build_meta.build_editable({str(tmp_path)!r})'
    result = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=300, cwd=ROOT, check=False
    )
    assert result.returncode == 0, result.stderr
    assert listing() == before
    (file,) = tmp_path.glob('resformer_mm-*.whl')
    site = tmp_path / 'site-packages'
    zipfile.ZipFile(file).extractall(site)
    (dist,) = distributions(path=[str(site)])
    found = Path(os.path.join(site, dist.read_text('top_level.txt').split('\n')[0]))
    assert found == ROOT / 'resformer_mm' and (found / '.mim' / 'model-index.yml').is_file()
    # A stand-in for the installation: the .pth file in site-packages makes the clone importable. PYTHONPATH
    # and an editable install in this environment would hide it.
    code = f"""
import site, sys
sys.path[:] = [{str(site)!r}, *(path for path in sys.path if path != {str(ROOT)!r})]
sys.meta_path[:] = [finder for finder in sys.meta_path if not finder.__module__.startswith('__editable__')]
for name in [name for name in sys.modules if name.startswith('__editable__')]:
    del sys.modules[name]
site.addsitedir({str(site)!r})
import resformer_mm
print(resformer_mm.__file__)
"""
    result = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False
    )
    assert result.stdout.strip() == str(ROOT / 'resformer_mm' / '__init__.py'), result.stderr


def test_wheel_asks_for_neither_torch_nor_openmmlab(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (n for n in archive.namelist() if n.endswith('.dist-info/METADATA'))
    metadata = Parser().parsestr(archive.read(name).decode())
    version = re.search(r"'(.+)'", (ROOT / 'resformer_mm' / 'version.py').read_text()).group(1)
    assert (metadata['Name'], metadata['Version']) == ('resformer-mm', version)
    requirements = metadata.get_all('Requires-Dist')
    always = [item for item in requirements if 'extra ==' not in item]
    assert not [item for item in always if re.match(r'(onedl|mm|torch)', item)], always
    extras = {'onedl', 'openmmlab', 'analysis', 'demo', 'deployment', 'features', 'trackers', 'tests'}
    assert extras <= set(metadata.get_all('Provides-Extra'))
    for extra in extras:
        assert [item for item in requirements if f'extra == "{extra}"' in item], extra
    assert metadata['License'] == 'Apache-2.0'
    (name,) = (n for n in archive.namelist() if n.endswith('/LICENSE'))
    assert archive.read(name) == (ROOT / 'LICENSE').read_bytes()


def test_installed_wheel_works_from_another_folder(wheel, tmp_path):
    target = tmp_path / 'site'
    pip('install', '--no-index', '--no-deps', '--target', str(target), str(wheel))
    paths = (str(target), os.environ.get('PYTHONPATH'))
    name = 'classification/resformer-mini_64_1xb64-30e_mini.py'
    (tmp_path / 'user.py').write_text(f"_base_ = 'resformer_mm::{name}'\nmax_epochs = 3\n")
    code = f"""
import resformer_mm
from mmengine.config import Config
from mmengine.hub import get_config
print(resformer_mm.__file__)
print(get_config('resformer_mm::{name}').filename)
cfg = Config.fromfile('user.py')
assert cfg.max_epochs == 3 and cfg.default_scope == 'mmpretrain'
assert cfg.model.type == 'resformer_mm.MultiResolutionClassifier'
"""
    result = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths))},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    package, config = map(Path, result.stdout.split())
    assert package.is_relative_to(target)
    assert config == target / MIM / 'configs' / name


def test_public_names_are_imported_when_they_are_asked_for():
    code = """
import sys
import resformer_mm
assert not [name for name in sys.modules if name.startswith(('mmengine.runner', 'mmengine.model', 'mmcv'))]
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
