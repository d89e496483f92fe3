"""Wrappers by class, in every version of MMEngine."""

from __future__ import annotations

import pytest
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODEL_WRAPPERS

from resformer_mm.compat.wrapper_type import name_wrapper_type


def refuses_classes() -> bool:
    try:
        MODEL_WRAPPERS.get(MMDistributedDataParallel)
    except TypeError:
        return True
    return False


def test_a_class_becomes_a_name_that_is_found_where_classes_are_refused() -> None:
    cfg = Config(dict(model_wrapper_cfg=dict(type=MMDistributedDataParallel, broadcast_buffers=False)))
    name_wrapper_type(cfg)
    kind = cfg.model_wrapper_cfg.type
    assert isinstance(kind, str) == refuses_classes()
    assert MODEL_WRAPPERS.get(kind) is MMDistributedDataParallel
    assert cfg.model_wrapper_cfg.broadcast_buffers is False


def test_a_registry_that_refuses_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    original = type(MODEL_WRAPPERS).get

    def get(self, key):
        if not isinstance(key, str):
            raise TypeError('The key argument of `Registry.get` must be a str')
        return original(self, key)

    monkeypatch.setattr(type(MODEL_WRAPPERS), 'get', get)
    cfg = Config(dict(model_wrapper_cfg=dict(type=MMDistributedDataParallel)))
    name_wrapper_type(cfg)
    assert cfg.model_wrapper_cfg.type == f'{MMDistributedDataParallel.__module__}.MMDistributedDataParallel'
    assert MODEL_WRAPPERS.get(cfg.model_wrapper_cfg.type) is MMDistributedDataParallel


@pytest.mark.parametrize('content', [{}, {'model_wrapper_cfg': None}, {'model_wrapper_cfg': {'type': 'A'}}])
def test_other_configs_stay(content: dict) -> None:
    cfg = Config(content)
    name_wrapper_type(cfg)
    assert cfg.to_dict() == content
