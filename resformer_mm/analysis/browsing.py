"""Samples of a data set as the model receives them, after pipeline, collation and data preprocessor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel
from mmengine.runner import Runner, set_random_seed
from mmengine.structures import BaseDataElement
from torch import Tensor
from torch.utils.data import DataLoader

from resformer_mm.engine.partial_copies import PartialCopy
from resformer_mm.engine.resolution_loaders import loaders_at_resolutions
from resformer_mm.libraries import library_of_config, task_of
from resformer_mm.picture_text import one_line

PHASES = ('train', 'val', 'test')
FRAMES_IN_A_ROW = 4


@dataclass(frozen=True)
class BrowsedSample:
    """A sample as the model receives it.

    Attributes:
        name: name of the file without its suffix.
        copies: the image at each resolution, RGB uint8 ``(h, w, 3)``, with the normalisation undone; for a
            clip, its frames in rows.
        labels: label texts, one for all copies or one for each; empty if there is no label.
        data_sample: the data sample, with the annotations of dense tasks.
        sizes: caption of each copy; if empty, captions show height and width.
    """

    name: str
    copies: list[np.ndarray]
    labels: list[str]
    data_sample: BaseDataElement
    sizes: list[str] = field(default_factory=list)


class SampleBrowser:
    """Samples of one data loader of a model's config, as the model receives them.

    Training batches are mixed as in training. A batch has at most ``number`` samples, so that an image and
    the image it is mixed with are both among the samples. If evaluation runs at several resolutions, the
    copies are those of the evaluation.

    Args:
        model: a model returned by :func:`~resformer_mm.apis.load_model`; its weights are not used.
        phase: 'train', 'val' or 'test'.
        number: number of samples, at most one epoch.
        seed: seed of the sample order, random transforms and mixing.

    Raises:
        ValueError: the config does not have this data loader, or its annotations do not match its images.
    """

    def __init__(self, model: BaseModel, phase: str, number: int, seed: int = 0) -> None:
        if number < 1:
            raise ValueError(f'cannot show {number} samples: request at least one')
        self.model = model
        self.phase = phase
        self.number = number
        self.seed = seed
        self.loaders = _loaders(model.cfg, phase, number, seed)
        dataset: BaseDataset = self.loaders[0].dataset
        self.dataset_meta = dict(dataset.metainfo or {})

    def __iter__(self) -> Iterator[BrowsedSample]:
        """Set the global random state and yield the samples.

        Raises:
            ValueError: the model's inputs are not images, or the resolutions show different images.
        """
        set_random_seed(self.seed)
        done = 0
        for batches in zip(*self.loaders):
            for sample in self._samples(batches)[: self.number - done]:
                yield sample
                done += 1
            if done == self.number:
                return

    def _samples(self, batches: Sequence[dict]) -> list[BrowsedSample]:
        """Return the samples of a batch, which may come from one loader for each resolution."""
        with torch.no_grad():
            prepared = [self.model.data_preprocessor(b, training=self.phase == 'train') for b in batches]
        data_samples = prepared[0]['data_samples']
        names = [_file_name(data_sample) for data_sample in data_samples]
        copies, sizes = [], []
        for data in prepared:
            if [_file_name(data_sample) for data_sample in data['data_samples']] != names:
                raise ValueError('the data loaders of the resolutions do not show the same images')
            inputs = data['inputs']
            for batch in [inputs] if isinstance(inputs, Tensor) else inputs:
                batch, rows = batch if isinstance(batch, PartialCopy) else (batch, range(len(batch)))
                pictures = dict(zip(rows, to_pictures(batch, self.model)))
                copies.append([pictures.get(row) for row in range(len(names))])
                sizes += [clip_size(batch)] if batch.ndim == 6 else []
        classes = self.dataset_meta.get('classes')
        samples = []
        for name, data_sample, *images in zip(names, data_samples, *copies):
            has = [image is not None for image in images]
            labels = label_texts(data_sample, classes)
            if len(labels) == len(images):
                labels = list(compress(labels, has))
            own_sizes = list(compress(sizes, has))
            samples.append(BrowsedSample(name, list(compress(images, has)), labels, data_sample, own_sizes))
        return samples


def _file_name(data_sample: BaseDataElement) -> str:
    return Path(data_sample.get('img_path') or data_sample.get('filename') or 'image').stem


def _loaders(cfg: Config, phase: str, number: int, seed: int) -> list[DataLoader]:
    """Return the data loader of a phase, or one per resolution if the loop of the phase has several."""
    if phase not in PHASES:
        raise ValueError(f'phase={phase!r} is unknown: choose from {PHASES}')
    if phase != 'train' and task_of(cfg).is_dense:
        raise ValueError(
            f'phase={phase!r}: annotations of evaluation have the size of the file, but the images are '
            "resized, so they cannot be drawn together. Use phase='train'"
        )
    config = cfg.get(f'{phase}_dataloader')
    if config is None:
        raise ValueError(f'{cfg.filename or "the config"} has no `{phase}_dataloader`: nothing to browse')
    config = deepcopy(config)
    config.update(num_workers=0, persistent_workers=False)
    config.pop('prefetch_factor', None)
    if 'batch_size' in config:
        config['batch_size'] = min(config['batch_size'], number)
    for key, value in library_of_config(cfg).loader.items():
        config.setdefault(key, value)  # as the library's own tools do
    resolutions = None if phase == 'train' else (cfg.get(f'{phase}_cfg') or {}).get('resolutions')
    build = partial(Runner.build_dataloader, seed=seed)
    if resolutions:
        return list(loaders_at_resolutions(config, resolutions, build).values())
    return [build(config)]


def to_pictures(images: Tensor, model: BaseModel) -> np.ndarray:
    """Undo the normalisation of a model's data preprocessor.

    Args:
        images: output of the data preprocessor for images ``(B, 3, h, w)``, gray images ``(B, 1, h, w)`` or
            clips ``(B, num_clips, 3, T, h, w)``. Only the first clip of each sample is shown.
        model: the model, with its config as ``cfg``.

    Returns:
        RGB images, uint8 ``(B, h, w, 3)``; values are clipped to 0..255. The frames of a clip are arranged by
        :func:`film_strip`.

    Raises:
        ValueError: the images have none of these shapes.
    """
    is_clip = images.ndim == 6 and images.shape[2] == 3
    if not is_clip and (images.ndim != 4 or images.shape[1] not in (1, 3)):
        raise ValueError(
            f'cannot show inputs of shape {tuple(images.shape)}: only images (B, 3, h, w) and '
            'clips (B, num_clips, 3, T, h, w) are supported'
        )
    preprocessor = model.data_preprocessor
    images = images[:, 0] if is_clip else images
    if hasattr(preprocessor, 'mean'):
        images = images * preprocessor.std + preprocessor.mean
    # Images are loaded as BGR and clips as RGB; the data preprocessor may swap the channels.
    cfg = model.cfg
    settings = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    if bool(settings.get('to_rgb') or settings.get('bgr_to_rgb')) == is_clip:
        images = images.flip(1)
    pixels = images.round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    if is_clip:
        return np.stack([film_strip(clip) for clip in pixels.transpose(0, 2, 3, 4, 1)])
    return np.broadcast_to(pixels, (len(pixels), 3, *pixels.shape[2:])).transpose(0, 2, 3, 1)


def film_strip(frames: np.ndarray) -> np.ndarray:
    """Arrange the frames of a clip ``(T, h, w, 3)`` in rows of four; return one image ``(H, W, 3)``."""
    blank = np.full((-len(frames) % min(len(frames), FRAMES_IN_A_ROW), *frames.shape[1:]), 255, frames.dtype)
    filled = np.concatenate([frames, blank])
    rows = np.split(filled, len(filled) // min(len(frames), FRAMES_IN_A_ROW))
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows])


def clip_size(clips: Tensor) -> str:
    """Return number and size of the frames of clips ``(B, num_clips, 3, T, h, w)`` as text."""
    length, height, width = clips.shape[3:]
    return f'{length} × {width} × {height} px'


def label_texts(data_sample: Any, classes: Sequence[str] | None) -> list[str]:
    """Return the label of a classification sample as text, e.g. 'tench 0.70 + church 0.30' if it is mixed.

    Args:
        data_sample: the sample.
        classes: class names; None shows class numbers.

    Returns:
        One text for all resolutions, or one for each if they were mixed separately; empty without a label.
    """

    def name(label: int) -> str:
        return str(label) if classes is None else one_line(classes[label])

    if 'gt_score' not in data_sample:
        return [' + '.join(map(name, data_sample.gt_label.tolist()))] if 'gt_label' in data_sample else []
    texts = []
    for scores in data_sample.get('gt_scores', data_sample.gt_score[None]):
        order = scores.argsort(descending=True, stable=True).tolist()
        shares = {label: float(scores[label]) for label in order if scores[label] >= 0.005}
        if set(shares.values()) == {1.0}:
            texts.append(' + '.join(map(name, shares)))
        else:
            texts.append(' + '.join(f'{name(label)} {share:.2f}' for label, share in shares.items()))
    return texts
