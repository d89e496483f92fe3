"""Collate function for batches at several resolutions."""

from __future__ import annotations

from mmengine.dataset import default_collate

from resformer_mm.registry import FUNCTIONS


@FUNCTIONS.register_module()
def multi_resolution_collate(batch: list[dict]) -> dict:
    """Stack samples into a batch; ``inputs`` becomes a tensor, or a list of one tensor per copy.

    Args:
        batch: samples with ``data_samples`` and ``inputs``: an image ``(C, H, W)``, a clip
            ``(num_clips, C, T, H, W)``, or a list of either.

    Raises:
        ValueError: the samples differ in the number or size of their inputs. The message names the first
            sample that differs.
    """
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


def _shapes(sample: dict) -> list[tuple[int, ...]]:
    inputs = sample['inputs']
    return [tuple(image.shape) for image in (inputs if isinstance(inputs, list) else [inputs])]


def _name(sample: dict) -> str:
    data_sample = sample['data_samples']
    return str(data_sample.get('img_path', data_sample.get('filename', 'a sample')))
