"""Large images as batches of overlapping slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import numpy as np
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement

from resformer_mm.progress import track

from .pipelines import Batch, BatchReader
from .slicing import Region, SliceGrid, SliceMerger
from .sources import Source


@dataclass(frozen=True)
class SlicedImage:
    """An image that is predicted slice by slice; the slices are prepared when they are needed.

    Attributes:
        sources: the source of the image, alone.
        results: what the loading transforms return for it.
        grid: the slices.
        reader: reader that prepares the slices.
        batch_size: maximum number of slices of a forward pass.
        show_progress: whether to show a progress bar of the slices on the standard error.
    """

    sources: list[Source]
    results: dict
    grid: SliceGrid
    reader: BatchReader
    batch_size: int
    show_progress: bool = False

    @property
    def pixels(self) -> list[np.ndarray]:
        """The pixels of the image, for drawings."""
        image = self.results['img']
        return [image if image.dtype == np.uint8 else self.reader.pipeline.pixels(self.results)]

    def batches(self) -> Iterator[tuple[list[Region], Batch]]:
        """Yield the slices of every forward pass, and their batch."""
        regions = iter(self.grid.regions)
        while chunk := list(islice(regions, self.batch_size)):
            parts = [self._slice(region) for region in chunk]
            pixels = [part['img'] for part in parts]
            prepared = [self.reader.pipeline.prepare(part) for part in parts]
            yield chunk, Batch(self.sources * len(chunk), pixels, prepared, self.reader.collate(prepared))

    def predict(
        self,
        forward: Callable[[Batch], tuple[list[BaseDataElement], float]],
        merger_class: Callable[[SliceGrid, BaseModel], SliceMerger],
        model: BaseModel,
    ) -> tuple[BaseDataElement, int, float]:
        """Return the data sample, the short side of a prepared slice, and the time of the forward passes.

        If one slice covers the image, the data sample is that of the model, unchanged.

        Args:
            forward: function from a batch to its data samples and the milliseconds that they took.
            merger_class: class that merges the predictions.
            model: the model, for the merger.
        """
        merger = None if self.grid.is_single else merger_class(self.grid, model)
        side, total = 0, 0.0
        number = -(-len(self.grid.regions) // self.batch_size)
        shows = self.show_progress and merger is not None
        bar = track(self.batches(), 'Slices, batches', number, shows)
        with closing(bar):  # ends before an error is printed
            for regions, batch in bar:
                samples, milliseconds = forward(batch)
                total += milliseconds
                side = min(batch.data['inputs'][0].shape[-2:])
                if merger is None:
                    return samples[0], side, total
                for region, sample in zip(regions, samples):
                    merger.add(region, sample)
                del samples, sample  # label maps have large scores, which the next pass need not keep
        assert merger is not None
        merged = merger.merged()
        size = (self.grid.height, self.grid.width)
        merged.set_metainfo(dict(img_path=self.results.get('img_path'), ori_shape=size, img_shape=size))
        return merged, side, total

    def _slice(self, region: Region) -> dict:
        left, top, right, bottom = region
        part = self.results['img'][top:bottom, left:right]
        # A copy, because transforms may work in place and slices share pixels.
        return {**self.results, 'img': part.copy(), 'img_shape': part.shape[:2], 'ori_shape': part.shape[:2]}


@dataclass(frozen=True)
class SliceReader:
    """Reader of images that are to be predicted slice by slice.

    Args:
        reader: reader of the sources and of the slices.
        size: side of a slice in pixels.
        overlap: the least part of a slice that the next one also covers.
    """

    reader: BatchReader
    size: int
    overlap: float

    def images(
        self, sources: list[Source], batch_size: int, skipped: list[dict], show_progress: bool = False
    ) -> Iterator[SlicedImage]:
        """Yield the images, decoded once, in the order of the sources; see :meth:`BatchReader.batches`."""
        is_one = self.reader.kind.count(sources) == 1  # its progress is that of the slices
        shows = show_progress and not is_one
        with closing(self.reader.loaded(sources, skipped, shows)) as loaded:
            for source, results in loaded:
                height, width = results['img'].shape[:2]
                grid = SliceGrid(height, width, self.size, self.overlap)
                yield SlicedImage([source], results, grid, self.reader, batch_size, show_progress and is_one)
