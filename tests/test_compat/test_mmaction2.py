"""Workarounds for mmaction2. They act on its first import, so every case runs in a separate interpreter."""

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest


def run(code: str, path: Path | None = None) -> subprocess.CompletedProcess:
    environment = dict(os.environ)
    if path is not None:
        paths = (str(path), environment.get('PYTHONPATH'))
        environment['PYTHONPATH'] = os.pathsep.join(filter(None, paths))
    return subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        timeout=180,
        env=environment,
    )


def write_fakes(folder: Path, mmaction2: str, mmcv: str, with_drn: bool) -> Path:
    """A stand-in for mmcv and one for mmaction2 that makes the same check of its version."""
    files = {
        'mmcv/__init__.py': f'__version__ = {mmcv!r}',
        'mmaction/__init__.py': "import mmcv\nassert mmcv.__version__ < '2.2.0', 'refused'",
        'mmaction/models/__init__.py': 'from .localizers import DRN',
        'mmaction/models/localizers/__init__.py': 'from .drn.drn import DRN',
        f'mmaction2-{mmaction2}.dist-info/METADATA': f'Name: mmaction2\nVersion: {mmaction2}\n',
    }
    if with_drn:
        files['mmaction/models/localizers/drn/__init__.py'] = ''
        files['mmaction/models/localizers/drn/drn.py'] = "DRN = 'the real one'"
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def is_real_mmaction2_installed() -> bool:
    try:
        return version('mmaction2') == '1.2.0'
    except PackageNotFoundError:
        return False


@pytest.mark.skipif(not is_real_mmaction2_installed(), reason='needs mmaction2 1.2.0')
def test_the_real_mmaction2_imports_and_builds():
    result = run("""
from resformer_mm.compat import apply, prepare_mmaction
apply()
prepare_mmaction()
assert prepare_mmaction() == []
import mmcv
import mmcv.version
assert mmcv.__version__ == mmcv.version.__version__
import mmaction
import mmaction.models
from mmaction.registry import MODELS
from mmengine.registry import init_default_scope
init_default_scope('mmaction')
MODELS.build(dict(type='TimeSformer', num_frames=2, img_size=32, patch_size=16, embed_dims=24,
                  num_heads=2, num_transformer_layers=1, pretrained=None))
""")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ('mmcv', 'with_drn', 'expected'),
    [
        ('2.3.6', False, ['drn', 'mmcv-version']),
        ('2.3.6', True, ['mmcv-version']),
        ('2.1.0', False, ['drn']),
        ('2.1.0', True, []),
    ],
)
def test_each_workaround_is_applied_only_where_needed(tmp_path, mmcv, with_drn, expected):
    write_fakes(tmp_path, '1.2.0', mmcv, with_drn)
    result = run(
        f"""
import sys
from resformer_mm.compat import prepare_mmaction
assert prepare_mmaction() == {expected}
assert ('mmaction' in sys.modules) is {'mmcv-version' in expected}
assert prepare_mmaction() == []
import mmcv, mmaction.models
assert mmcv.__version__ == {mmcv!r}
from mmaction.models import DRN
if {with_drn}:
    assert DRN == 'the real one'
else:
    try:
        DRN()
    except NotImplementedError as error:
        assert 'mmaction2 1.2.0' in str(error)
    else:
        raise AssertionError('the stand-in was built')
""",
        tmp_path,
    )
    assert result.returncode == 0, result.stderr


def test_does_nothing_for_another_version(tmp_path):
    write_fakes(tmp_path, '1.3.0', '2.3.6', with_drn=False)
    code = """
from resformer_mm.compat import prepare_mmaction
assert prepare_mmaction() == []
import mmaction
"""
    result = run(code, tmp_path)
    assert 'AssertionError: refused' in result.stderr


def test_does_nothing_if_not_installed():
    result = run("""
import sys
from resformer_mm.compat import mmaction2
mmaction2.find_spec = lambda name: None
assert mmaction2.prepare_mmaction() == []
assert 'mmcv' not in sys.modules and 'mmaction' not in sys.modules
""")
    assert result.returncode == 0, result.stderr


def test_a_failing_import_restores_the_version_of_mmcv(tmp_path):
    write_fakes(tmp_path, '1.2.0', '2.3.6', with_drn=True)
    (tmp_path / 'mmaction' / '__init__.py').write_text("raise OSError('broken')")
    result = run(
        """
import mmcv
from resformer_mm.compat import prepare_mmaction
try:
    prepare_mmaction()
except OSError:
    assert mmcv.__version__ == '2.3.6'
else:
    raise AssertionError
""",
        tmp_path,
    )
    assert result.returncode == 0, result.stderr
