"""Look-up of the configs of this package by MMEngine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.hub import get_config

from resformer_mm.compat.config_lookup import register_configs

CONFIGS = Path(__file__).parents[2] / 'configs'
NAME = 'segmentation/resformer-small_224_upernet_8xb2-80k_ade20k-512x512.py'


def test_mmengine_does_not_know_the_package_by_itself() -> None:
    """Where this fails, MMEngine has learned it and the workaround can go."""
    code = "from mmengine.hub import get_config; get_config('resformer_mm::a/b.py')"
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    assert 'does not support to load resformer_mm' in result.stderr


@pytest.mark.parametrize('name', [NAME, 'segmentation/_base_/models/upernet_resformer-small.py'])
def test_get_config_reads_listed_and_other_configs(name: str) -> None:
    found = get_config(f'resformer_mm::{name}')
    assert Path(found.filename).resolve() == CONFIGS / name
    assert found.to_dict() == Config.fromfile(CONFIGS / name).to_dict()


@pytest.mark.parametrize('name', [NAME, '_base_/no_decay.py'])
def test_a_base_config_is_read_like_one_given_by_its_path(name: str, tmp_path: Path) -> None:
    configs = {}
    for kind, base in (('path', CONFIGS / name), ('package', f'resformer_mm::{name}')):
        (tmp_path / f'{kind}.py').write_text(f"_base_ = '{base}'\nextra = 1\n")
        configs[kind] = Config.fromfile(tmp_path / f'{kind}.py').to_dict()
    assert configs['package'] == configs['path'] and configs['path']['extra'] == 1


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    (tmp_path / 'user.py').write_text("_base_ = 'resformer_mm::segmentation/no_such_config.py'")
    with pytest.raises(FileNotFoundError, match='no_such_config'):
        Config.fromfile(tmp_path / 'user.py')


def test_the_scope_of_other_packages_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('mmengine.config.config.is_installed', lambda package: True)
    monkeypatch.setattr('mmengine.config.config.get_installed_path', lambda package: str(CONFIGS.parent))
    monkeypatch.setattr('mmengine.config.config._get_external_cfg_path', lambda package, name: name)
    assert Config._get_cfg_path('mmdet::a/b.py', 'user.py') == ('a/b.py', 'mmdet')
    assert Config._get_cfg_path('resformer_mm::a/b.py', 'user.py') == ('a/b.py', None)


def test_repeated_calls_do_nothing() -> None:
    before = Config._get_cfg_path
    assert not register_configs()
    assert Config._get_cfg_path is before
