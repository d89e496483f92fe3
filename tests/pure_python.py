"""Pure-Python configs made from string configs: every type a class that is imported, no default scope."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine import registry
from mmengine.config import Config

REGISTRIES = (
    registry.MODELS,
    registry.DATASETS,
    registry.TRANSFORMS,
    registry.HOOKS,
    registry.LOOPS,
    registry.METRICS,
    registry.DATA_SAMPLERS,
    registry.OPTIM_WRAPPERS,
    registry.OPTIMIZERS,
    registry.PARAM_SCHEDULERS,
    registry.TASK_UTILS,
    registry.VISUALIZERS,
    registry.VISBACKENDS,
    registry.LOG_PROCESSORS,
    registry.WEIGHT_INITIALIZERS,
)
# Variables of our own base configs that no tool reads.
FIELDS = (
    'model data_preprocessor train_dataloader val_dataloader test_dataloader val_evaluator test_evaluator '
    'train_cfg val_cfg test_cfg optim_wrapper param_scheduler auto_scale_lr default_hooks custom_hooks '
    'visualizer randomness log_processor env_cfg tta_model tta_pipeline'
).split()


def find(name: str, scope: str) -> Callable:
    """Return the class or function of a name, wherever it is registered."""
    # MMEngine looks up functions in its own registry; that of mmaction cannot be read.
    if (function := registry.FUNCTIONS.get(name)) is not None:
        return function
    for one in REGISTRIES:
        with one.switch_scope_and_registry(scope) as scoped:
            if (kind := scoped.get(name)) is not None:
                return kind
    return getattr(importlib.import_module('mmcv.ops'), name)  # mmdet looks up its RoI layers there


def write_pure_python(cfg: Config, path: Path) -> Path:
    """Write a config with the same settings: a base with all but the model, and a child with the model."""
    imports: set[str] = set()

    def text(value: Any) -> str:
        if isinstance(value, dict):
            items = []
            for key, item in value.items():
                if key == 'type':
                    kind = find(item, cfg.default_scope)
                    imports.add(f'from {kind.__module__} import {kind.__name__}')
                    items.append(f"'type': {kind.__name__}")
                else:
                    items.append(f'{key!r}: {text(item)}')
            return f'{{{", ".join(items)}}}'
        if isinstance(value, list):
            return f'[{", ".join(map(text, value))}]'
        if isinstance(value, tuple):
            return f'({"".join(text(item) + ", " for item in value)})'
        return repr(value)

    settings = {key: text(cfg[key]) for key in FIELDS if cfg.get(key) is not None}
    base = [f'{key} = {value}' for key, value in settings.items() if key != 'model']
    path.with_name(f'{path.stem}_base.py').write_text('\n'.join([*sorted(imports), *base]))
    head = f'from mmengine.config import read_base\nwith read_base():\n    from .{path.stem}_base import *\n'
    path.write_text('\n'.join([head, *sorted(imports), f'model = {settings["model"]}']))
    return path
