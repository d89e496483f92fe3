"""Test pipelines taken apart: reading, whose failures are the input's, and preparing."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS

from .sources import InputError, Source


class InputPipeline(ABC):
    """Brings a source to what the model takes, with the transforms of a config's test pipeline."""

    prepare: Compose

    @abstractmethod
    def read(self, source: Source) -> dict:
        """Return the results dict of MM's transforms, with the pixels."""

    def load(self, source: Source) -> dict:
        """Return the results dict of a source.

        Raises:
            InputError: it cannot be read; the message is the reason.
        """
        try:
            results = self.read(source)
        except Exception as error:  # every decoder has its own
            # The reason, without the path and the advice that LoadImage puts around it.
            cause = error if error.__cause__ is None else error.__cause__
            text = re.sub(r' <_io\.BytesIO object at \w+>', '', str(cause).strip().split('\n')[0])
            raise InputError(f'{type(cause).__name__}: {text}') from error
        if results is None:
            raise InputError('the loading transform of the config returned nothing')
        return results


class ImagePipeline(InputPipeline):
    """A pipeline that starts with loading an image file; an array skips that step.

    Args:
        transforms: configs of the transforms. Those that load annotations are left out.

    Raises:
        ValueError: the first transform does not load an image.
    """

    def __init__(self, transforms: Sequence[dict]) -> None:
        first, *rest = [TRANSFORMS.build(transform) for transform in transforms]
        if not isinstance(first, LoadImageFromFile):
            raise ValueError(
                f'the test pipeline starts with {type(first).__name__}: an inferencer needs one that starts '
                'with loading an image, e.g. dict(type="resformer_mm.LoadImage")'
            )
        self._loader = first
        self.prepare = Compose([step for step in rest if not _loads_annotations(step)])

    def read(self, source: Source) -> dict:
        """Return ``img`` in BGR, ``(H, W, 3)``, with its shape and path."""
        if source.array is None:
            return self._loader(dict(img_path=source.path))
        image = source.array.astype(np.float32) if self._loader.to_float32 else source.array
        return dict(img=image, img_path=source.path, img_shape=image.shape[:2], ori_shape=image.shape[:2])


def _loads_annotations(step: object) -> bool:
    # Those of depth, panoptic and point annotations do not derive from mmcv's.
    return isinstance(step, LoadAnnotations) or re.match('Load.*Annotation', type(step).__name__) is not None
