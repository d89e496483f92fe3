"""Operations of a model at each resolution, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement
from torch import nn

from resformer_mm.files import write_csv
from resformer_mm.text import size_text, table

from .complexity import Complexity, count_complexity

Size = tuple[int, int]


def complexity_at(model: nn.Module, size: Size) -> Complexity:
    """Count what a model computes on one blank image or clip, see :func:`~.complexity.count_complexity`.

    Args:
        model: what :func:`~resformer_mm.apis.load_model` returned.
        size: height and width of the image in pixels.

    Raises:
        ValueError: the model does not run on such an image, e.g. because it is smaller than one patch.
    """
    try:
        batch = blank_batch(model, size)
        return count_complexity(model, batch['inputs'], batch['data_samples'])
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f'{type(model).__name__} does not run on a blank image of {size[0]} x {size[1]} pixels '
            f"in mode='tensor' ({type(error).__name__}: {error})"
        ) from error


def blank_batch(model: nn.Module, size: Size) -> dict:
    """Return ``inputs`` and ``data_samples`` as a model's data preprocessor makes them of one black image.

    A recognizer of mmaction2 gets one clip, of as many frames as its config samples for one view.

    Args:
        model: what :func:`~resformer_mm.apis.load_model` returned.
        size: height and width of the image in pixels.

    Raises:
        ValueError: a side is not positive, or the config of a recognizer does not say how long a clip is.
    """
    if min(size) < 1:
        raise ValueError(f'image size must be positive, got {size[0]} x {size[1]}')
    channels = model.cfg.model.get('backbone', {}).get('in_channels', 3)
    shape = (channels, *size)
    # Of the libraries only mmaction2 says how frames lie in a batch.
    frames = getattr(model.data_preprocessor, 'format_shape', None)
    if frames is not None:
        clip_len, num_clips = _clip(model.cfg)
        shape = (1, channels, clip_len, *size) if 'T' in frames else (clip_len * num_clips, *shape)
    sizes = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'), size)
    sample = BaseDataElement(metainfo=dict(sizes, scale_factor=(1.0, 1.0)))
    return model.data_preprocessor(
        {'inputs': [torch.zeros(shape, dtype=torch.uint8)], 'data_samples': [sample]}
    )


def _clip(cfg: Config) -> tuple[int, int]:
    """Return frames per clip and clips per view, as the pipeline of a recognizer samples them."""
    for loader in ('test_dataloader', 'val_dataloader', 'train_dataloader'):
        for transform in (cfg.get(loader) or {}).get('dataset', {}).get('pipeline') or ():
            if 'clip_len' in transform:
                return transform['clip_len'], transform.get('num_clips', 1)
    raise ValueError(
        f'{cfg.filename or "the config"} has no transform with `clip_len`, such as SampleFrames, in its '
        'test, validation or training pipeline: how many frames the model gets is unknown'
    )


def format_complexities(complexities: Mapping[Size, Complexity]) -> str:
    """Return a Markdown table: per resolution parameters, giga multiply-adds, and the share of every part."""
    rows = []
    for row in _rows(complexities):
        size, parameters, flops, *parts = row.values()
        shares = (f'{part / flops:.1%}' if flops else '' for part in parts)
        rows.append([size, f'{parameters / 1e6:.2f} M', f'{flops / 1e9:#.4g}', *shares])
    names = list(_rows(complexities)[0])
    return table([*names[:2], 'GFLOPs', *names[3:]], rows, justify='right')


def write_complexities(complexities: Mapping[Size, Complexity], path: str | Path) -> None:
    """Write a CSV file: a line per resolution, parameters and multiply-adds in whole numbers."""
    write_csv(path, _rows(complexities))


def _rows(complexities: Mapping[Size, Complexity]) -> list[dict[str, str | int]]:
    parts = list(dict.fromkeys(part for complexity in complexities.values() for part in complexity.by_part))
    return [
        {
            'resolution': size_text(size),
            'parameters': complexity.parameters,
            'multiply-adds': complexity.flops,
            **{part: complexity.by_part.get(part, 0) for part in parts},
        }
        for size, complexity in complexities.items()
    ]
