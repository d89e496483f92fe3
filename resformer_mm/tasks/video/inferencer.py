"""Inferencer of video classification."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS
from mmengine.structures import BaseDataElement

from resformer_mm.config_types import type_name
from resformer_mm.inference.drawing import draw_text, text_size
from resformer_mm.inference.pipelines import InputPipeline
from resformer_mm.inference.sources import ClipSources, Source
from resformer_mm.picture_text import one_line
from resformer_mm.tasks.classification.inferencer import ClassificationInferencer

from .files import announced_frames, is_mp4


class ClipPipeline(InputPipeline):
    """A test pipeline of mmaction, split after the transform that decodes the frames.

    If the config decodes with decord or from image files, :class:`ClipInit` opens the file, with another
    decoder if decord cannot read it. An array of frames is sampled like a video file.

    Args:
        transforms: configs of the transforms.

    Raises:
        ValueError: no transform decodes frames.
    """

    def __init__(self, transforms: Sequence[dict]) -> None:
        names = [type_name(step['type']) for step in transforms]
        decoder = next((number for number, name in enumerate(names) if name.endswith('Decode')), None)
        if decoder is None:
            raise ValueError(
                'the test pipeline does not decode videos: add a transform such as dict(type="DecordDecode")'
            )
        head, tail = transforms[: decoder + 1], transforms[decoder + 1 :]
        if names[decoder] == 'RawFrameDecode' or names[decoder] == 'DecordDecode':
            sampled = [step for step, name in zip(head[:-1], names) if not name.endswith('Init')]
            head = [dict(type='resformer_mm.ClipInit'), *sampled, dict(type='resformer_mm.ClipDecode')]
        sampling = [step for step in head[:-1] if not type_name(step['type']).endswith('Init')]
        self._file = Compose([TRANSFORMS.build(step) for step in head])
        self._array = Compose(
            [TRANSFORMS.build(step) for step in (*sampling, dict(type='mmaction.ArrayDecode'))]
        )
        self.prepare = Compose([TRANSFORMS.build(step) for step in tail])

    def read(self, source: Source) -> dict:
        """Return a dict with ``imgs``, the sampled frames, RGB."""
        facts = dict(start_index=0, modality='RGB')
        if source.array is None:
            return self._file(dict(filename=source.path, **facts))
        return self._array(dict(array=source.array, total_frames=len(source.array), **facts))

    def shortfall(self, source: Source, results: dict) -> str | None:
        """Return how many frames are missing at the end of a file that was cut off."""
        number = results.get('total_frames')
        if source.path is None or number is None or is_mp4(source.path):
            return None
        announced = announced_frames(source.path, number)
        return None if announced is None else f'ends after {number} frames, the file header says {announced}'

    def pixels(self, results: dict) -> np.ndarray:
        """Return the sampled frames, RGB ``(T, H, W, 3)``."""
        return np.stack(results['imgs'])


class VideoInferencer(ClassificationInferencer):
    """Inferencer of recognizers from mmaction.

    An input is a clip: a video file, or an RGB uint8 array ``(T, H, W, 3)`` as in mmaction. Predictions have
    the fields of :class:`ClassificationInferencer`. Drawings are the sampled frames ``(T, H, W, 3)`` with the
    prediction. For the rest see :class:`ResolutionInferencer`.
    """

    source_kind = ClipSources()
    pipeline_class = ClipPipeline
    default_visualizer = 'Visualizer'

    def draw(self, pixels: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        """Return the sampled frames with the best class and its score written on them."""
        best = self.to_dict(sample, topk=1)
        text = f'{one_line(best["pred_class"])}, {best["pred_score"]:.2f}'
        drawn = []
        for frame in pixels:
            picture = np.ascontiguousarray(frame).copy()
            margin = round(0.03 * min(frame.shape[:2]))
            draw_text(picture, text, (margin, margin), text_size(picture))
            drawn.append(picture)
        return np.stack(drawn)

    def show(self, picture: np.ndarray, name: str, wait_time: float) -> None:
        """Show the frames one after another, each for ``wait_time`` seconds; 0 waits for a key."""
        for frame in picture:
            super().show(frame, name, wait_time)
