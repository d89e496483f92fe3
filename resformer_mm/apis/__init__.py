"""Runners, models and inferencers of configs and checkpoints."""

from __future__ import annotations

import importlib

from resformer_mm.checkpoints.models import check_strict, load_model, load_strict
from resformer_mm.config.files import enter_scope, read_config

from .launch import build_runner, build_test_runner, build_train_runner
from .runs import Drawing, make_test_config, make_train_config

# Imported on first use: they need mmcv, which loading a model does not.
_LAZY = {
    'CascadeInferencer': 'resformer_mm.apis.cascade_inferencer',
    'ClassificationInferencer': 'resformer_mm.tasks.classification.inferencer',
    'DataError': 'resformer_mm.apis.testing',
    'DetectionInferencer': 'resformer_mm.tasks.detection.inferencer',
    'InputError': 'resformer_mm.inference.sources',
    'ResolutionInferencer': 'resformer_mm.inference.base',
    'SegmentationInferencer': 'resformer_mm.tasks.segmentation.inferencer',
    'VideoInferencer': 'resformer_mm.tasks.video.inferencer',
    'build_test_loop': 'resformer_mm.apis.testing',
    'check_config': 'resformer_mm.apis.preflight',
    'exit_if_unsound': 'resformer_mm.apis.preflight',
    'make_inferencer': 'resformer_mm.apis.inferencer',
}

__all__ = [
    *_LAZY,
    'Drawing',
    'build_runner',
    'build_test_runner',
    'build_train_runner',
    'check_strict',
    'enter_scope',
    'load_model',
    'load_strict',
    'make_test_config',
    'make_train_config',
    'read_config',
]


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
