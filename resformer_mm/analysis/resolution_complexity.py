"""Table of the complexity of a model at several resolutions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement

from resformer_mm.files import write_csv
from resformer_mm.text import size_text, table

from .complexity import Complexity, count_complexity

Size = tuple[int, int]


def complexity_at(model: BaseModel, size: Size) -> Complexity:
    """Count the complexity on one blank image or clip, see :func:`~.complexity.count_complexity`.

    Args:
        model: a model returned by :func:`~resformer_mm.apis.load_model`.
        size: height and width of the image in pixels.

    Raises:
        ValueError: the model does not run on an image of this size, e.g. because it is below one patch.
    """
    try:
        batch = blank_batch(model, size)
        return count_complexity(model, batch['inputs'], batch['data_samples'])
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f'{type(model).__name__} does not run on a blank image of {size[0]} x {size[1]} pixels '
            f"in mode='tensor' ({type(error).__name__}: {error})"
        ) from error


def blank_batch(model: BaseModel, size: Size) -> dict:
    """Return ``inputs`` and ``data_samples`` of one black image, from a model's data preprocessor.

    For a recognizer of mmaction2, it is a clip with as many frames as the config samples for one view.

    Args:
        model: a model returned by :func:`~resformer_mm.apis.load_model`.
        size: height and width of the image in pixels.

    Raises:
        ValueError: a side is not positive, or the config of a recognizer does not set ``clip_len``.
    """
    if min(size) < 1:
        raise ValueError(f'image size must be positive, got {size[0]} x {size[1]}')
    channels = model.cfg.model.get('backbone', {}).get('in_channels', 3)
    shape: tuple[int, ...] = (channels, *size)
    # Only the data preprocessor of mmaction2 has a layout of frames.
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
    """Return the frames per clip and clips per view that the pipeline of a recognizer samples."""
    for loader in ('test_dataloader', 'val_dataloader', 'train_dataloader'):
        for transform in (cfg.get(loader) or {}).get('dataset', {}).get('pipeline') or ():
            if 'clip_len' in transform:
                return transform['clip_len'], transform.get('num_clips', 1)
    raise ValueError(
        f'{cfg.filename or "the config"} has no transform with `clip_len`, such as SampleFrames, in its '
        'test, validation or training pipeline: the number of frames of an input is unknown'
    )


def format_complexities(complexities: Mapping[Size, Complexity]) -> str:
    """Return a Markdown table with parameters, giga multiply-adds and shares of the parts by resolution."""
    parts = _parts(complexities)
    rows = []
    for size, complexity in complexities.items():
        flops, by_part = complexity.flops, complexity.by_part
        shares = (f'{by_part.get(part, 0) / flops:.1%}' if flops else '' for part in parts)
        parameters = f'{complexity.parameters / 1e6:.2f} M'
        rows.append([size_text(size), parameters, f'{flops / 1e9:#.4g}', *shares])
    return table(['resolution', 'parameters', 'GFLOPs', *parts], rows, justify='right')


def write_complexities(complexities: Mapping[Size, Complexity], path: str | Path) -> None:
    """Write a CSV file with parameters and multiply-adds as integers, one line per resolution."""
    parts = _parts(complexities)
    rows = [
        {
            'resolution': size_text(size),
            'parameters': complexity.parameters,
            'multiply-adds': complexity.flops,
            **{part: complexity.by_part.get(part, 0) for part in parts},
        }
        for size, complexity in complexities.items()
    ]
    write_csv(path, rows)


def _parts(complexities: Mapping[Size, Complexity]) -> list[str]:
    return list(dict.fromkeys(part for complexity in complexities.values() for part in complexity.by_part))
