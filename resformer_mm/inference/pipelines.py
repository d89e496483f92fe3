"""Input pipelines, and batches of input sources."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS

from resformer_mm.datasets.image_files import without_pixel_limit
from resformer_mm.progress import track

from .sources import ImageSources, InputError, Source, skip


class InputPipeline(ABC):
    """The transforms of a config's test pipeline in two parts: loading a source, and preparing it.

    A failure of the first part is an error of the input, a failure of the second part is not.

    Attributes:
        prepare: the second part.
    """

    prepare: Compose

    @abstractmethod
    def read(self, source: Source) -> dict:
        """Return the ``results`` dict of the loading transforms, which holds the pixels."""

    @abstractmethod
    def pixels(self, results: dict) -> np.ndarray:
        """Return the pixels of a ``results`` dict, uint8, for drawings."""

    def shortfall(self, source: Source, results: dict) -> str | None:
        """Return what is missing of a source that was read in part; None if it is complete."""
        return None

    def load(self, source: Source) -> dict:
        """Return the ``results`` dict of a source.

        Raises:
            InputError: the source cannot be read; the message is the reason.
        """
        try:
            results = self.read(source)
        except Exception as error:  # each decoder has its own error types
            # The reason alone, without the path and the advice that LoadImage adds.
            cause = error if error.__cause__ is None else error.__cause__
            text = re.sub(r' <_io\.BytesIO object at \w+>', '', str(cause).strip().split('\n')[0])
            if 'CV_IO_MAX_IMAGE_PIXELS' in text:
                text = 'too many pixels for OpenCV: set the environment variable OPENCV_IO_MAX_IMAGE_PIXELS'
            raise InputError(f'{type(cause).__name__}: {text}') from error
        if results is None:
            raise InputError('the loading transform of the test pipeline returned None')
        return results

    def __call__(self, source: Source) -> dict:
        """Return the packed input of the model: ``inputs`` and ``data_samples``.

        Raises:
            InputError: the source cannot be read; the message is the reason.
        """
        return self.prepare(self.load(source))


class ImagePipeline(InputPipeline):
    """A pipeline that starts by loading an image file; arrays skip that step.

    Args:
        transforms: configs of the transforms. Transforms that load annotations are left out.

    Raises:
        ValueError: the first transform does not load an image.
    """

    def __init__(self, transforms: Sequence[dict]) -> None:
        first, *rest = [TRANSFORMS.build(transform) for transform in transforms]
        if not isinstance(first, LoadImageFromFile):
            raise ValueError(
                f'the test pipeline starts with {type(first).__name__}: an inferencer needs a first step '
                'that loads an image, e.g. dict(type="resformer_mm.LoadImage")'
            )
        self._loader = first
        self.prepare = Compose([step for step in rest if not _loads_annotations(step)])

    def read(self, source: Source) -> dict:
        """Return ``img``, BGR ``(H, W, 3)``, with its shape and path."""
        if source.array is None:
            with without_pixel_limit():  # the loader may use Pillow
                return self._loader(dict(img_path=source.path))
        image = source.array.astype(np.float32) if self._loader.to_float32 else source.array
        return dict(img=image, img_path=source.path, img_shape=image.shape[:2], ori_shape=image.shape[:2])

    def pixels(self, results: dict) -> np.ndarray:
        """Return the image, BGR ``(H, W, 3)``."""
        return results['img'].clip(0, 255).astype(np.uint8, copy=False)


@dataclass(frozen=True)
class Batch:
    """The inputs of one forward pass.

    Attributes:
        sources: the sources of the inputs.
        pixels: the pixels of each source as read, for drawings.
        prepared: the prepared input of each source.
        data: the collated inputs, an argument of ``model.test_step``.
    """

    sources: list[Source]
    pixels: list[np.ndarray]
    prepared: list[dict]
    data: dict

    def split(self, collate: Callable[[list[dict]], dict]) -> list[Batch]:
        """Return batches of one input each."""
        parts = zip(self.sources, self.pixels, self.prepared)
        return [Batch([source], [pixels], [one], collate([one])) for source, pixels, one in parts]


@dataclass(frozen=True)
class BatchReader:
    """Reader of sources, one at a time, that batches consecutive inputs of one size.

    Args:
        kind: kind of the sources.
        pipeline: pipeline that reads and prepares a source.
        collate: function that makes one batch of a list of prepared inputs.
        mixes_sizes: whether a batch may hold inputs of several sizes.
    """

    kind: ImageSources
    pipeline: InputPipeline
    collate: Callable[[list[dict]], dict]
    mixes_sizes: bool = False

    def batches(
        self, sources: list[Source], batch_size: int, skipped: list[dict], show_progress: bool = False
    ) -> Iterator[Batch]:
        """Yield batches, in the order of the sources.

        Args:
            sources: the sources.
            batch_size: maximum number of inputs of a batch.
            skipped: receives ``path`` and ``reason`` of every file in a folder that cannot be read.
            show_progress: whether to show a progress bar on the standard error.

        Raises:
            InputError: a file that was given by its path cannot be read.
        """
        chunk: list[tuple[Source, np.ndarray, dict]] = []
        with closing(self._read(sources, skipped, show_progress)) as items:
            for item in items:
                if chunk and not self._fit(chunk[0][2], item[2]):
                    yield self._batch(chunk)
                    chunk = []
                chunk.append(item)
                if len(chunk) == batch_size:
                    yield self._batch(chunk)
                    chunk = []
        if chunk:
            yield self._batch(chunk)

    def loaded(
        self, sources: list[Source], skipped: list[dict], show_progress: bool = False
    ) -> Generator[tuple[Source, dict], None, None]:
        """Yield every readable source with the ``results`` dict of its loading transforms.

        The arguments and errors are those of :meth:`batches`. Close it after an error: the progress bar then
        ends before the error is printed.
        """
        with closing(self._track(sources, skipped, show_progress)) as tracked:
            for source in tracked:
                try:
                    results = self.pipeline.load(source)
                except InputError as error:
                    if not source.optional:
                        raise InputError(
                            f'cannot read {source.path} ({error}): repair or replace the file'
                        ) from error
                    skip(source, str(error), skipped)
                    continue
                if (reason := self.pipeline.shortfall(source, results)) is not None:
                    skip(source, reason, skipped)
                yield source, results

    def _track(
        self, sources: list[Source], skipped: list[dict], show_progress: bool
    ) -> Generator[Source, None, None]:
        expanded = self.kind.expand(sources, skipped)
        return track(expanded, 'Inference', self.kind.count(sources), show_progress)

    def _read(
        self, sources: list[Source], skipped: list[dict], show_progress: bool
    ) -> Generator[tuple[Source, np.ndarray, dict], None, None]:
        """Yield every readable source with its pixels as read and its prepared input."""
        with closing(self.loaded(sources, skipped, show_progress)) as loaded:
            for source, results in loaded:
                # The pixels come first, because transforms may work in place.
                pixels = self.pipeline.pixels(results)
                try:
                    prepared = self.pipeline.prepare(results)
                except Exception as error:  # transforms of any library, on an image of unusual shape
                    if source.path is None:
                        raise
                    reason = (
                        f'{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ""}'
                    )
                    if not source.optional:
                        raise InputError(f'cannot prepare {source.path} ({reason})') from error
                    skip(source, reason, skipped)
                    continue
                yield source, pixels, prepared

    def _fit(self, first: dict, other: dict) -> bool:
        return self.mixes_sizes or first['inputs'].shape == other['inputs'].shape

    def _batch(self, chunk: list[tuple[Source, np.ndarray, dict]]) -> Batch:
        sources, pixels, prepared = map(list, zip(*chunk))
        return Batch(sources, pixels, prepared, self.collate(prepared))


def _loads_annotations(step: object) -> bool:
    # Loaders of depth, panoptic and point annotations are not subclasses of mmcv's.
    return isinstance(step, LoadAnnotations) or re.match('Load.*Annotation', type(step).__name__) is not None
