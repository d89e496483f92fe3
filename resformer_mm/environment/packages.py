"""Installed distributions: this package, the stack of OpenMMLab libraries, and what does not go together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path

from resformer_mm.environment.facts import Facts, first_line
from resformer_mm.version import __version__

__all__ = ['conflicts', 'libraries', 'others', 'this_package']

ROOT = Path(__file__).resolve().parents[2]

# Import name -> distributions that provide it: upstream, fork.
LIBRARIES = {
    'mmengine': (('mmengine', 'mmengine-lite'), ('onedl-mmengine',)),
    'mmcv': (('mmcv', 'mmcv-lite', 'mmcv-full'), ('onedl-mmcv', 'onedl-mmcv-lite')),
    'mmpretrain': (('mmpretrain',), ('onedl-mmpretrain',)),
    'mmseg': (('mmsegmentation',), ('onedl-mmsegmentation',)),
    'mmdet': (('mmdet',), ('onedl-mmdetection',)),
    'mmaction': (('mmaction2',), ('onedl-mmaction2',)),
}
OPENCV = (
    'opencv-python',
    'opencv-python-headless',
    'opencv-contrib-python',
    'opencv-contrib-python-headless',
)
OTHERS = (
    'numpy',
    'pillow',
    'decord',
    'av',
    'onnx',
    'onnxruntime',
    'onnxruntime-gpu',
    'onnxscript',
    'matplotlib',
    'plotly',
    'nicegui',
    'timm',
    'setuptools',
    'pip',
    'openmim',
    'onedl-mim',
)


def installed(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those of the distributions that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def this_package() -> Facts:
    """Describe the version of this package, how it is installed, and the commit of a clone."""
    facts: Facts = {
        'version': __version__,
        'location': str(ROOT / 'resformer_mm'),
        'installed': _installation(),
    }
    if (ROOT / '.git').exists():
        commit = first_line(['git', '-C', str(ROOT), 'rev-parse', '--short=12', 'HEAD'])
        changed = first_line(['git', '-C', str(ROOT), 'status', '--porcelain', '--untracked-files=no'])
        if commit is not None:
            facts['commit'] = f'{commit}, with changes' if changed else commit
    return facts


def _installation() -> str:
    try:
        dist = distribution('resformer-mm')
    except PackageNotFoundError:
        return 'no, imported from a folder of the Python path'
    origin = json.loads(dist.read_text('direct_url.json') or '{}')
    if origin.get('dir_info', {}).get('editable', False):
        same, kind = origin['url'] == ROOT.as_uri(), 'in development mode (editable)'
    else:
        same, kind = Path(str(dist.locate_file(''))).resolve() == ROOT, 'from a wheel or source distribution'
    if not same:
        return f'version {dist.version} {kind}, but imported from another folder'
    return kind if dist.version == __version__ else f'{kind}, as version {dist.version}: install it again'


def libraries() -> Facts:
    """Describe which of the OpenMMLab libraries are installed, and whether they are upstream or the forks."""
    facts: Facts = {}
    origins: dict[str, list[str]] = {'upstream': [], 'forks': []}
    for name, rows in LIBRARIES.items():
        found = []
        for origin, distributions in zip(origins, rows):
            for dist, number in installed(distributions).items():
                found.append(f'{dist} {number}')
                origins[origin].append(name)
        if not found and _is_importable(name):
            found.append('importable, but not an installed distribution')
        facts[name] = ' and '.join(found) or 'not installed'
    return {'stack': _stack(origins), **facts}


def _stack(origins: Mapping[str, list[str]]) -> str:
    # mmaction2 has no fork, so it belongs to both stacks.
    upstream = [name for name in origins['upstream'] if name != 'mmaction']
    forks = origins['forks']
    if upstream and forks:
        return f'mixed: {", ".join(upstream)} from upstream, {", ".join(forks)} from the forks'
    if forks:
        return 'onedl (forks)'
    return 'openmmlab (upstream)' if origins['upstream'] else 'none'


def others() -> Facts:
    """Describe other packages that matter; those that are not installed are left out."""
    opencv = installed(OPENCV)
    facts: Facts = {
        'opencv': ' and '.join(f'{name} {number}' for name, number in opencv.items()) or 'not installed'
    }
    facts.update(installed(OTHERS))
    return facts


def conflicts() -> list[str]:
    """Return what is installed that does not go together, one sentence each."""
    found = []
    for name, rows in {**LIBRARIES, 'cv2': (OPENCV,)}.items():
        rivals = installed(dist for row in rows for dist in row)
        if len(rivals) > 1:
            found.append(
                f'{" and ".join(rivals)} install the same files ({name}): uninstall all of them, then '
                'install one of them again'
            )
    upstream = installed(LIBRARIES['mmengine'][0])
    if upstream and not _is_importable('pkg_resources'):
        (number,) = set(upstream.values())
        found.append(
            f"MMEngine {number} finds configs of packages (get_config, `_base_ = 'resformer_mm::...'`) with "
            "pkg_resources, which setuptools no longer has: pip install 'setuptools<82'"
        )
    return found


def _is_importable(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # a stand-in in sys.modules
        return False
