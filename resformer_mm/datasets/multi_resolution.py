"""Copies of an image at several resolutions (paper, Section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.transforms import BaseTransform, Compose

from resformer_mm.config.resolutions import PLACEHOLDER, check_resolutions, fill_resolution
from resformer_mm.registry import TRANSFORMS

from .samplers import ResolutionIndex


@TRANSFORMS.register_module()
class MultiResolution(BaseTransform):
    """Copy the decoded image, and crop and augment every copy independently at its resolution.

    Required key: ``img``, the decoded image. Sets ``img`` to the list of copies ``(R_i, R_i, 3)``, high to
    low, and ``img_shape`` to the shape of the first. If a :class:`ResolutionBatchSampler` drew one resolution
    for the batch, the list has only the copy at this resolution.

    Args:
        resolutions: resolutions in pixels, high to low.
        transforms: configs of the transforms of every copy; the value ``'{resolution}'`` anywhere in them
            is replaced by the resolution, e.g. in ``dict(type='RandomResizedCrop', scale='{resolution}')``.

    Raises:
        ValueError: the resolutions are empty, not positive or not high to low, or the transforms do not use
            them.
    """

    def __init__(self, resolutions: Sequence[int], transforms: Sequence[dict]) -> None:
        self.resolutions = check_resolutions(resolutions, 'MultiResolution.resolutions')
        check_uses_resolution(
            transforms, 'MultiResolution', f"dict(type='RandomResizedCrop', scale='{PLACEHOLDER}')"
        )
        self.pipelines = {
            resolution: Compose(fill_resolution(list(transforms), resolution))
            for resolution in self.resolutions
        }

    def transform(self, results: dict) -> dict | None:
        """Return the results with ``img`` as a list; None if a transform skipped a copy."""
        index = results.get('sample_idx')
        wanted = [index.resolution] if isinstance(index, ResolutionIndex) else self.resolutions
        copies = []
        for resolution in wanted:
            if resolution not in self.pipelines:
                raise ValueError(
                    f'the batch sampler drew resolution {resolution}, which is not among the '
                    f'{self.resolutions} of MultiResolution: give both the same list'
                )
            # Except for the pixels, which some transforms change in place, a shallow copy suffices.
            out = self.pipelines[resolution]({**results, 'img': results['img'].copy()})
            if out is None:
                return None
            copies.append(out)
        return {**copies[0], 'img': [out['img'] for out in copies]}

    def __repr__(self) -> str:
        """Return the resolutions and the transforms of the largest."""
        largest = self.pipelines[self.resolutions[0]]
        return f'{type(self).__name__}(resolutions={self.resolutions}, transforms={largest})'


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
