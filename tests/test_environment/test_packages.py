"""Distributions in the report, from fake metadata in a folder that comes first on the path."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from resformer_mm.environment import packages
from resformer_mm.version import __version__

ROOT = Path(__file__).parents[2]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A function that makes the given distributions the only ones that are installed."""

    def only(**versions: str) -> Path:
        for name, number in versions.items():
            folder = tmp_path / f'{name}-{number}.dist-info'
            folder.mkdir()
            (folder / 'METADATA').write_text(f'Name: {name.replace("_", "-")}\nVersion: {number}\n')
        return tmp_path

    def find(name: str) -> metadata.Distribution:
        for dist in metadata.distributions(name=name, path=[str(tmp_path)]):
            return dist
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packages, 'distribution', find)
    monkeypatch.setattr(packages, 'version', lambda name: find(name).version)
    return only


UPSTREAM = dict(mmengine='0.10.7', mmcv_lite='2.1.0', mmpretrain='1.2.0')
FORKS = dict(onedl_mmengine='0.10.12', onedl_mmcv='2.3.6', onedl_mmdetection='3.5.1')


@pytest.mark.parametrize(
    ('versions', 'stack'),
    [
        ({}, 'none'),
        (dict(UPSTREAM, mmaction2='1.2.0'), 'openmmlab (upstream)'),
        (dict(FORKS, mmaction2='1.2.0'), 'onedl (forks)'),  # mmaction2 has no fork
        (dict(onedl_mmengine='0.10.12', mmcv='2.1.0'), 'mixed: mmcv from upstream, mmengine from the forks'),
    ],
)
def test_the_stack_follows_from_the_distributions(install, versions: dict[str, str], stack: str) -> None:
    install(**versions)
    assert packages.libraries()['stack'] == stack


def test_every_library_is_named_with_distribution_and_version(install, monkeypatch) -> None:
    install(**FORKS)
    monkeypatch.setattr(packages, '_is_importable', lambda name: name == 'mmaction')
    facts = packages.libraries()
    assert facts['mmdet'] == 'onedl-mmdetection 3.5.1'
    assert facts['mmseg'] == 'not installed'
    assert facts['mmaction'] == 'importable, but not an installed distribution'


def test_two_distributions_of_the_same_files_are_a_conflict(install) -> None:
    install(**FORKS, mmcv='2.1.0', opencv_python='4.12.0', opencv_contrib_python='5.0')
    mmcv, opencv = packages.conflicts()
    assert 'mmcv and onedl-mmcv' in mmcv
    assert 'opencv-python and opencv-contrib-python' in opencv
    assert packages.others()['opencv'] == 'opencv-python 4.12.0 and opencv-contrib-python 5.0'


@pytest.mark.parametrize('is_there', [True, False])
def test_upstream_mmengine_without_pkg_resources_is_named(install, monkeypatch, is_there: bool) -> None:
    install(**UPSTREAM)
    monkeypatch.setattr(packages, '_is_importable', lambda name: is_there)
    assert any('pkg_resources' in item for item in packages.conflicts()) is not is_there


def test_forks_need_no_pkg_resources(install, monkeypatch) -> None:
    install(**FORKS)
    monkeypatch.setattr(packages, '_is_importable', lambda name: False)
    assert packages.conflicts() == []


def direct_url(url: str) -> str:
    return f'{{"url": "{url}", "dir_info": {{"editable": true}}}}'


@pytest.mark.parametrize(
    ('url', 'number', 'expected'),
    [
        (ROOT.as_uri(), __version__, 'in development mode (editable)'),
        (ROOT.as_uri(), '0.0.1', 'as version 0.0.1: install it again'),
        ('file:///elsewhere', __version__, 'imported from another folder'),
        (None, __version__, 'imported from another folder'),
    ],
)
def test_how_this_package_is_installed(install, url: str | None, number: str, expected: str) -> None:
    site = install(resformer_mm=number)
    if url is not None:
        (site / f'resformer_mm-{number}.dist-info' / 'direct_url.json').write_text(direct_url(url))
    assert expected in packages.this_package()['installed']


def test_a_package_on_the_path_alone_is_not_installed(install) -> None:
    install()
    assert packages.this_package()['installed'].startswith('no,')


@pytest.mark.skipif(not (ROOT / '.git').exists(), reason='needs a clone')
def test_the_commit_of_a_clone() -> None:
    command = ['git', '-C', str(ROOT), 'rev-parse', 'HEAD']
    head = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert head.startswith(packages.this_package()['commit'].split(',')[0])


def test_versions_are_those_of_this_environment() -> None:
    assert packages.others()['numpy'] == sys.modules['numpy'].__version__
