"""One decoded image, several resolutions (paper, Section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.transforms import BaseTransform, Compose

from resformer_mm.config.resolutions import PLACEHOLDER, check_resolutions, fill_resolution
from resformer_mm.registry import TRANSFORMS

from .samplers import ResolutionIndex


@TRANSFORMS.register_module()
class MultiResolution(BaseTransform):
    """Replicate the decoded image and give every copy its own crop and augmentation at its own resolution.

    Required key: ``img``, the decoded image. Sets ``img`` to the list of copies ``(R_i, R_i, 3)``, high to
    low, and ``img_shape`` to the shape of the first. Where a :class:`ResolutionBatchSampler` drew one
    resolution for the batch, the list has this one copy.

    Args:
        resolutions: resolutions in pixels, high to low.
        transforms: configs of the transforms of every copy; the value ``'{resolution}'`` anywhere in them
            is the resolution of the copy, e.g. ``dict(type='RandomResizedCrop', scale='{resolution}')``.

    Raises:
        ValueError: the resolutions are empty, not positive or not high to low, or the transforms never use
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
        """Return the results with ``img`` as a list; None if a transform gave up on a copy."""
        index = results.get('sample_idx')
        wanted = [index.resolution] if isinstance(index, ResolutionIndex) else self.resolutions
        copies = []
        for resolution in wanted:
            if resolution not in self.pipelines:
                raise ValueError(
                    f'the batch sampler drew resolution {resolution}, which is not among the '
                    f'{self.resolutions} of MultiResolution: give both the same list'
                )
            # A shallow copy suffices but for the pixels, which some transforms change in place.
            out = self.pipelines[resolution]({**results, 'img': results['img'].copy()})
            if out is None:
                return None
            copies.append(out)
        return {**copies[0], 'img': [out['img'] for out in copies]}

    def __repr__(self) -> str:
        """Name the resolutions and the transforms of the largest."""
        largest = self.pipelines[self.resolutions[0]]
        return f'{type(self).__name__}(resolutions={self.resolutions}, transforms={largest})'


def check_uses_resolution(transforms: Sequence[dict], owner: str, example: str) -> None:
    """Check that the transforms of the copies, configs of the transform ``owner``, use the resolution.

    Args:
        transforms: what is checked.
        owner: name of the transform that has them, for the message.
        example: a transform that uses it, for the message.

    Raises:
        ValueError: they do not.
    """
    if PLACEHOLDER not in str(transforms):
        raise ValueError(
            f"{owner}.transforms never use '{PLACEHOLDER}': all copies would be alike; write e.g. {example}"
        )
