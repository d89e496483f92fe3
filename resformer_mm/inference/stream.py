"""Predictions one after another, so that long videos and large folders need little memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from mmengine.structures import BaseDataElement

from .pipelines import Batch
from .results import ResultFolder
from .sliced_images import SlicedImage
from .sources import InputError, Source, skip


class WrongModelError(ValueError):
    """A model that does not predict what its task needs."""


@dataclass(frozen=True)
class Result:
    """The prediction on one input.

    Attributes:
        source: the input.
        prediction: the prediction as a plain dict, with the entries that identify the input.
        sample: the data sample of the library.
        drawn: the drawing, RGB; None if nothing was to be drawn.
    """

    source: Source
    prediction: dict
    sample: BaseDataElement
    drawn: np.ndarray | None


class PredictionStream:
    """An iterable of results, which are computed when they are asked for and not kept.

    An input of a folder on which the pipeline or the model fails is skipped with the reason. If the input was
    given by its path, that is an error.

    Args:
        batches: the batches of the inputs, or the images that are predicted slice by slice; they may add to
            ``skipped``.
        predict: function from a batch to its results and the milliseconds of the forward pass.
        split: function from a batch to batches of one input each.
        skipped: path and reason of the inputs without a prediction.
        folder: folder that the results are written to.

    Attributes:
        skipped: path and reason of the inputs without a prediction so far.
        forward_ms: milliseconds of the forward passes so far.
        num_predictions: number of results so far.
    """

    def __init__(
        self,
        batches: Iterable[Batch] | Iterable[SlicedImage],
        predict: Callable[[Batch | SlicedImage], tuple[list[Result], float]],
        split: Callable[[Batch], list[Batch]],
        skipped: list[dict],
        folder: ResultFolder | None,
    ) -> None:
        self._batches, self._predict, self._split, self._folder = batches, predict, split, folder
        self.skipped = skipped
        self.forward_ms = 0.0
        self.num_predictions = 0

    def __iter__(self) -> Iterator[Result]:
        """Predict and yield the results.

        Raises:
            InputError: an input that was given by its path cannot be read or predicted.
            ValueError: the model does not predict what its task needs.
        """
        try:
            for batch in self._batches:
                for result in self._results(batch):
                    self.num_predictions += 1
                    if self._folder is not None and result.drawn is not None:
                        self._folder.add(result.source, result.prediction, result.drawn)
                    yield result
        finally:
            if isinstance(self._batches, Generator):
                self._batches.close()  # ends the progress bar before an error is printed
            if self._folder is not None:
                self._folder.finish(skipped=self.skipped)

    def _results(self, batch: Batch | SlicedImage) -> list[Result]:
        try:
            results, milliseconds = self._predict(batch)
        except WrongModelError:
            raise
        except Exception as error:  # of any layer or library
            if isinstance(batch, Batch) and len(batch.sources) > 1:
                return [result for single in self._split(batch) for result in self._results(single)]
            (source,) = batch.sources
            reason = f'{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ""}'
            if source.path is None:
                raise
            if not source.optional:
                raise InputError(f'cannot predict {source.path} ({reason})') from error
            skip(source, reason, self.skipped)
            return []
        self.forward_ms += milliseconds
        return results
