"""Image files at several resolutions, each decoded once."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.utils.data import Dataset

from resformer_mm.config.resolutions import pipeline_at_resolution

from .pipelines import ImagePipeline
from .sources import InputError, Source


class ImageViews(Dataset):
    """Images as an evaluation pipeline makes them at several resolutions, ``[(C, h, w), ...]``.

    Args:
        paths: the files.
        transforms: configs of the pipeline, at any resolution.
        resolutions: the resolutions in pixels.

    Raises:
        ValueError: the pipeline does not start by loading an image, or has no size.
    """

    def __init__(self, paths: Sequence[str], transforms: Sequence[dict], resolutions: Sequence[int]) -> None:
        self.paths = paths
        self.pipelines = [
            ImagePipeline(pipeline_at_resolution(transforms, resolution)) for resolution in resolutions
        ]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def __getitem__(self, index: int) -> list[Tensor]:
        """Return an image at every resolution, as loaded: BGR, 0 to 255.

        Raises:
            InputError: the file cannot be read.
            ValueError: the pipeline makes several crops of an image.
        """
        path = self.paths[index]
        try:
            results = self.pipelines[0].load(Source(path))
        except InputError as error:
            raise InputError(f'cannot read {path} ({error}): repair or remove the file') from error
        # Transforms may change the pixels in place.
        prepared = [
            pipeline.prepare({**results, 'img': results['img'].copy()})['inputs']
            for pipeline in self.pipelines
        ]
        if any(image.ndim != 3 for image in prepared):
            raise ValueError('the test pipeline makes several crops of an image: leave one')
        return prepared
