"""Configs that name decord, on a machine without it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from resformer_mm.config_types import type_name
from resformer_mm.repairs import remark

SUBSTITUTES = {'DecordInit': 'resformer_mm.ClipInit', 'DecordDecode': 'resformer_mm.ClipDecode'}


def replace_decord(config: Any) -> None:
    """Let this package open the videos of a config if decord, which its pipelines name, is not installed.

    The transforms are replaced in place, in all pipelines. That is told once.
    """
    if find_spec('decord') is None and _replace(config):
        remark(
            'DecordInit and DecordDecode',
            'decord is not installed, so resformer_mm.ClipInit and ClipDecode take their place and use '
            + ('PyAV' if find_spec('av') else 'OpenCV; PyAV is faster (pip install av)'),
        )


def _replace(config: Any) -> bool:
    if isinstance(config, dict):
        kind = dict.get(config, 'type')  # the items of a ConfigDict would be imported
        name = None if kind is None else type_name(kind)
        if name in SUBSTITUTES:
            threads = config.get('num_threads') if name == 'DecordInit' else None
            config.clear()
            config.update(type=SUBSTITUTES[name], **({'num_threads': threads} if threads else {}))
            return True
        config = list(dict.values(config))
    return any([_replace(entry) for entry in config]) if isinstance(config, (list, tuple)) else False
