"""Collate function for batches at several resolutions."""

from __future__ import annotations

from mmengine.dataset import default_collate
from torch import Tensor

from resformer_mm.engine.partial_copies import PartialCopy
from resformer_mm.registry import FUNCTIONS

from .samplers import ResolutionIndex


@FUNCTIONS.register_module()
def multi_resolution_collate(batch: list[dict]) -> dict:
    """Stack samples into a batch; ``inputs`` becomes a tensor, or a list of one tensor per copy.

    If a batch sampler drew different resolutions for the samples, a copy that not all of them have is a
    :class:`~resformer_mm.engine.PartialCopy`.

    Args:
        batch: samples with ``data_samples`` and ``inputs``: an image ``(C, H, W)``, a clip
            ``(num_clips, C, T, H, W)``, or a list of either. Samples with different copies have the
            ``sample_idx`` of the sampler.

    Raises:
        ValueError: the samples differ in the number or size of their inputs. The message names the first
            sample that differs.
    """
    drawn = [_drawn(sample) for sample in batch]
    if len(set(drawn)) > 1 and () not in drawn:
        return _collate_parts(batch, drawn)
    first = _shapes(batch[0])
    for sample in batch[1:]:
        shapes = _shapes(sample)
        if shapes != first:
            raise ValueError(
                f'the samples of a batch differ in size: {_name(batch[0])} has {first}, {_name(sample)} '
                f'has {shapes}. End the pipeline with a crop to one size: RandomResizedCrop in training, '
                'resformer_mm.ResizeCenterCrop in evaluation'
            )
    return default_collate(batch)


def _collate_parts(batch: list[dict], drawn: list[tuple[int, ...]]) -> dict:
    """Return a batch of samples with different copies.

    Args:
        batch: the samples.
        drawn: the resolutions of the copies of each.
    """
    rows: dict[int, list[int]] = {size: [] for size in sorted(set().union(*drawn), reverse=True)}
    for row, sizes in enumerate(drawn):
        for size in sizes:
            rows[size].append(row)
    copies: list[Tensor | PartialCopy] = []
    for size, own in rows.items():
        one = [dict(batch[row], inputs=batch[row]['inputs'][drawn[row].index(size)]) for row in own]
        images = multi_resolution_collate(one)['inputs']
        copies.append(images if len(own) == len(batch) else PartialCopy(images, tuple(own)))
    rest = default_collate([{**sample, 'inputs': 0} for sample in batch])
    return {**rest, 'inputs': copies}


def _drawn(sample: dict) -> tuple[int, ...]:
    """Return the resolutions of the copies of a sample that a batch sampler drew; () if none did."""
    index = getattr(sample.get('data_samples'), 'sample_idx', None)
    if not isinstance(index, ResolutionIndex) or not isinstance(sample['inputs'], list):
        return ()
    return index.resolutions if len(index.resolutions) == len(sample['inputs']) else ()


def _shapes(sample: dict) -> list[tuple[int, ...]]:
    inputs = sample['inputs']
    return [tuple(image.shape) for image in (inputs if isinstance(inputs, list) else [inputs])]


def _name(sample: dict) -> str:
    data_sample = sample['data_samples']
    return str(data_sample.get('img_path', data_sample.get('filename', 'a sample')))
