"""Collate functions."""

from __future__ import annotations

from mmengine.dataset import default_collate

from resformer_mm.registry import FUNCTIONS


@FUNCTIONS.register_module()
def multi_resolution_collate(batch: list[dict]) -> dict:
    """Stack samples to a batch: ``inputs`` becomes a tensor, or a list of tensors, one per resolution.

    Args:
        batch: samples with ``data_samples`` and ``inputs``, a tensor ``(C, H, W)``, of clips
            ``(num_clips, C, T, H, W)``, or a list of them.

    Raises:
        ValueError: the samples disagree in number or size; the message names the first that differs.
    """
    first = _shapes(batch[0])
    for sample in batch[1:]:
        shapes = _shapes(sample)
        if shapes != first:
            raise ValueError(
                f'samples of one batch disagree in size: {_name(batch[0])} gives {first}, {_name(sample)} '
                f'gives {shapes}. End the pipeline with a crop to one size: RandomResizedCrop in training, '
                'resformer_mm.ResizeCenterCrop in evaluation'
            )
    return default_collate(batch)


def _shapes(sample: dict) -> list[tuple[int, ...]]:
    inputs = sample['inputs']
    return [tuple(image.shape) for image in (inputs if isinstance(inputs, list) else [inputs])]


def _name(sample: dict) -> str:
    data_sample = sample['data_samples']
    return str(data_sample.get('img_path', data_sample.get('filename', 'a sample')))
