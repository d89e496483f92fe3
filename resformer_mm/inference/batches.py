"""From what an inferencer is given to batches for its model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from rich.console import Console
from rich.progress import track

from .pipelines import InputPipeline
from .sources import ImageInputs, InputError, Source, skip


class InputBatches:
    """Mixin before an inferencer of MMEngine: reads inputs one by one, and puts those that fit together.

    The inferencer gives ``make_pipeline(resolution)``, ``collate_fn`` and ``show_progress``.
    """

    kind = ImageInputs()  # what is predicted one by one
    mixes_sizes = False  # whether a batch may hold images of several sizes

    def preprocess(
        self,
        inputs: list[Source],
        batch_size: int = 1,
        resolution: int | None = None,
        skipped: list[dict] | None = None,
    ) -> Iterator[tuple[list[tuple[Source, np.ndarray]], dict]]:
        """Yield batches: the sources, each with its pixels as read, and the collated batch for the model.

        Args:
            inputs: what to read.
            batch_size: the most images of a batch.
            resolution: test resolution in pixels.
            skipped: takes ``path`` and ``reason`` of what cannot be read.
        """
        pipeline = self.make_pipeline(resolution)
        chunk: list[tuple] = []
        for source, pixels, packed in self._load(inputs, pipeline, [] if skipped is None else skipped):
            if chunk and not self._go_together(chunk[0][2], packed):
                yield self._collate(chunk)
                chunk = []
            chunk.append((source, pixels, packed))
            if len(chunk) == batch_size:
                yield self._collate(chunk)
                chunk = []
        if chunk:
            yield self._collate(chunk)

    def pixels(self, results: dict) -> np.ndarray:
        """Return what is drawn on, of what a pipeline read: uint8, BGR, ``(H, W, 3)``."""
        return results['img'].clip(0, 255).astype(np.uint8, copy=False)

    def _inputs_to_list(self, inputs: object) -> list[Source]:
        return self.kind.list(inputs)

    def _load(
        self, sources: list[Source], pipeline: InputPipeline, skipped: list[dict]
    ) -> Iterator[tuple[Source, np.ndarray, dict]]:
        """Yield source, pixels as read, and packed input of the model, of all that can be read."""
        for source in self._progress(sources, skipped):
            try:
                results = pipeline.load(source)
            except InputError as error:
                if not source.optional:
                    raise InputError(
                        f'cannot read {source.path} ({error}): repair the file or give another'
                    ) from error
                skip(source.path, str(error), skipped)
                continue
            pixels = self.pixels(results)
            yield source, pixels, pipeline.prepare(results)

    def _progress(self, sources: list[Source], skipped: list[dict]) -> Iterable[Source]:
        total, console = self.kind.count(sources), Console(stderr=True)
        singly = self.kind.expand(sources, skipped)
        return track(singly, 'Inference', total, console=console, disable=not self.show_progress)

    def _go_together(self, first: dict, other: dict) -> bool:
        return self.mixes_sizes or first['inputs'].shape == other['inputs'].shape

    def _collate(self, chunk: list[tuple]) -> tuple[list, dict]:
        items = [(source, pixels) for source, pixels, _ in chunk]
        return items, self.collate_fn([packed for _, _, packed in chunk])
