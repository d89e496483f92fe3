"""Base class of the inferencers of all tasks."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.infer import BaseInferencer
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer

from resformer_mm.checkpoints.models import build_model
from resformer_mm.compat.synchronizing import synchronize
from resformer_mm.config.files import enter_scope, read_config
from resformer_mm.config.inference_dtype import FIELD, read_inference_dtype
from resformer_mm.config.resolutions import pipeline_at_resolution, test_dataset
from resformer_mm.engine.class_meta import class_meta
from resformer_mm.engine.inference_dtype import set_inference_dtype
from resformer_mm.libraries import drawing_type
from resformer_mm.models.layers import PatchEmbed

from .devices import check_device, check_display
from .pipelines import Batch, BatchReader, ImagePipeline, InputPipeline
from .results import ResultFolder
from .sliced_images import SlicedImage, SliceReader
from .slicing import DEFAULT_OVERLAP, SliceGrid, SliceMerger, check_slices
from .sources import ImageSources, Inputs, Source
from .stream import PredictionStream, Result, WrongModelError


class ResolutionInferencer(BaseInferencer):
    """Base class for prediction on images at any resolution.

    A call takes a path, a BGR uint8 array ``(H, W, 3)``, a folder, a video file (predicted frame by frame) or
    a list of them, and these keywords:

    - ``resolution``: test resolution in pixels; None is the resolution of the config.
    - ``batch_size``: maximum number of images per forward pass. Consecutive images of different sizes are not
      batched, because one would be padded to the size of another (detectors do pad, as in their tests).
    - ``slice``, ``overlap``: side in pixels of the slices that large images are predicted in, and the least
      part of a slice that the next one shows, too (0.2). Each slice is prepared as an image of its size is,
      so ``resolution`` is that of a slice, and ``batch_size`` counts slices. Segmentation and detection only.
    - ``return_datasamples``: return the library's data samples instead of dicts.
    - ``return_vis``, ``show``, ``out_dir``: return drawings, show them in a window, write them with
      ``predictions.json`` to a folder.

    It returns a dict: ``predictions``, one dict per image, with its ``path`` (and ``frame``) and
    ``resolution``; ``visualization``, the drawings, RGB; ``skipped``, the ``path`` and ``reason`` of every
    file in a folder that cannot be read or predicted; and ``forward_ms``, the total time of the forward
    passes in milliseconds. :meth:`stream` yields the same one by one and keeps nothing, for long videos and
    large folders.

    The inferencer of another task is a subclass that implements three methods: :meth:`to_dict`, :meth:`draw`
    and :meth:`entries`. It is registered with :func:`resformer_mm.libraries.register_task`. Everything else
    has a default, which a subclass changes if its task differs:

    - ``output``: field of the data samples that :meth:`to_dict` needs. Models without it are rejected.
    - ``default_visualizer``: type of the visualizer that :meth:`draw` needs.
    - ``forward_kwargs``, ``postprocess_kwargs``: further keywords of a call, passed to :meth:`forward` and
      :meth:`to_dict`.
    - ``mixes_sizes``: whether a batch may hold images of several sizes.
    - ``merger_class``: class that merges the predictions on slices; None refuses ``slice``.
    - ``source_kind``, ``pipeline_class``: kind of the inputs, and the pipeline that reads them.
    - :meth:`class_meta`: names and colours of the classes, with checks.
    - :meth:`headline`, :meth:`describe`: a prediction as text.
    - :meth:`to_files`, :meth:`legend`: what is written to a result folder.

    Args:
        config: config file, or config.
        checkpoint: checkpoint file; without it the model keeps its initial weights.
        device: device of the model; by default a GPU if there is one.
        cfg_options: overrides of the config.
        show_progress: whether a call shows a progress bar on the standard error.
        dtype: type in which the model predicts, 'float32', 'bfloat16' or 'float16'; by default
            ``inference_dtype`` of the config. See
            :func:`~resformer_mm.engine.inference_dtype.set_inference_dtype`.

    Raises:
        FileNotFoundError: there is no such config.
        CheckpointError: the checkpoint cannot be read safely, or does not fit the model.
        ValueError: the config has no test pipeline that starts by loading an image, its classes do not match
            the model, or there is no such device or type.
    """

    preprocess_kwargs = {'resolution'}
    visualize_kwargs = {'show', 'wait_time'}

    output: str | None = None
    default_visualizer = 'Visualizer'
    mixes_sizes = False
    merger_class: Callable[[SliceGrid, BaseModel], SliceMerger] | None = None
    source_kind = ImageSources()
    pipeline_class: Callable[[Sequence[dict]], InputPipeline] = ImagePipeline

    def __init__(
        self,
        config: str | Path | Config,
        checkpoint: str | Path | None = None,
        device: str | torch.device | None = None,
        cfg_options: dict | None = None,
        show_progress: bool = False,
        dtype: str | None = None,
    ) -> None:
        cfg = read_config(config, cfg_options)
        if dtype is not None:
            cfg[FIELD] = dtype
        read_inference_dtype(cfg)
        check_device(device)
        enter_scope(cfg)
        super().__init__(cfg, checkpoint, device, cfg.default_scope, show_progress)

    def __call__(
        self,
        inputs: Inputs,
        return_datasamples: bool = False,
        batch_size: int = 1,
        return_vis: bool = False,
        out_dir: str | Path | None = None,
        **kwargs,
    ) -> dict:
        """Predict; see the class.

        Raises:
            FileNotFoundError: there is no such file or folder.
            InputError: a file that was given by its path cannot be read, an array is not an image, or a
                folder has no images.
            ValueError: the resolution is not a positive integer or below one patch, ``batch_size`` is below
                1, or the model does not predict what the task needs.
        """
        stream = self.stream(inputs, batch_size, return_vis, out_dir, **kwargs)
        predictions: list = []
        visualization: list[np.ndarray] = []
        for result in stream:
            predictions.append(
                self.library_sample(result.sample) if return_datasamples else result.prediction
            )
            if return_vis and result.drawn is not None:
                visualization.append(result.drawn)
        return {
            'predictions': predictions,
            'visualization': visualization,
            'skipped': stream.skipped,
            'forward_ms': stream.forward_ms,
        }

    def stream(
        self,
        inputs: Inputs,
        batch_size: int = 1,
        return_vis: bool = False,
        out_dir: str | Path | None = None,
        slice: int | None = None,
        overlap: float = DEFAULT_OVERLAP,
        **kwargs,
    ) -> PredictionStream:
        """Return an iterable of :class:`~resformer_mm.inference.stream.Result`; nothing is kept.

        The arguments are those of a call. Files are written while it is iterated.

        Raises:
            FileNotFoundError, InputError, ValueError: see :meth:`__call__`; some are raised by the iteration.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, got {batch_size}')
        preprocess, forward, visualize, postprocess = self._dispatch_kwargs(**kwargs)
        draws = return_vis or out_dir is not None or visualize.get('show', False)
        skipped: list[dict] = []
        sources = self.source_kind.collect(inputs)
        resolution = preprocess.get('resolution')
        batches: Iterator[Batch] | Iterator[SlicedImage]
        if slice is None:
            batches = self.preprocess(sources, batch_size, skipped=skipped, **preprocess)
        else:
            batches = self.make_slice_reader(slice, overlap, resolution).images(
                sources, batch_size, skipped, self.show_progress
            )
        folder = None if out_dir is None else ResultFolder(out_dir, self.to_files, self.legend())
        resolution = resolution or self.default_resolution

        def timed(batch: Batch) -> tuple[list[BaseDataElement], float]:
            start = self._now()
            samples = self.forward(batch, **forward)
            return samples, 1000 * (self._now() - start)

        def predict(batch: Batch | SlicedImage) -> tuple[list[Result], float]:
            if isinstance(batch, SlicedImage):
                assert self.merger_class is not None
                sample, side, milliseconds = batch.predict(timed, self.merger_class, self.model)
                samples, sides = [sample], [resolution or side]
            else:
                samples, milliseconds = timed(batch)
                sides = [resolution or min(image.shape[-2:]) for image in batch.data['inputs']]
            drawn: Sequence = self.visualize(batch, samples, **visualize) if draws else [None] * len(samples)
            plain = self.postprocess(samples, [], **postprocess)['predictions']
            results = [
                Result(source, {**_origin(source, side), **entry}, sample, picture)
                for source, side, entry, sample, picture in zip(batch.sources, sides, plain, samples, drawn)
            ]
            return results, milliseconds

        return PredictionStream(batches, predict, self._split, skipped, folder)

    @property
    def classes(self) -> Sequence[str] | None:
        """Class names from the checkpoint, else from the config's data set, else None."""
        return self.dataset_meta.get('classes')

    @property
    def patch_size(self) -> int | None:
        """Side in pixels of the smallest patch, and image; None if the backbone has no patches."""
        backbone = getattr(self.model, 'backbone', None)
        if isinstance(embedding := getattr(backbone, 'patch_embed', None), PatchEmbed):
            return embedding.smallest_size
        size = getattr(backbone, 'patch_size', None)
        return max(size[-2:]) if isinstance(size, (tuple, list)) else size

    @cached_property
    def default_resolution(self) -> int | None:
        """Short side in pixels to which the config's pipeline resizes every square image.

        None if the pipeline does not resize images to one size.
        """
        sides = set()
        for side in (256, 128):
            source = self.source_kind.example(side)
            sides.add(min(self.pipeline(source)['inputs'].shape[-2:]))
        return sides.pop() if len(sides) == 1 else None

    def preprocess(
        self,
        inputs: list[Source],
        batch_size: int = 1,
        resolution: int | None = None,
        skipped: list[dict] | None = None,
    ) -> Iterator[Batch]:
        """Return batches of the sources; see :meth:`BatchReader.batches`.

        Raises:
            ValueError: the resolution is not a positive integer, or below one patch.
        """
        skipped = [] if skipped is None else skipped
        return self.make_reader(resolution).batches(inputs, batch_size, skipped, self.show_progress)

    def make_reader(self, resolution: int | None = None) -> BatchReader:
        """Return a reader of sources at a resolution; None is the resolution of the config.

        Raises:
            ValueError: the resolution is not a positive integer, or below one patch.
        """
        pipeline = self.pipeline if resolution is None else self.make_pipeline(resolution)
        return BatchReader(self.source_kind, pipeline, self.collate_fn, self.mixes_sizes)

    def make_slice_reader(self, size: int, overlap: float, resolution: int | None = None) -> SliceReader:
        """Return a reader of images that are predicted slice by slice.

        Args:
            size: side of a slice in pixels of the image.
            overlap: the least part of a slice that the next one also covers.
            resolution: resolution of a slice; None is that of the config.

        Raises:
            ValueError: the task predicts whole inputs, a slice is smaller than a patch, the overlap is not
                from 0 to 0.9, or the resolution is invalid.
        """
        if self.merger_class is None:
            raise ValueError(
                f'slice={size} does not apply to {type(self.model).__name__}, which has one answer for a '
                f'whole {self.source_kind.unit}: slices are for segmentation and detection'
            )
        check_slices(size, overlap, self.patch_size)
        return SliceReader(self.make_reader(resolution), size, overlap)

    def make_pipeline(self, resolution: int | None = None) -> InputPipeline:
        """Return the config's test pipeline at a resolution; None is the resolution of the config.

        Raises:
            ValueError: the resolution is not a positive integer, or below one patch.
        """
        transforms = test_dataset(self.cfg)['pipeline']
        if resolution is not None:
            transforms = pipeline_at_resolution(transforms, resolution)
            if self.patch_size and resolution < self.patch_size:
                raise ValueError(
                    f'a resolution of {resolution} pixels is below one patch of {self.patch_size} x '
                    f'{self.patch_size}: choose at least {self.patch_size}'
                )
        with DefaultScope.overwrite_default_scope(self.scope):
            return self.pipeline_class(transforms)

    @torch.no_grad()
    def forward(self, inputs: Batch) -> list[BaseDataElement]:
        """Return the data samples of a batch, with predictions.

        Raises:
            ValueError: the model does not predict ``output``.
        """
        samples = self.model.test_step(inputs.data)
        if self.output is not None and any(self.output not in sample for sample in samples):
            raise self._no_output(self.model)
        return samples

    def visualize(
        self,
        inputs: Batch | SlicedImage,
        preds: list[BaseDataElement],
        show: bool = False,
        wait_time: float = 0,
    ) -> list[np.ndarray]:
        """Return the drawn predictions of a batch, RGB; with ``show``, also show them in a window.

        Raises:
            ValueError: there is no display to show them on.
        """
        if show:
            check_display()
        drawn = [self.draw(pixels, sample) for pixels, sample in zip(inputs.pixels, preds)]
        if show:
            for source, picture in zip(inputs.sources, drawn):
                self.show(picture, source.path or 'array', wait_time)
        return drawn

    def show(self, picture: np.ndarray, name: str, wait_time: float) -> None:
        """Show a drawing in a window for ``wait_time`` seconds; 0 waits for a key."""
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

    def library_sample(self, sample: BaseDataElement) -> BaseDataElement:
        """Return a data sample in the form of the library, for ``return_datasamples``."""
        return sample

    def to_files(self, prediction: dict) -> dict:
        """Return a prediction as it is written to a result folder: arrays have the values of the data set."""
        return prediction

    def legend(self) -> dict | None:
        """Return the class of each value in written label maps, to be stored beside them."""
        return None

    @abstractmethod
    def to_dict(self, sample: BaseDataElement) -> dict:
        """Return the prediction in a data sample as a plain dict.

        An array in the dict is a label map, which a result folder stores as a PNG file.
        """

    @abstractmethod
    def draw(self, pixels: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        """Return the image with the prediction drawn on it, RGB, given the pixels as read, BGR."""

    @abstractmethod
    def entries(self, prediction: dict) -> list[tuple[str, float]]:
        """Return the parts of a prediction, each a name with a score or size, largest first."""

    def headline(self, prediction: dict) -> str:
        """Return a prediction in a few words."""
        entries = self.entries(prediction)
        return entries[0][0] if entries else 'nothing'

    def describe(self, prediction: dict, limit: int = 5) -> str:
        """Return the largest entries of a prediction in one line."""
        entries = self.entries(prediction)
        rest = f' and {len(entries) - limit} more' if len(entries) > limit else ''
        return ', '.join(f'{name} {value:.3f}' for name, value in entries[:limit]) + rest or 'nothing'

    def class_meta(self, model: BaseModel) -> dict:
        """Return ``classes``, ``palette`` and the like from the checkpoint, else from the config's data set.

        The names of the config are taken where they are as many as the classes of the model, and those of the
        checkpoint are not.

        Raises:
            ValueError: the config has no test data set.
        """
        return class_meta(model, self.scope)

    def _split(self, batch: Batch) -> list[Batch]:
        return batch.split(self.collate_fn)

    def _no_output(self, model: BaseModel) -> WrongModelError:
        return WrongModelError(
            f'{type(model).__name__} does not predict `{self.output}`, which {type(self).__name__} '
            'needs: use another model, or register its task with resformer_mm.libraries.register_task'
        )

    def _now(self) -> float:
        synchronize(next(self.model.parameters()).device)
        return time.perf_counter()

    def _init_model(self, cfg: Config, weights: str | Path | None, device: str = 'cpu') -> BaseModel:
        model: BaseModel = build_model(cfg, weights, device)
        if weights is None:
            text = 'no checkpoint was given: the model predicts with its initial weights'
            print_log(text, logger='current', level=logging.WARNING)
        self.dataset_meta = model.dataset_meta = self.class_meta(model)
        set_inference_dtype(model, read_inference_dtype(cfg))
        return model

    def _init_collate(self, cfg: Config) -> object:
        # Leaves the images in a list, which the data preprocessor of every library accepts.
        return pseudo_collate

    def _init_pipeline(self, cfg: Config) -> InputPipeline:
        self.cfg = cfg
        return self.make_pipeline()

    def _init_visualizer(self, cfg: Config) -> Visualizer:
        # Without the backends of training runs: predictions do not belong in a training log.
        settings = {'type': self.default_visualizer, **cfg.get('visualizer', {}), 'vis_backends': None}
        settings['type'] = drawing_type(settings) or settings['type']
        visualizer = super()._init_visualizer(Config(dict(visualizer=settings)))
        visualizer.dataset_meta = self.dataset_meta
        return visualizer


def check_names(names: Sequence[str] | None, num_classes: int) -> None:
    """Check that a model has as many class names as classes; None is accepted.

    Raises:
        ValueError: there are more or fewer names than classes.
    """
    if names is not None and len(names) != num_classes:
        raise ValueError(
            f'the model has {num_classes} classes, but the checkpoint or the data set of the config names '
            f'{len(names)}: set test_dataloader.dataset.metainfo.classes to the names of all {num_classes}'
        )


def _origin(source: Source, resolution: int) -> dict:
    """Return the entries of a prediction that identify its input and resolution."""
    frame = {} if source.frame is None else {'frame': source.frame}
    return {'path': source.path, **frame, 'resolution': resolution}
