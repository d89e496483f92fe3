"""The one-line swap in a foreign config, and what the package imports; each case in a fresh interpreter."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import resformer_mm  # noqa: F401  (makes torchvision importable where its operators do not load)
from resformer_mm import registry
from resformer_mm.registry import AdapterRegistry

LIBRARIES = ('mmpretrain', 'mmseg', 'mmdet', 'mmaction')
UPSTREAM = ('mmcv', *LIBRARIES)
BACKBONE = (
    "backbone=dict(type='resformer_mm.ResFormer', out_type={out_type!r}, out_indices={out_indices}, "
    'arch=dict(embed_dims=24, num_layers=4, num_heads=2, feedforward_channels=48))'
)
REGISTRIES = [
    value for name in registry.__all__ if isinstance(value := getattr(registry, name), AdapterRegistry)
]
# Libraries that may need an mmcv with operators are marked as such.
MARKED_LIBRARIES = [
    pytest.param(name, marks=pytest.mark.operators(name)) if name in ('mmseg', 'mmdet') else name
    for name in LIBRARIES
]
ADAPTERS = [
    pytest.param(table, name, marks=pytest.mark.operators(library) if library in ('mmseg', 'mmdet') else ())
    for table in REGISTRIES
    for name, (_, library) in table.adapters.items()
]


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=300)


def check(code: str) -> None:
    result = run(code)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope='module')
def preamble() -> str:
    """What must come before the libraries on machines where torchvision does not import by itself."""
    return '' if run('import torchvision').returncode == 0 else 'import resformer_mm.compat\n'


def library_imports(library: str, preamble: str) -> str:
    """Import a library as its users do; nothing of this package is registered by it."""
    if library == 'mmaction':
        preamble = 'from resformer_mm.compat import prepare_mmaction\nprepare_mmaction()\n'
    return (
        f'{preamble}import sys, torch\nimport {library}.models\nfrom {library}.registry import MODELS\n'
        "assert 'resformer_mm.registry' not in sys.modules and 'resformer_mm.models' not in sys.modules\n"
    )


# library -> backbone options, a model of that library with the backbone swapped by one line, what it gives
FOREIGN_MODELS = {
    'mmpretrain': (
        dict(out_type='cls_token', out_indices=-1),
        """dict(type='ImageClassifier', {backbone},
             head=dict(type='LinearClsHead', num_classes=5, in_channels=24))""",
        (1, 5),
    ),
    'mmseg': (
        dict(out_type='featmap', out_indices=(0, 1, 2, 3)),
        """dict(type='EncoderDecoder', {backbone},
             decode_head=dict(type='UPerHead', in_channels=[24] * 4, in_index=[0, 1, 2, 3], channels=8,
                              pool_scales=(1, 2), num_classes=5, norm_cfg=dict(type='BN'),
                              align_corners=False),
             train_cfg=dict(), test_cfg=dict(mode='whole'))""",
        (1, 5, 2, 3),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize('library', MARKED_LIBRARIES)
def test_the_backbone_builds_in_foreign_configs(library: str, preamble: str) -> None:
    feature_maps = BACKBONE.format(out_type='featmap', out_indices=(1, 3))
    code = f"""{library_imports(library, preamble)}
from mmengine.registry import init_default_scope
for scope in (None, {library!r}):
    if scope:
        init_default_scope(scope)
    backbone = MODELS.build(dict({feature_maps})['backbone'])
    assert type(backbone).__module__ == 'resformer_mm.models.backbones.resformer'
    shapes = [tuple(out.shape) for out in backbone(torch.zeros(1, 3, 32, 48))]
    assert shapes == [(1, 24, 2, 3)] * 2, shapes
"""
    if library in FOREIGN_MODELS:
        options, model, shape = FOREIGN_MODELS[library]
        code += f"""
model = MODELS.build({model.format(backbone=BACKBONE.format(**options))}).eval()
assert type(model.backbone) is type(backbone)
assert model(torch.zeros(1, 3, 32, 48), mode='tensor').shape == {shape}
"""
    check(code)


def blocked(*libraries: str) -> str:
    """Code after which the libraries seem not to be installed."""
    return f"""
import sys
from importlib.abc import MetaPathFinder
class Blocker(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split('.')[0] in {libraries}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Blocker())
"""


def test_the_core_needs_none_of_the_libraries() -> None:
    code = f"""
import torch
from mmengine.registry import MODELS
cfg = dict({BACKBONE.format(out_type='cls_token', out_indices=-1)})
backbone = MODELS.build(cfg['backbone'])
backbone(torch.zeros(1, 3, 32, 32))
import resformer_mm.checkpoints, resformer_mm.engine, resformer_mm.synthetic
from resformer_mm.registry import DATA_SAMPLERS, FUNCTIONS, LOOPS, OPTIM_WRAPPERS
assert DATA_SAMPLERS.get('ResolutionBatchSampler') and FUNCTIONS.get('multi_resolution_collate')
assert LOOPS.get('MultiResolutionTestLoop') and OPTIM_WRAPPERS.get('resformer_mm.AutocastOptimWrapper')
loaded = [name for name in {UPSTREAM} if name in sys.modules]
assert not loaded, loaded
"""
    check(blocked(*UPSTREAM) + code)
    check('import sys\n' + code)  # nor are they imported where they are installed


def test_a_missing_library_is_named_with_the_extra() -> None:
    code = blocked(*UPSTREAM)
    code += """
from mmengine import registry as parents
import resformer_mm.registry as registry
for name in registry.__all__:
    table = getattr(registry, name)
    for adapter, (_, library) in table.adapters.items():
        for key in (adapter, f'resformer_mm.{adapter}'):
            try:
                table.build(dict(type=key))
            except ImportError as error:
                assert f'resformer_mm.{adapter}' in str(error), error
                assert repr(library) in str(error), error
                assert 'resformer-mm[onedl]' in str(error) and 'resformer-mm[openmmlab]' in str(error)
            else:
                raise AssertionError(f'{key} was built without {library}')
try:
    parents.MODELS.build(dict(type='resformer_mm.MultiResolutionClassifier'))
except ImportError as error:
    assert "'mmpretrain'" in str(error)
else:
    raise AssertionError
"""
    check(code)


def test_a_library_that_refuses_to_import_is_reported_too(tmp_path) -> None:
    (tmp_path / 'mmpretrain.py').write_text("assert False, 'mmcv==0.0.1 is incompatible'")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from resformer_mm.registry import MODELS
try:
    MODELS.get('MultiResolutionClassifier')
except ImportError as error:
    assert 'AssertionError: mmcv==0.0.1 is incompatible' in str(error), error
else:
    raise AssertionError
"""
    check(code)


@pytest.mark.parametrize(('table', 'name'), ADAPTERS, ids=lambda value: getattr(value, 'name', value))
def test_every_adapter_is_registered_by_its_own_module(table: AdapterRegistry, name: str) -> None:
    module, library = table.adapters[name]
    cls = table.get(name)
    assert cls.__name__ == name
    assert table.get(f'resformer_mm.{name}') is cls
    assert table.parent.get(f'resformer_mm.{name}') is cls
    assert cls.__module__ == module or cls.__module__.startswith(f'{module}.')
    assert getattr(importlib.import_module(module), name) is cls
    assert library in UPSTREAM


def test_unknown_names_stay_unknown() -> None:
    for table in REGISTRIES:
        assert table.get('NoSuchClass') is None
        assert table.get('resformer_mm.NoSuchClass') is None
