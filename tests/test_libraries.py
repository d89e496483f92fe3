"""Errors of the tools if the library of a config cannot be used. Every case runs in a new interpreter."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONFIGS = {
    'mmseg': 'configs/segmentation/resformer-mini_upernet_1xb8-900_mini.py',
    'mmdet': 'configs/detection/resformer-mini_64_mask-rcnn_1xb8-8e_mini.py',
}
# As in an environment with mmcv-lite, or with operators that were compiled for another PyTorch.
WITHOUT = """
import sys
from importlib.abc import MetaPathFinder
class Blocker(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == 'mmcv._ext':
            raise {error}
sys.meta_path.insert(0, Blocker())
"""
MISSING = WITHOUT.format(error='ModuleNotFoundError("No module named \'mmcv._ext\'", name=name)')
BROKEN = WITHOUT.format(error='ImportError("undefined symbol: _ZN2at")')
MESSAGE = (
    r'needs the compiled operators of mmcv, which cannot be loaded \(.*mmcv\._ext.*bash tools/install.sh'
)

pytestmark = [pytest.mark.libraries, pytest.mark.slow]


def run(code: str, folder: Path) -> subprocess.CompletedProcess:
    environment = dict(os.environ)
    environment['PYTHONPATH'] = os.pathsep.join(filter(None, (str(ROOT), environment.get('PYTHONPATH'))))
    command = [sys.executable, '-W', 'ignore', '-c', code]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=180, env=environment, cwd=folder, check=False
    )


def tool(name: str, *words: object) -> str:
    arguments = [str(ROOT / 'tools' / name), *(str(word) for word in words)]
    return f"""
import runpy
sys.argv = {arguments!r}
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.mark.parametrize('name', ['train.py', 'test.py', 'demo.py', 'analysis_tools/get_flops.py'])
def test_tools_name_the_operators(name: str, tmp_path: Path) -> None:
    (tmp_path / 'any.pth').touch()
    (tmp_path / 'any.jpg').touch()
    config = ROOT / CONFIGS['mmdet']
    words = {'test.py': [config, 'any.pth'], 'demo.py': ['any.jpg', config, 'any.pth']}.get(name, [config])
    result = run(MISSING + tool(name, *words), tmp_path)
    assert result.returncode == 2, result.stderr
    assert re.search(f"default_scope='mmdet': mmdet {MESSAGE}", result.stderr), result.stderr
    assert 'Traceback' not in result.stderr


def test_the_api_names_the_operators(tmp_path: Path) -> None:
    code = f"""
from resformer_mm import load_model, make_inferencer
for make in (make_inferencer, load_model):
    try:
        make({str(ROOT / CONFIGS['mmdet'])!r}, None)
    except ImportError as error:
        print(str(error))
"""
    result = run(MISSING + code, tmp_path)
    assert len(re.findall(MESSAGE, result.stdout)) == 2, result.stdout + result.stderr


def test_operators_that_do_not_load_are_told_from_missing_ones(tmp_path: Path) -> None:
    result = run(BROKEN + tool('train.py', ROOT / CONFIGS['mmdet']), tmp_path)
    assert result.returncode == 2, result.stderr
    assert 'undefined symbol: _ZN2at' in result.stderr and 'Traceback' not in result.stderr


def test_classification_needs_none(tmp_path: Path) -> None:
    config = ROOT / 'configs/classification/resformer-mini_64_1xb64-30e_mini.py'
    result = run(MISSING + tool('analysis_tools/get_flops.py', config, '--shape', 32), tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize('library', ['mmseg', 'mmdet'])
def test_a_library_that_refuses_the_version_of_mmcv_is_reported(library: str, tmp_path: Path) -> None:
    """As upstream's do with mmcv 2.2."""
    (tmp_path / f'{library}.py').write_text("assert False, 'MMCV==2.2.0 is used but incompatible'")
    code = f'import sys\nsys.path.insert(0, {str(tmp_path)!r})\n'
    result = run(code + tool('train.py', ROOT / CONFIGS[library]), tmp_path)
    assert result.returncode == 2, result.stderr
    message = f"needs the library '{library}'.*MMCV==2.2.0 is used but incompatible.*resformer-mm.openmmlab"
    assert re.search(message, result.stderr), result.stderr
