"""Workaround for torchvision. It acts before the import, so every case runs in a separate interpreter."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.skipif(find_spec('torchvision') is None, reason='needs torchvision')

DECLARED = """
import torch
def declared():
    return hasattr(torch.ops.torchvision, 'nms')
"""


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)


@pytest.fixture(scope='module')
def plain_import_fails() -> bool:
    return run('import torchvision').returncode != 0


def test_torchvision_imports(plain_import_fails):
    result = run(f"""
from resformer_mm.compat import declare_missing_ops
assert declare_missing_ops() is {plain_import_fails}
assert declare_missing_ops() is {plain_import_fails}
import sys
assert 'torchvision' not in sys.modules, 'the workaround itself must not import torchvision'
import torch, torchvision
from torchvision import models, transforms
image = transforms.functional.to_pil_image(torch.rand(3, 20, 30))
assert transforms.Resize((8, 12))(image).size == (12, 8)
""")
    assert result.returncode == 0, result.stderr


def test_operators_stay_unavailable_with_the_explanation_of_torchvision(plain_import_fails):
    if not plain_import_fails:
        pytest.skip('the operators of torchvision load here')
    result = run("""
from resformer_mm.compat import declare_missing_ops
declare_missing_ops()
import torch, torchvision
torchvision.ops.nms(torch.rand(2, 4), torch.rand(2), 0.5)
""")
    assert result.returncode == 1
    assert "Couldn't load custom C++ ops" in result.stderr


def test_does_nothing_on_a_cuda_build_of_torch():
    result = run(f"""{DECLARED}
torch.version.cuda = '12.8'
from resformer_mm.compat import declare_missing_ops
assert not declare_missing_ops() and not declared()
""")
    assert result.returncode == 0, result.stderr


def test_does_nothing_if_torchvision_is_imported_already():
    result = run(f"""{DECLARED}
import sys, types
sys.modules['torchvision'] = types.ModuleType('torchvision')
from resformer_mm.compat import declare_missing_ops
assert not declare_missing_ops() and not declared()
""")
    assert result.returncode == 0, result.stderr


def test_does_nothing_if_the_operators_load(tmp_path):
    package = tmp_path / 'torchvision'
    package.mkdir()
    (package / '__init__.py').touch()
    (package / '_C.so').touch()
    result = run(f"""{DECLARED}
import sys
sys.path.insert(0, {str(tmp_path)!r})
torch.version.cuda = None
loaded = []
torch.ops.load_library = loaded.append
from resformer_mm.compat import declare_missing_ops
assert not declare_missing_ops() and not declared()
assert {{str(file) for file in loaded}} == {{{str(package / '_C.so')!r}}}
""")
    assert result.returncode == 0, result.stderr
