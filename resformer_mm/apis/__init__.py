"""From configs and checkpoints to runners, models and predictions."""

from __future__ import annotations

import importlib

from resformer_mm.configuration import enter_scope, read_config

from .launch import build_runner
from .models import check_whole, load_model, load_whole
from .run_config import make_test_config, make_train_config

# Imported when they are asked for: they need mmcv, which loading a model does not.
_INFERENCERS = (
    'CascadeInferencer',
    'ClassificationInferencer',
    'DetectionInferencer',
    'InputError',
    'ResolutionInferencer',
    'SegmentationInferencer',
    'VideoInferencer',
    'make_inferencer',
)

__all__ = [
    *_INFERENCERS,
    'build_runner',
    'check_whole',
    'enter_scope',
    'load_model',
    'load_whole',
    'make_test_config',
    'make_train_config',
    'read_config',
]


def __getattr__(name: str) -> object:
    if name in _INFERENCERS:
        return getattr(importlib.import_module('.inferencers', __name__), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
