"""The label of ignored pixels in a config: one setting of the data set serves losses, metrics and padding.

``resformer_mm.LoadSegMap`` gives ignored pixels the label 255, whatever value they have in the files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from resformer_mm.config_types import type_name
from resformer_mm.datasets.checks.configured import LOADERS, innermost_configs
from resformer_mm.repairs import remark

from .label_maps import MARK

EVALUATORS = ('val_evaluator', 'test_evaluator')


def settle_ignored_label(cfg: Config) -> None:
    """Make heads, metrics and padding ignore the label 255, where they name the value of the data set.

    Nothing changes in configs whose pipelines do not load masks with ``resformer_mm.LoadSegMap``.

    Args:
        cfg: the config of a segmentor; it is changed.

    Raises:
        ValueError: a head, a metric or the data preprocessor ignores, or pads with, another label.
    """
    values = {}
    for loader in LOADERS:
        for dataset in innermost_configs((cfg.get(loader) or {}).get('dataset')):
            loading = [step for step in _dicts(dataset.get('pipeline')) if _is_loading(step)]
            for step in loading:
                given = step.get('ignore_index')
                given = dataset.get('ignore_index', MARK) if given is None else given
                for value in given if isinstance(given, (list, tuple)) else [given]:
                    values[value] = f'{loader}.dataset'
                    _settle_pipeline((cfg.get(loader) or {}).get('dataset'), value)
    if not values:
        return
    changed = {}
    for settings, key, path in _settings(cfg):
        value = settings.get(key)
        if value is None or value == MARK or isinstance(value, bool):
            continue
        if value not in values:
            names = ', '.join(f'{known} ({name}.ignore_index)' for known, name in values.items())
            raise ValueError(
                f'{path}.{key} is {value!r}, but ignored pixels have the value {names} in the files, and '
                f'the label {MARK} after resformer_mm.LoadSegMap: remove {path}.{key}, and set '
                'ignore_index of the data sets to the value in the files'
            )
        settings[key] = MARK
        changed[f'{path}.{key}'] = value
    for value, name in values.items():
        if value != MARK:
            what = (
                f'pixels of the value {value} get the label {MARK}, which losses, metrics and padding ignore'
            )
            remark(f'{name}.ignore_index', what)
    for path, value in changed.items():
        remark(
            path, f'{value} is replaced by {MARK}, the label of ignored pixels after resformer_mm.LoadSegMap'
        )


def _is_loading(step: dict) -> bool:
    kind = dict.get(step, 'type')  # the `get` of a ConfigDict would import it
    return kind is not None and type_name(kind) == 'LoadSegMap'


def _settle_pipeline(config: Any, value: int) -> None:
    """Let transforms that pad with the value of the files pad with 255."""
    for step in _dicts(config):
        if _is_loading(step) or not _is_transform(step):
            continue
        for key in ('ignore_index', 'seg_pad_val'):
            if step.get(key) == value:
                step[key] = MARK
        padding = step.get('pad_val')
        if isinstance(padding, dict) and padding.get('seg') == value:
            padding['seg'] = MARK


def _is_transform(step: dict) -> bool:
    is_data = {'data_root', 'ann_file', 'pipeline', 'dataset'} & set(step)
    return dict.get(step, 'type') is not None and not is_data


def _settings(cfg: Config) -> Iterator[tuple[dict, str, str]]:
    """Yield the configs that name the ignored label, with the key and the path."""
    model = cfg.get('model') or {}
    for settings, path in (
        (model.get('data_preprocessor'), 'model.data_preprocessor'),
        (cfg.get('data_preprocessor'), 'data_preprocessor'),
    ):
        if isinstance(settings, dict):
            yield settings, 'seg_pad_val', path
    for name, heads in model.items():
        if name.split('_')[-1] == 'head':
            several = isinstance(heads, (list, tuple))
            for index, head in enumerate(heads if several else [heads]):
                if isinstance(head, dict):
                    yield head, 'ignore_index', f'model.{name}.{index}' if several else f'model.{name}'
    for name in EVALUATORS:
        metrics = cfg.get(name) or []
        metrics = metrics if isinstance(metrics, (list, tuple)) else [metrics]
        for metric in metrics:
            if isinstance(metric, dict):
                yield metric, 'ignore_index', name


def _dicts(config: Any) -> Iterator[dict]:
    """Yield all dicts inside a config, and the config."""
    if isinstance(config, dict):
        yield config
        config = list(dict.values(config))
    if isinstance(config, (list, tuple)):
        for value in config:
            yield from _dicts(value)
