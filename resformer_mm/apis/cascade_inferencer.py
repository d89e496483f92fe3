"""Image classification at as small a resolution as the model is sure of."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement

from resformer_mm.analysis.complexity import count_complexity
from resformer_mm.cascade import CascadeRule
from resformer_mm.inference.sources import Source
from resformer_mm.tasks.classification.inferencer import ClassificationInferencer


class CascadeInferencer(ClassificationInferencer):
    """Try every image at the first resolution of a cascade, and larger ones as long as the model is unsure.

    Resolutions, thresholds and confidence are the field ``cascade`` of the config, which
    ``tools/analysis_tools/fit_cascade.py`` fits and writes. A prediction says at which ``resolution`` it was
    made; the result has ``cascade``: ``mean_gflops`` of an image, counting every resolution that it went
    through, and ``reached``, the fraction of the images that reached each resolution. For the rest see
    :class:`ClassificationInferencer`; a call takes no ``resolution``.

    Args:
        model: config file, or config, with a field ``cascade``.
        weights: checkpoint file.
        device: where the model runs; by default a GPU if there is one.
        cfg_options: overrides of the config.
        show_progress: whether a call shows a progress bar.

    Raises:
        ValueError: the config has no ``cascade``, or a bad one.
    """

    preprocess_kwargs: set[str] = set()

    def __init__(
        self,
        model: str | Path | Config,
        weights: str | Path | None = None,
        device: str | torch.device | None = None,
        cfg_options: dict | None = None,
        show_progress: bool = False,
    ) -> None:
        super().__init__(model, weights, device, cfg_options, show_progress)
        if self.cfg.get('cascade') is None:
            raise ValueError(
                f'{self.cfg.filename or "the config"} has no `cascade`: give dict(resolutions=[...], '
                'thresholds=[...]), or let tools/analysis_tools/fit_cascade.py write a config that has one'
            )
        self.rule = CascadeRule(**self.cfg.cascade)
        self.pipelines = {r: self.make_pipeline(r) for r in self.rule.resolutions}
        self._gflops: dict[int, float] = {}

    def __call__(self, *args, **kwargs) -> dict:
        """Predict; see the class.

        Raises:
            TypeError: a ``resolution`` is given.
            ValueError, InputError, FileNotFoundError: as :class:`ResolutionInferencer` says.
        """
        if 'resolution' in kwargs:
            raise TypeError('a cascade chooses the resolution of each image itself')
        self._reached = dict.fromkeys(self.rule.resolutions, 0)
        results = super().__call__(*args, **kwargs)
        images = self._reached[self.rule.resolutions[0]]
        parts = {r: number / images if images else 0.0 for r, number in self._reached.items()}
        mean = sum(part * self.gflops(resolution) for resolution, part in parts.items())
        results['cascade'] = {'mean_gflops': mean, 'reached': parts}
        return results

    def make_pipeline(self, resolution: int | None = None):
        """Return the config's test pipeline at a resolution; by default the first of the cascade."""
        rule = getattr(self, 'rule', None)
        return super().make_pipeline(resolution if resolution or rule is None else rule.resolutions[0])

    def gflops(self, resolution: int) -> float:
        """Return the multiply-adds of one image at a resolution, in 10^9."""
        if resolution not in self._gflops:
            pipeline = self.pipelines[resolution]
            _, batch = super()._collate([(None, None, pipeline.prepare(pipeline.load(self._example())))])
            data = self.model.data_preprocessor(batch, training=False)
            counted = count_complexity(self.model, data['inputs'], data['data_samples'])
            self._gflops[resolution] = counted.flops / 1e9
        return self._gflops[resolution]

    def _collate(self, chunk: list[tuple]) -> tuple[list, dict]:
        items, batch = super()._collate(chunk)
        return items, {'pixels': [pixels for _, pixels in items], 'batch': batch}

    @torch.no_grad()
    def forward(self, inputs: dict, **kwargs) -> list[BaseDataElement]:
        """Return the data samples of a batch, each from the first resolution that is sure of it."""
        left = np.arange(len(inputs['pixels']))
        batch, kept = inputs['batch'], {}
        for stage, resolution in enumerate(self.rule.resolutions):
            if stage:
                batch = self._prepare([inputs['pixels'][index] for index in left], resolution)
            self._reached[resolution] += len(left)
            samples = self.model.test_step(batch)
            sure = (
                self.rule.is_sure(stage, torch.stack([sample.pred_score for sample in samples])).cpu().numpy()
            )
            for index, sample, is_sure in zip(left, samples, sure):
                if is_sure:
                    sample.set_field(resolution, 'test_resolution', field_type='metainfo')
                    kept[index] = sample
            left = left[~sure]
            if not len(left):
                break
        return [kept[index] for index in range(len(kept))]

    def _prepare(self, pictures: list[np.ndarray], resolution: int) -> dict:
        pipeline = self.pipelines[resolution]
        chunk = [(None, None, pipeline.prepare(pipeline.load(Source(array=copy.copy(p))))) for p in pictures]
        return super()._collate(chunk)[1]

    def describe(self, prediction: dict) -> str:
        """Return the best classes with their scores, and the resolution."""
        return f'{super().describe(prediction)} (at {prediction["resolution"]})'

    def to_dict(self, sample: BaseDataElement, topk: int = 5) -> dict:
        """Return label, class name and score of the best classes, and the resolution that they come from."""
        return {'resolution': sample.test_resolution, **super().to_dict(sample, topk)}
