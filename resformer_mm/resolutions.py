"""Lists of resolutions, and pipelines whose transforms carry one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

PLACEHOLDER = '{resolution}'


def check_resolutions(resolutions: Sequence[int], field: str, descending: bool = True) -> list[int]:
    """Return the resolutions as a list of integers, in pixels.

    Args:
        resolutions: what the user gave.
        field: name of the config field, for messages.
        descending: whether they must be listed high to low, as training does.

    Raises:
        ValueError: the list is empty, or an entry is not a positive integer, repeats or is out of order.
    """
    if isinstance(resolutions, (int, str)):
        raise ValueError(f'{field} must be a list such as (224, 160, 128), got {resolutions!r}')
    resolutions = list(resolutions)
    if not resolutions:
        raise ValueError(f'{field} is empty: give at least one resolution in pixels')
    for resolution in resolutions:
        if isinstance(resolution, bool) or not isinstance(resolution, int) or resolution <= 0:
            raise ValueError(f'{field} contains {resolution!r}: resolutions are positive integers')
    if len(set(resolutions)) != len(resolutions):
        raise ValueError(f'{field} = {resolutions} names a resolution twice')
    if descending and resolutions != sorted(resolutions, reverse=True):
        ordered = tuple(sorted(resolutions, reverse=True))
        raise ValueError(f'{field} = {resolutions} must be listed high to low: {ordered}')
    return resolutions


def fill_resolution(config: Any, resolution: int) -> Any:
    """Return a copy of a config in which every value ``'{resolution}'`` is the resolution."""
    if isinstance(config, dict):
        return {key: fill_resolution(value, resolution) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [fill_resolution(value, resolution) for value in config]
    return resolution if config == PLACEHOLDER else copy.deepcopy(config)


def pipeline_at_resolution(pipeline: Sequence[dict], resolution: int) -> list[dict]:
    """Return a copy of an evaluation pipeline with the ``resolution`` of its transforms replaced.

    Raises:
        ValueError: no transform has a field ``resolution``.
    """
    pipeline = copy.deepcopy(list(pipeline))
    if not _set_resolution(pipeline, resolution):
        raise ValueError(
            'no transform of the evaluation pipeline has a `resolution` field, so it cannot be evaluated at '
            'another one: use e.g. dict(type="resformer_mm.ResizeCenterCrop", resolution=224) in it'
        )
    return pipeline


def _set_resolution(config: Any, resolution: int) -> int:
    """Set the field in place, nested pipelines included; return how often."""
    if isinstance(config, dict):
        found = sum(_set_resolution(value, resolution) for value in config.values())
        if 'type' in config and 'resolution' in config:
            config['resolution'] = resolution
            found += 1
        return found
    if isinstance(config, (list, tuple)):
        return sum(_set_resolution(value, resolution) for value in config)
    return 0
