"""Optimisers of DeepSpeed, of the versions that have fewer."""

from __future__ import annotations

import sys
from types import ModuleType

import mmengine._strategy.deepspeed as strategies
import pytest
from mmengine.registry import OPTIMIZERS

from resformer_mm.compat import deepspeed_optimizers


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """Stand-ins for the modules of DeepSpeed."""
    monkeypatch.setattr(strategies, 'register_deepspeed_optimizers', original := lambda: ['all'])
    names = ('deepspeed.ops.adam', 'deepspeed.ops.lamb')
    found = {name: ModuleType(name) for name in names}
    for name, kinds in deepspeed_optimizers._OPTIMIZERS.items():
        for kind in kinds:
            setattr(found[name], kind, type(kind, (), {}))
        monkeypatch.setitem(sys.modules, name, found[name])
    return {'original': original, **found}


def test_those_that_exist_are_registered(packages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        deepspeed_optimizers, 'find_spec', lambda name: None if name.endswith('onebit') else object()
    )
    monkeypatch.setattr(OPTIMIZERS, '_module_dict', dict(OPTIMIZERS.module_dict))
    deepspeed_optimizers.register_existing_optimizers()
    assert strategies.register_deepspeed_optimizers() == ['DeepSpeedCPUAdam', 'FusedAdam', 'FusedLamb']
    assert OPTIMIZERS.get('FusedAdam') is packages['deepspeed.ops.adam'].FusedAdam


@pytest.mark.parametrize('found', [None, object()])
def test_nothing_changes_with_all_or_without_deepspeed(packages, monkeypatch, found: object) -> None:
    monkeypatch.setattr(deepspeed_optimizers, 'find_spec', lambda name: found)
    deepspeed_optimizers.register_existing_optimizers()
    assert strategies.register_deepspeed_optimizers is packages['original']
