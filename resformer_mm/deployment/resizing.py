"""How the test pipeline of a config resizes and crops images, as plain data for clients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from resformer_mm.config.resolutions import test_dataset
from resformer_mm.config_types import packages_of_types, type_name

# Beginnings of the names of transforms that leave the size as it is.
_KEEPS_SIZE = (
    'Load',
    'Pack',
    'Clip',
    'Decord',
    'OpenCV',
    'PyAV',
    'RawFrame',
    'SampleFrames',
    'FormatShape',
    'ToTensor',
    'Collect',
)


def resizing(cfg: Mapping) -> list[dict] | None:
    """Return the steps of the test pipeline that change the size of an image, in order.

    A step is one of the following. Sizes are in pixels.

    - ``{'resize': {'short': S, 'long': L}, 'rounding': 'nearest' or 'down', ...}``: the largest size of the
      same aspect with a short side of at most S and a long side of at most L; None is no limit. The sides are
      rounded to the nearest integer or down.
    - ``{'resize': [height, width], ...}`` and ``{'resize': factor, 'rounding': 'nearest', ...}``
    - ``{'crop': [height, width], 'rounding': ...}``: the centre, with its first row and column rounded to the
      nearest even integer or down.
    - ``{'crops': [height, width]}``: both ends and the centre of the long side, as clips of a video.

    Steps that resize also have ``interpolation``, and ``antialias``, which is whether shrinking averages all
    pixels, as Pillow does and OpenCV does not.

    Args:
        cfg: the config.

    Returns:
        The steps; None if the config has no test pipeline, or one with other transforms.
    """
    try:
        pipeline = test_dataset(cfg)['pipeline']
    except ValueError:
        return None
    steps: list[dict] = []
    for settings in pipeline:
        name = type_name(settings['type'])
        if name.startswith(_KEEPS_SIZE):
            continue
        packages = packages_of_types({'type': settings['type']}) or {str(cfg.get('default_scope'))}
        found = _steps(name, settings, is_clip='mmaction' in packages)
        if found is None:
            return None
        steps += found
    return steps


def _steps(name: str, settings: Mapping, is_clip: bool) -> list[dict] | None:
    """Return the steps of a transform; None if it is not known.

    Args:
        name: name of the transform.
        settings: its arguments.
        is_clip: whether the transform is mmaction's, whose defaults differ.
    """
    interpolation = {
        'interpolation': settings.get('interpolation', 'bilinear'),
        'antialias': settings.get('backend', 'cv2') == 'pillow',
    }
    if name == 'Resize':
        size = _resized(settings, keeps_ratio=is_clip)
        return None if size is None else [{**size, **interpolation}]
    if name == 'ResizeEdge':
        if settings.get('edge', 'short') != 'short':
            return None
        limits = {'short': settings['scale'], 'long': None}
        return [{'resize': limits, 'rounding': 'down', **interpolation}]
    if name == 'ResizeCenterCrop':
        side = settings['resolution']
        limits = {'short': int(side / settings.get('crop_pct', 224 / 256)), 'long': None}
        kind = {'interpolation': settings.get('interpolation', 'bicubic'), 'antialias': True}
        return [{'resize': limits, 'rounding': 'down', **kind}, {'crop': [side, side], 'rounding': 'nearest'}]
    if name in ('CenterCrop', 'ThreeCrop') and not settings.get('auto_pad'):
        size = settings['crop_size']
        width, height = (size, size) if isinstance(size, int) else size
        if name == 'ThreeCrop':
            return [{'crops': [height, width]}]
        return [{'crop': [height, width], 'rounding': 'down' if is_clip else 'nearest'}]
    return None


def _resized(settings: Mapping, keeps_ratio: bool) -> dict | None:
    scale, factor = settings.get('scale'), settings.get('scale_factor')
    if isinstance(scale, float):  # mmaction's factor
        scale, factor = None, scale
    if isinstance(factor, (int, float)):
        return {'resize': factor, 'rounding': 'nearest'}
    if isinstance(scale, int):
        scale = (scale, scale)
    if not isinstance(scale, Sequence) or len(scale) != 2:
        return None
    if not settings.get('keep_ratio', keeps_ratio):
        width, height = scale
        return {'resize': [height, width]}
    sides = sorted(math.inf if side in (-1, None) else side for side in scale)
    short, long = (None if math.isinf(side) else side for side in sides)
    return {'resize': {'short': short, 'long': long}, 'rounding': 'nearest'}
