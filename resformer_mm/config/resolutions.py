"""Lists of resolutions, and pipelines at a resolution."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from resformer_mm.config_types import type_name

PLACEHOLDER = '{resolution}'
# Transforms that resize, crop or pad in evaluation pipelines of the libraries, with their size fields.
SIZE_FIELDS = {
    'Resize': ('scale',),
    'ResizeEdge': ('scale',),
    'ResizeShortestEdge': ('scale',),
    'FixScaleResize': ('scale',),
    'CenterCrop': ('crop_size',),
    'ThreeCrop': ('crop_size',),
    'TenCrop': ('crop_size',),
    'Pad': ('size',),
}


def check_resolutions(resolutions: Sequence[int], field: str, descending: bool = True) -> list[int]:
    """Return the resolutions as a list of integers, in pixels.

    Args:
        resolutions: the value of the config field.
        field: name of the config field, for messages.
        descending: whether they must be listed high to low, as in training.

    Raises:
        ValueError: the list is empty, or an entry is not a positive integer, repeats or is out of order.
    """
    if isinstance(resolutions, (int, str, Mapping)):
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


def list_resolutions(resolutions: Sequence[int] | Mapping[str, int], field: str) -> Sequence[int]:
    """Return the resolutions of a range, high to low; a list is returned unchanged and unchecked.

    Args:
        resolutions: a list, or ``dict(low=96, high=224, step=16)`` for 224, 208, ..., 96.
        field: name of the config field, for messages.

    Raises:
        ValueError: the range has other fields, or does not lead from low to high in whole steps.
    """
    if not isinstance(resolutions, Mapping):
        return resolutions
    if set(resolutions) != {'low', 'high', 'step'}:
        raise ValueError(
            f'{field} = {dict(resolutions)}: a range has the fields low, high and step, in pixels, e.g. '
            'dict(low=96, high=224, step=16)'
        )
    for name, value in resolutions.items():
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise ValueError(f'{field}.{name} = {value!r} must be a positive integer')
    low, high, step = (resolutions[name] for name in ('low', 'high', 'step'))
    if low > high:
        raise ValueError(f'{field}.low = {low} is larger than {field}.high = {high}')
    if rest := (high - low) % step:
        raise ValueError(
            f'{field}: steps of {step} from low = {low} do not reach high = {high}: set high to '
            f'{high - rest} or {high - rest + step}'
        )
    return list(range(high, low - 1, -step))


def trained_resolutions(cfg: Mapping) -> list[int]:
    """Return what the variable ``resolutions`` of a training config names, high to low; [] without it."""
    resolutions = list_resolutions(cfg.get('resolutions') or [], 'resolutions')
    return [value for value in resolutions if isinstance(value, int)]


def fill_resolution(config: Any, resolution: int) -> Any:
    """Return a copy of a config in which every value ``'{resolution}'`` is replaced by the resolution."""
    if isinstance(config, dict):
        return {key: fill_resolution(value, resolution) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        filled = [fill_resolution(value, resolution) for value in config]
        return tuple(filled) if isinstance(config, tuple) else filled
    return resolution if config == PLACEHOLDER else copy.deepcopy(config)


def test_dataset(cfg: Mapping) -> dict:
    """Return the config of the test data set, without wrappers around it.

    Raises:
        ValueError: no test data set has a ``pipeline``.
    """
    dataset = (cfg.get('test_dataloader') or {}).get('dataset')
    while dataset is not None and 'pipeline' not in dataset:
        dataset = dataset.get('dataset') or next(iter(dataset.get('datasets', [])), None)
    if dataset is None:
        name = getattr(cfg, 'filename', None) or 'the config'
        raise ValueError(f'{name} has no `test_dataloader.dataset.pipeline`: set it to that of predictions')
    return dataset


def pipeline_at_resolution(pipeline: Sequence[dict], resolution: int) -> list[dict]:
    """Return a copy of an evaluation pipeline of any of the libraries at another resolution.

    If transforms have a field ``resolution``, such as ``resformer_mm.ResizeCenterCrop``, it is replaced.
    Otherwise the sizes of all resizing, cropping and padding transforms are scaled by one factor, so that the
    short side of the last crop, or without a crop of the last resize, equals the resolution. At 256,
    ``ResizeEdge(256)`` with ``CenterCrop(224)`` becomes 293 and 256, ``Resize((2048, 512))`` (1024, 256).

    Raises:
        ValueError: the resolution is not a positive integer, or no transform has a size.
    """
    check_resolutions([resolution], 'resolution')
    scaled = copy.deepcopy(list(pipeline))
    if _set_resolution(scaled, resolution):
        return scaled
    factor = Fraction(resolution, _scaled_resolution(scaled))
    for transform, name in _sizes(scaled):
        transform[name] = _scaled(transform[name], factor)
    return scaled


def pipeline_resolution(pipeline: Sequence[dict]) -> int:
    """Return the resolution at which :func:`pipeline_at_resolution` leaves a pipeline as it is.

    Raises:
        ValueError: no transform has a size, or a field ``resolution`` is not a positive integer.
    """
    named = [transform['resolution'] for transform in _transforms(pipeline) if 'resolution' in transform]
    if named:
        return check_resolutions(named[-1:], 'the field `resolution` of a transform')[0]
    return _scaled_resolution(pipeline)


def short_side(size: int | Sequence[int]) -> int:
    """Return the smallest given side; -1 and None mean that a side is not given."""
    sides = [size] if isinstance(size, int) else size
    return min(side for side in sides if _is_length(side))


def _sizes(pipeline: Sequence[dict]) -> list[tuple[dict, str]]:
    """Return the transforms that have sizes, with the names of the fields."""
    return [(transform, name) for transform in _transforms(pipeline) for name in _size_fields(transform)]


def _scaled_resolution(pipeline: Sequence[dict]) -> int:
    """Return the short side of the last crop, or without a crop of the last resize."""
    sizes = _sizes(pipeline)
    if not sizes:
        raise ValueError(
            'the evaluation pipeline cannot be run at another resolution: no transform has a `resolution` '
            'field, or resizes or crops to a fixed size (a scale factor is not one). Use e.g. '
            'dict(type="resformer_mm.ResizeCenterCrop", resolution=224) or '
            'dict(type="Resize", scale=(2048, 512), keep_ratio=True)'
        )
    crops = [short_side(transform[name]) for transform, name in sizes if name == 'crop_size']
    return (crops or [short_side(transform[name]) for transform, name in sizes])[-1]


def _scaled(size: Any, factor: Fraction) -> Any:
    if isinstance(size, (list, tuple)):
        return tuple(_scaled(side, factor) for side in size)
    return max(1, round(size * factor)) if _is_length(size) else size


def _is_length(side: Any) -> bool:
    return isinstance(side, int) and not isinstance(side, bool) and side > 0


def _transforms(config: Any) -> Iterator[dict]:
    """Yield the configs of all transforms, nested ones included, in order."""
    if isinstance(config, dict):
        if 'type' in config:
            yield config
        config = list(config.values())
    if isinstance(config, (list, tuple)):
        for value in config:
            yield from _transforms(value)


def _size_fields(transform: dict) -> Iterator[str]:
    """Yield the fields of a transform that contain a size in pixels."""
    for name in SIZE_FIELDS.get(type_name(transform['type']), ()):
        size = transform.get(name)
        if _is_length(size) or (isinstance(size, (list, tuple)) and any(map(_is_length, size))):
            yield name


def _set_resolution(config: Any, resolution: int) -> int:
    """Set the field in place, also in nested pipelines; return the number of replacements."""
    if isinstance(config, dict):
        found = sum(_set_resolution(value, resolution) for value in config.values())
        if 'type' in config and 'resolution' in config:
            config['resolution'] = resolution
            found += 1
        return found
    if isinstance(config, (list, tuple)):
        return sum(_set_resolution(value, resolution) for value in config)
    return 0
