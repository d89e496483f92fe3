"""Inferencer of classification cascades."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement

from resformer_mm.analysis.complexity import count_complexity
from resformer_mm.cascade import CascadeRule
from resformer_mm.inference.pipelines import Batch
from resformer_mm.inference.sources import Source
from resformer_mm.tasks.classification.inferencer import ClassificationInferencer


class CascadeInferencer(ClassificationInferencer):
    """Classify every image at the first resolution of a cascade at which the model is sure.

    Resolutions, thresholds and confidence are the field ``cascade`` of the config, which
    ``tools/analysis_tools/fit_cascade.py`` fits and writes. A prediction says at which ``resolution`` it was
    made; the result has ``cascade``: ``mean_gflops`` of an image, counting every resolution that it went
    through, and ``reached``, the fraction of the images that reached each resolution. For the rest see
    :class:`ClassificationInferencer`; a call takes no ``resolution``.

    Args:
        config: config file, or config, with a field ``cascade``.
        checkpoint: checkpoint file.
        device: where the model runs; by default a GPU if there is one.
        cfg_options: overrides of the config.
        show_progress: whether a call shows a progress bar.

    Raises:
        ValueError: the config has no ``cascade``, or a bad one.
    """

    preprocess_kwargs: set[str] = set()

    def __init__(
        self,
        config: str | Path | Config,
        checkpoint: str | Path | None = None,
        device: str | torch.device | None = None,
        cfg_options: dict | None = None,
        show_progress: bool = False,
    ) -> None:
        super().__init__(config, checkpoint, device, cfg_options, show_progress)
        if self.cfg.get('cascade') is None:
            raise ValueError(
                f'{self.cfg.filename or "the config"} has no `cascade`: give dict(resolutions=[...], '
                'thresholds=[...]), or let tools/analysis_tools/fit_cascade.py write a config that has one'
            )
        self.rule = CascadeRule(**self.cfg.cascade)
        self.readers = {resolution: self.make_reader(resolution) for resolution in self.rule.resolutions}
        self._gflops: dict[int, float] = {}

    def __call__(
        self, inputs: str | Path | np.ndarray | Sequence, return_datasamples: bool = False, *args, **kwargs
    ) -> dict:
        """Predict; see the class.

        Raises:
            TypeError: a ``resolution`` is given.
            ValueError, InputError, FileNotFoundError: as :class:`ResolutionInferencer` says.
        """
        if 'resolution' in kwargs:
            raise TypeError('a cascade chooses the resolution of each image itself')
        results = super().__call__(inputs, return_datasamples, *args, **kwargs)
        stops = Counter(
            found.test_resolution if return_datasamples else found['resolution']
            for found in results['predictions']
        )
        images = max(1, stops.total())
        reached = {
            resolution: sum(stops[later] for later in self.rule.resolutions[stage:]) / images
            for stage, resolution in enumerate(self.rule.resolutions)
        }
        mean = sum(part * self.gflops(resolution) for resolution, part in reached.items())
        results['cascade'] = {'mean_gflops': mean, 'reached': reached}
        return results

    def preprocess(
        self, inputs: list[Source], batch_size: int = 1, skipped: list[dict] | None = None
    ) -> Iterator[Batch]:
        """Return batches of the sources at the first resolution."""
        reader = self.readers[self.rule.resolutions[0]]
        return reader.batches(inputs, batch_size, [] if skipped is None else skipped, self.show_progress)

    @torch.no_grad()
    def forward(self, inputs: Batch, **kwargs) -> list[BaseDataElement]:
        """Return the data samples of a batch, each from the first resolution that is sure of it."""
        left = np.arange(len(inputs.sources))
        batches, kept = [inputs], {}
        for stage, resolution in enumerate(self.rule.resolutions):
            if stage:
                # Copies: the pixels are drawn on later, and transforms may work in place.
                again = [Source(array=inputs.pixels[index].copy()) for index in left]
                batches = self.readers[resolution].batches(again, len(again), [])
            samples = []
            for batch in batches:
                samples += super().forward(batch)
            scores = torch.stack([sample.pred_score for sample in samples])
            sure = self.rule.is_sure(stage, scores).cpu().numpy()
            for index, sample, is_sure in zip(left, samples, sure):
                if is_sure:
                    sample.set_field(resolution, 'test_resolution', field_type='metainfo')
                    kept[index] = sample
            left = left[~sure]
            if not len(left):
                break
        return [kept[index] for index in range(len(kept))]

    def gflops(self, resolution: int) -> float:
        """Return the multiply-adds of one image at a resolution, in 10^9."""
        if resolution not in self._gflops:
            (batch,) = self.readers[resolution].batches([self.source_kind.example()], 1, [])
            data = self.model.data_preprocessor(batch.data, training=False)
            counted = count_complexity(self.model, data['inputs'], data['data_samples'])
            self._gflops[resolution] = counted.flops / 1e9
        return self._gflops[resolution]

    def to_dict(self, sample: BaseDataElement, topk: int = 5) -> dict:
        """Return label, class name and score of the best classes, and the resolution that they come from."""
        return {'resolution': sample.test_resolution, **super().to_dict(sample, topk)}

    def describe(self, prediction: dict, limit: int | None = None) -> str:
        """Return the best classes with their scores, and the resolution."""
        return f'{super().describe(prediction, limit)} (at {prediction["resolution"]})'
