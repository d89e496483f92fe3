"""Inferencer of classification cascades."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement

from resformer_mm.analysis.complexity import count_complexity
from resformer_mm.cascade import CascadeRule
from resformer_mm.inference.pipelines import Batch, BatchReader
from resformer_mm.inference.sources import Inputs, Source
from resformer_mm.tasks.classification.inferencer import ClassificationInferencer


class CascadeInferencer(ClassificationInferencer):
    """Inferencer that classifies each image at the first resolution of a cascade with enough confidence.

    Resolutions, thresholds and confidence measure are the field ``cascade`` of the config, which
    ``tools/analysis_tools/fit_cascade.py`` fits and writes. ``resolution`` of a prediction is the resolution
    at which it was made. The result also has ``cascade``: ``mean_gflops``, the mean cost of an image over
    all resolutions at which it was processed, and ``reached``, the fraction of the images that reached each
    resolution. For the rest see :class:`ClassificationInferencer`; a call does not take ``resolution``.

    Args:
        config: config file, or config, with a field ``cascade``.
        checkpoint: checkpoint file.
        device: device of the model; by default a GPU if there is one.
        cfg_options: overrides of the config.
        show_progress: whether a call shows a progress bar.
        dtype: as in :class:`ResolutionInferencer`.

    Raises:
        ValueError: the config has no ``cascade``, or it is invalid.
    """

    preprocess_kwargs: set[str] = set()

    def __init__(
        self,
        config: str | Path | Config,
        checkpoint: str | Path | None = None,
        device: str | torch.device | None = None,
        cfg_options: dict | None = None,
        show_progress: bool = False,
        dtype: str | None = None,
    ) -> None:
        super().__init__(config, checkpoint, device, cfg_options, show_progress, dtype)
        if self.cfg.get('cascade') is None:
            raise ValueError(
                f'{self.cfg.filename or "the config"} has no `cascade`: set it to dict(resolutions=[...], '
                'thresholds=[...]), or use a config written by tools/analysis_tools/fit_cascade.py'
            )
        self.rule = CascadeRule(**self.cfg.cascade)
        self.readers = {resolution: self.make_reader(resolution) for resolution in self.rule.resolutions}
        self._gflops: dict[int, float] = {}

    def __call__(self, inputs: Inputs, return_datasamples: bool = False, *args, **kwargs) -> dict:
        """Predict; see the class.

        Raises:
            TypeError: a ``resolution`` is given.
            ValueError, InputError, FileNotFoundError: see :class:`ResolutionInferencer`.
        """
        if 'resolution' in kwargs:
            raise TypeError('a cascade chooses the resolution of each image itself')
        results = super().__call__(inputs, return_datasamples, *args, **kwargs)
        results['cascade'] = self.costs(
            found.test_resolution if return_datasamples else found['resolution']
            for found in results['predictions']
        )
        return results

    def costs(self, resolutions: Iterable[int]) -> dict:
        """Return ``mean_gflops`` and ``reached``, see the class, given the resolution of each prediction."""
        stops = Counter(resolutions)
        images = max(1, stops.total())
        reached = {
            resolution: sum(stops[later] for later in self.rule.resolutions[stage:]) / images
            for stage, resolution in enumerate(self.rule.resolutions)
        }
        mean = sum(part * self.gflops(resolution) for resolution, part in reached.items())
        return {'mean_gflops': mean, 'reached': reached}

    def make_reader(self, resolution: int | None = None) -> BatchReader:
        """Return a reader of sources at a resolution; None is the first resolution of the cascade."""
        if resolution is None:
            return self.readers[self.rule.resolutions[0]]
        return super().make_reader(resolution)

    @torch.no_grad()
    def forward(self, inputs: Batch) -> list[BaseDataElement]:
        """Return the data samples of a batch, each from the first resolution with enough confidence."""
        left = np.arange(len(inputs.sources))
        batches: Iterable[Batch] = [inputs]
        kept: dict[int, BaseDataElement] = {}
        for stage, resolution in enumerate(self.rule.resolutions):
            if stage:
                # Copies, because transforms may work in place and the pixels are still needed for drawings.
                again = [Source(array=inputs.pixels[index].copy()) for index in left]
                batches = self.readers[resolution].batches(again, len(again), [])
            samples = []
            for batch in batches:
                samples += super().forward(batch)
            scores = torch.stack([sample.pred_score for sample in samples])
            sure = self.rule.is_sure(stage, scores).cpu().numpy()
            for index, sample, is_sure in zip(left.tolist(), samples, sure):
                if is_sure:
                    sample.set_field(resolution, 'test_resolution', field_type='metainfo')
                    kept[index] = sample
            left = left[~sure]
            if not len(left):
                break
        return [kept[index] for index in range(len(kept))]

    def gflops(self, resolution: int) -> float:
        """Return the multiply-adds of one image at a resolution, in units of 10^9."""
        if resolution not in self._gflops:
            (batch,) = self.readers[resolution].batches([self.source_kind.example()], 1, [])
            data = self.model.data_preprocessor(batch.data, training=False)
            counted = count_complexity(self.model, data['inputs'], data['data_samples'])
            self._gflops[resolution] = counted.flops / 1e9
        return self._gflops[resolution]

    def to_dict(self, sample: BaseDataElement, topk: int = 5) -> dict:
        """Return label, class name and score of the best classes, and the resolution used."""
        return {'resolution': sample.test_resolution, **super().to_dict(sample, topk)}

    def describe(self, prediction: dict, limit: int | None = None) -> str:
        """Return the best classes with their scores, and the resolution."""
        return f'{super().describe(prediction, limit)} (at {prediction["resolution"]})'
