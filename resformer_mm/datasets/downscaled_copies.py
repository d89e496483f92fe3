"""Copies of an image that share the random draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmcv.transforms import Compose

from resformer_mm.config.resolutions import fill_resolution
from resformer_mm.registry import TRANSFORMS

from .multi_resolution import MultiResolution
from .resizing import resize

INTERPOLATION = 'bicubic'


@TRANSFORMS.register_module()
class DownscaledCopies(MultiResolution):
    """Crop and augment an image once at the highest resolution, and shrink the result to the others.

    All copies show the same crop in the same colours, unlike those of the paper, whose draws are independent.
    Shrinking is bicubic with antialiasing. It would average the noise of ``RandomErasing``, which therefore
    belongs to ``copy_transforms``.

    Required key: ``img``. Sets ``img`` and ``img_shape`` as :class:`MultiResolution` does.

    Args:
        resolutions: see :class:`MultiResolution`.
        transforms: configs of the transforms at the highest resolution, in which ``'{resolution}'`` is
            replaced by it. If the batch sampler drew resolutions, they run at the highest of these.
        copy_transforms: configs of transforms that every copy then goes through, with its own random draws
            and its own ``'{resolution}'``.

    Raises:
        ValueError: see :class:`MultiResolution`.
    """

    def __init__(
        self,
        resolutions: Sequence[int] | Mapping[str, int],
        transforms: Sequence[dict],
        copy_transforms: Sequence[dict] = (),
    ) -> None:
        super().__init__(resolutions, transforms)
        self.copy_pipelines = {
            resolution: Compose(fill_resolution(list(copy_transforms), resolution))
            for resolution in self.resolutions
        }

    def process(self, results: dict, resolutions: Sequence[int]) -> list[dict] | None:
        """Return the results of every copy; None if the image or a copy was skipped."""
        largest = super().process(results, resolutions[:1])
        if largest is None:
            return None
        image = largest[0]['img']
        # All before the transforms of the copies, which may change pixels in place.
        images = [image, *(resize(image, (side, side), INTERPOLATION) for side in resolutions[1:])]
        copies = []
        for resolution, image in zip(resolutions, images):
            copy = {**largest[0], 'img': image, 'img_shape': image.shape}
            copies.append(self.copy_pipelines[resolution](copy))
        return None if any(copy is None for copy in copies) else copies
