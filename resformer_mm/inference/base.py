"""What the inferencers of all tasks share."""

from __future__ import annotations

import dataclasses
import logging
import time
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.infer import BaseInferencer
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer
from torch import nn

from resformer_mm.checkpoints.models import load_model
from resformer_mm.config.files import enter_scope, read_config
from resformer_mm.config.resolutions import check_resolutions, pipeline_at_resolution, test_dataset

from .batches import InputBatches
from .devices import check_device, check_display
from .meta import class_meta
from .pipelines import ImagePipeline, InputPipeline
from .results import ResultFolder
from .sources import Source


class ResolutionInferencer(InputBatches, BaseInferencer):
    """Predict on images at any resolution.

    A call takes a path, a BGR uint8 array ``(H, W, 3)``, a folder, a video file (predicted frame by frame) or
    a list of them, and these keywords:

    - ``resolution``: test resolution in pixels; None is that of the config.
    - ``batch_size``: images of one forward pass; fewer where neighbours differ in size, so that no image is
      padded for another's sake (detectors pad, as in their tests).
    - ``return_datasamples``: the library's data samples in place of dicts.
    - ``return_vis``, ``show``, ``out_dir``: return drawings, show them in a window, write them with
      ``predictions.json`` to a folder.

    It returns a dict: ``predictions``, one dict per image, with its ``path`` (and ``frame``) and
    ``resolution``; ``visualization``, the drawings, RGB; ``skipped``, the ``path`` and ``reason`` of every
    file of a folder that cannot be read; and ``forward_ms``, the milliseconds that the model took on its
    device for all images.

    Args:
        model: config file, or config.
        weights: checkpoint file; without it the predictions are those of the initial weights.
        device: where the model runs; by default a GPU if there is one.
        cfg_options: overrides of the config.
        show_progress: whether a call shows a progress bar, on the standard error.

    Raises:
        FileNotFoundError: there is no such config.
        CheckpointError: the checkpoint cannot be read safely, or does not fit the model.
        ValueError: the config has no test pipeline that starts with loading an image, its classes are not
            those of the model, or there is no such device.
    """

    preprocess_kwargs = {'resolution'}
    visualize_kwargs = {'show', 'wait_time'}

    default_visualizer = 'Visualizer'

    def __init__(
        self,
        model: str | Path | Config,
        weights: str | Path | None = None,
        device: str | torch.device | None = None,
        cfg_options: dict | None = None,
        show_progress: bool = False,
    ) -> None:
        cfg = read_config(model, cfg_options)
        check_device(device)
        enter_scope(cfg)
        super().__init__(cfg, weights, device, cfg.get('default_scope', 'mmengine'), show_progress)

    def __call__(
        self,
        inputs: str | Path | np.ndarray | Sequence,
        return_datasamples: bool = False,
        batch_size: int = 1,
        return_vis: bool = False,
        out_dir: str | Path | None = None,
        **kwargs,
    ) -> dict:
        """Predict; see the class.

        Raises:
            FileNotFoundError: there is no such file or folder.
            InputError: a file that is named directly cannot be read, an array is no image, or a folder holds
                none.
            ValueError: the resolution is no positive integer or below one patch, or the batch is empty.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, got {batch_size}')
        preprocess, forward, visualize, postprocess = self._dispatch_kwargs(**kwargs)
        draws = return_vis or out_dir is not None or visualize.get('show', False)
        results = {'predictions': [], 'visualization': [], 'skipped': [], 'forward_ms': 0.0}
        sources = self._inputs_to_list(inputs)
        batches = self.preprocess(sources, batch_size, skipped=results['skipped'], **preprocess)
        folder = None if out_dir is None else ResultFolder(out_dir)
        resolution = preprocess.get('resolution') or self.default_resolution
        for items, batch in batches:
            start = self._now()
            samples = self.forward(batch, **forward)
            results['forward_ms'] += 1000 * (self._now() - start)
            drawn = self.visualize(items, samples, **visualize) if draws else []
            found = self.postprocess(samples, drawn, **postprocess)['predictions']
            sides = [resolution] * len(items) if resolution else _short_sides(batch)
            found = [
                {**_origin(source, side), **found} for (source, _), side, found in zip(items, sides, found)
            ]
            results['predictions'] += samples if return_datasamples else found
            results['visualization'] += drawn if return_vis else []
            if folder is not None:
                for (source, _), prediction, picture in zip(items, found, drawn):
                    folder.add(source, prediction, picture)
        if folder is not None:
            folder.finish(skipped=results['skipped'])
        return results

    @property
    def classes(self) -> Sequence[str] | None:
        """Names of the classes: of the checkpoint, else of the config's data set, else None."""
        return self.dataset_meta.get('classes')

    @property
    def patch_size(self) -> int | None:
        """Side of a patch of the backbone in pixels, if it has patches: the smallest resolution."""
        size = getattr(getattr(self.model, 'backbone', None), 'patch_size', None)
        return max(size[-2:]) if isinstance(size, (tuple, list)) else size

    @cached_property
    def default_resolution(self) -> int | None:
        """Short side in pixels of what the model gets, without a resolution, of a square picture.

        None where the config gives every picture to the model at its own size.
        """
        pipeline, example = self.make_pipeline(), self._example()
        sides = set()
        for step in (1, 2):
            source = dataclasses.replace(example, array=example.array[..., ::step, ::step, :])
            sides.add(min(pipeline.prepare(pipeline.load(source))['inputs'].shape[-2:]))
        return sides.pop() if len(sides) == 1 else None

    @torch.no_grad()
    def forward(self, inputs: dict, **kwargs) -> list[BaseDataElement]:
        """Return the data samples of a collated batch, with predictions."""
        return self.model.test_step(inputs)

    def make_pipeline(self, resolution: int | None = None) -> InputPipeline:
        """Return the config's test pipeline at a resolution.

        Raises:
            ValueError: the resolution is no positive integer, or below one patch.
        """
        transforms = test_dataset(self.cfg)['pipeline']
        if resolution is not None:
            check_resolutions([resolution], 'resolution')
            if self.patch_size and resolution < self.patch_size:
                raise ValueError(
                    f'a resolution of {resolution} pixels is below one patch of {self.patch_size} x '
                    f'{self.patch_size}: choose at least {self.patch_size}'
                )
            transforms = pipeline_at_resolution(transforms, resolution)
        with DefaultScope.overwrite_default_scope(self.scope):
            return self.build_pipeline(transforms)

    def build_pipeline(self, transforms: Sequence[dict]) -> InputPipeline:
        """Return a pipeline from the configs of its transforms."""
        return ImagePipeline(transforms)

    def visualize(
        self,
        inputs: list[tuple[Source, np.ndarray]],
        preds: list[BaseDataElement],
        show: bool = False,
        wait_time: float = 0,
    ) -> list[np.ndarray]:
        """Return the drawn predictions of a batch, RGB; on request also show them in a window.

        Raises:
            ValueError: ``show`` where there is no display.
        """
        if show:
            check_display()
        drawn = [self.draw(pixels, sample) for (_, pixels), sample in zip(inputs, preds)]
        if show:
            for (source, _), picture in zip(inputs, drawn):
                self.show(picture, source.path or 'array', wait_time)
        return drawn

    def show(self, picture: np.ndarray, name: str, wait_time: float) -> None:
        """Show a drawing for some seconds; 0 waits for a key."""
        self.visualizer.show(picture, name, wait_time)

    def postprocess(
        self,
        preds: list[BaseDataElement],
        visualization: list[np.ndarray],
        return_datasamples: bool = False,
        **kwargs,
    ) -> dict:
        """Return the data samples of a batch as plain dicts, with their drawings."""
        predictions = preds if return_datasamples else [self.to_dict(sample, **kwargs) for sample in preds]
        return {'predictions': predictions, 'visualization': visualization}

    @abstractmethod
    def to_dict(self, sample: BaseDataElement) -> dict:
        """Return the prediction in a data sample as a plain dict."""

    @abstractmethod
    def draw(self, pixels: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        """Return the picture with the prediction drawn on it, RGB, from the pixels as read, BGR."""

    @abstractmethod
    def entries(self, prediction: dict) -> list[tuple[str, float]]:
        """Return what was found and how much of it: a name with its score, or its part, largest first."""

    def headline(self, prediction: dict) -> str:
        """Return a prediction in a few words."""
        entries = self.entries(prediction)
        return entries[0][0] if entries else 'nothing'

    def describe(self, prediction: dict, limit: int = 5) -> str:
        """Return the largest entries of a prediction in one line."""
        entries = self.entries(prediction)
        rest = f' and {len(entries) - limit} more' if len(entries) > limit else ''
        return ', '.join(f'{name} {value:.3f}' for name, value in entries[:limit]) + rest or 'nothing'

    def _example(self) -> Source:
        return self.kind.example()

    def _now(self) -> float:
        device = next(self.model.parameters()).device
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def _init_model(self, cfg: Config, weights: str | Path | None, device: str = 'cpu') -> nn.Module:
        model = load_model(cfg, weights, device)
        if weights is None:
            text = 'no checkpoint is given: predictions are those of the initial weights'
            print_log(text, logger='current', level=logging.WARNING)
        meta = class_meta(cfg)
        meta.update({key.lower(): value for key, value in model.dataset_meta.items()})
        self.dataset_meta = model.dataset_meta = meta
        return model

    def _init_collate(self, cfg: Config) -> object:
        # Leaves the images in a list, which every library's data preprocessor takes.
        return pseudo_collate

    def _init_pipeline(self, cfg: Config) -> InputPipeline:
        self.cfg = cfg
        return self.make_pipeline()

    def _init_visualizer(self, cfg: Config) -> Visualizer:
        # Without the backends of training runs: a prediction is no entry of a training log.
        settings = {'type': self.default_visualizer, **cfg.get('visualizer', {}), 'vis_backends': None}
        visualizer = super()._init_visualizer(Config(dict(visualizer=settings)))
        visualizer.dataset_meta = self.dataset_meta
        return visualizer


def _short_sides(batch: dict) -> list[int]:
    return [min(image.shape[-2:]) for image in batch['inputs']]


def _origin(source: Source, resolution: int) -> dict:
    """Return what a prediction says of how it came about."""
    frame = {} if source.frame is None else {'frame': source.frame}
    return {'path': source.path, **frame, 'resolution': resolution}
