"""Copies of an image at several resolutions (paper, Section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmcv.transforms import BaseTransform, Compose

from resformer_mm.config.resolutions import (
    PLACEHOLDER,
    check_resolutions,
    fill_resolution,
    list_resolutions,
)
from resformer_mm.registry import TRANSFORMS

from .crops import Crop
from .opening import EncodedImage
from .samplers import ResolutionIndex


@TRANSFORMS.register_module()
class MultiResolution(BaseTransform):
    """Crop and augment an image independently at every resolution.

    Required key: ``img``, the image, decoded or opened by :class:`OpenImage`. Sets ``img`` to the list of
    copies ``(R_i, R_i, 3)``, high to low, and ``img_shape`` to the shape of the first. If a
    :class:`ResolutionBatchSampler` or :class:`MultiResolutionBatchSampler` drew resolutions for the batch,
    the list has the copies at these alone.

    If the first transform can draw its crop from the size of the image, as
    :class:`~resformer_mm.tasks.classification.random_resized_crop.RandomResizedCrop` does, the crops of all
    copies are drawn first. An opened image is then decoded no larger than they need.

    Args:
        resolutions: resolutions in pixels, high to low, or a range: ``dict(low=96, high=224, step=16)``.
        transforms: configs of the transforms of every copy; the value ``'{resolution}'`` anywhere in them
            is replaced by the resolution, e.g. in ``dict(type='RandomResizedCrop', scale='{resolution}')``.

    Raises:
        ValueError: the resolutions are empty, not positive or not high to low, the range is malformed, or the
            transforms do not use them.
    """

    def __init__(self, resolutions: Sequence[int] | Mapping[str, int], transforms: Sequence[dict]) -> None:
        field = f'{type(self).__name__}.resolutions'
        self.resolutions = check_resolutions(list_resolutions(resolutions, field), field)
        check_uses_resolution(
            transforms, type(self).__name__, f"dict(type='RandomResizedCrop', scale='{PLACEHOLDER}')"
        )
        self.pipelines = {
            resolution: Compose(fill_resolution(list(transforms), resolution))
            for resolution in self.resolutions
        }

    def transform(self, results: dict) -> dict | None:
        """Return the results with ``img`` as a list; None if the image or a copy was skipped."""
        copies = self.process(results, self.drawn_resolutions(results))
        return None if copies is None else {**copies[0], 'img': [copy['img'] for copy in copies]}

    def drawn_resolutions(self, results: dict) -> list[int]:
        """Return the resolutions of a sample: all, or those of its batch.

        Raises:
            ValueError: the batch has another resolution.
        """
        index = results.get('sample_idx')
        if not isinstance(index, ResolutionIndex):
            return self.resolutions
        for resolution in index.resolutions:
            if resolution not in self.resolutions:
                raise ValueError(
                    f'the batch sampler drew resolution {resolution}, which is not among the '
                    f'{self.resolutions} of {type(self).__name__}: give both the same list'
                )
        return list(index.resolutions)

    def process(self, results: dict, resolutions: Sequence[int]) -> list[dict] | None:
        """Return the results of the transforms at the resolutions; None if the image or a copy was skipped.

        Args:
            results: those of the image.
            resolutions: some of :attr:`resolutions`.
        """
        pipelines = [self.pipelines[resolution] for resolution in resolutions]
        image = results['img']
        crops = draw_crops(pipelines, *(image.size if isinstance(image, EncodedImage) else image.shape[:2]))
        if isinstance(image, EncodedImage):
            decoded = image.decode(crops)
            if decoded is None:
                return None
            image, denominator = decoded
            crops = crops and [crop.reduced(denominator) for crop in crops]
        copies = []
        for number, pipeline in enumerate(pipelines):
            # Some transforms change pixels in place, but for those that draw crops. Of the rest, a shallow
            # copy suffices.
            own = dict(crop=crops[number], img=image) if crops else dict(img=image.copy())
            copy = pipeline({**results, **own})
            if copy is None:
                return None
            copies.append(copy)
        return copies

    def __repr__(self) -> str:
        """Return the resolutions and the transforms of the largest."""
        largest = self.pipelines[self.resolutions[0]]
        return f'{type(self).__name__}(resolutions={self.resolutions}, transforms={largest})'


def draw_crops(pipelines: Sequence[Compose], height: int, width: int) -> list[Crop] | None:
    """Draw the crop of every copy; None if the first transforms cannot.

    Args:
        pipelines: transforms of the copies.
        height: height of the image in pixels.
        width: width of the image in pixels.
    """
    first = [pipeline.transforms[0] for pipeline in pipelines]
    if not all(hasattr(transform, 'draw_crop') for transform in first):
        return None
    return [transform.draw_crop(height, width) for transform in first]


def check_uses_resolution(transforms: Sequence[dict], owner: str, example: str) -> None:
    """Check that the transforms of the copies use the resolution.

    Args:
        transforms: configs of the transforms.
        owner: name of the transform that contains them, for the message.
        example: a transform that uses the resolution, for the message.

    Raises:
        ValueError: they do not use it.
    """
    if PLACEHOLDER not in str(transforms):
        raise ValueError(
            f"{owner}.transforms never use '{PLACEHOLDER}', so all copies would be alike: use e.g. {example}"
        )
