"""Predictions for the web page: one picture at one resolution."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from resformer_mm.datasets.loading import decode_image
from resformer_mm.inference.base import ResolutionInferencer
from resformer_mm.inference.sources import InputError, Source
from resformer_mm.libraries import task_of

_TIMES_DEFAULT = 4  # end of the default range, in resolutions of the config
_FALLBACK_STEP = 16  # of backbones without patches


@dataclass(frozen=True)
class ResolutionRange:
    """The range of the slider, in pixels: from ``lowest`` in steps to at most ``highest``.

    Raises:
        ValueError: a value is not positive, or the highest is below the lowest.
    """

    lowest: int
    highest: int
    step: int

    def __post_init__(self) -> None:
        if self.lowest < 1 or self.step < 1 or self.highest < self.lowest:
            raise ValueError(
                f'resolutions from {self.lowest} to {self.highest} in steps of {self.step}: all must be '
                'positive, and the highest no less than the lowest'
            )

    def nearest(self, resolution: int) -> int:
        """Return the value of the range that is nearest to a resolution."""
        steps = round((min(max(resolution, self.lowest), self.highest) - self.lowest) / self.step)
        return self.lowest + min(steps, (self.highest - self.lowest) // self.step) * self.step


@dataclass(frozen=True)
class Answer:
    """A prediction as the page shows it.

    Attributes:
        resolution: the test resolution in pixels.
        headline: the prediction in a few words.
        entries: parts of the prediction, each with its score or size, largest first: at most five.
        forward_ms: milliseconds of one forward pass on the device.
        input_picture: the input of the model, RGB uint8 ``(h, w, 3)``.
        drawn: the picture with the prediction drawn on it, RGB; None if the entries say everything.
    """

    resolution: int
    headline: str
    entries: list[tuple[str, float]]
    forward_ms: float
    input_picture: np.ndarray
    drawn: np.ndarray | None


class WebPredictor:
    """Predicts one picture at a time, for all visitors.

    Args:
        inferencer: of an image task.
        resolutions: lowest, highest and step of the slider; by default from one patch to four times the
            resolution of the config, in steps of a patch. Without a third value the step is a patch.

    Raises:
        ValueError: the inferencer is for clips, its config takes pictures at their own size, or the
            resolutions are not two or three, or start below one patch.
    """

    def __init__(self, inferencer: ResolutionInferencer, resolutions: Sequence[int] | None = None) -> None:
        unit = inferencer.source_kind.unit
        if unit != 'image':
            raise ValueError(f'the web page shows models of images, not of {unit}s: use tools/demo.py')
        self.inferencer = inferencer
        self.draws = task_of(inferencer.cfg).is_dense
        self.device = next(inferencer.model.parameters()).device
        self.default = inferencer.default_resolution
        if self.default is None:
            raise ValueError(
                'the test pipeline of the config takes every picture at its own size, so there is no '
                'resolution to choose: give a config that resizes'
            )
        self.range = self._choose_range(resolutions)
        self._lock = threading.Lock()

    def decode(self, content: bytes, name: str) -> np.ndarray:
        """Return the picture in a file, BGR uint8 ``(H, W, 3)``.

        Raises:
            InputError: the file is not a picture, or damaged.
        """
        try:
            return decode_image(content)
        except Exception as error:  # every decoder has its own
            raise InputError(f'{name} is not a picture that can be read ({type(error).__name__})') from error

    def predict(self, picture: np.ndarray, resolution: int) -> Answer:
        """Return the prediction on a BGR uint8 picture ``(H, W, 3)``."""
        with self._lock:
            result = self.inferencer(picture, resolution=resolution, return_vis=self.draws)
            pipeline = self.inferencer.make_pipeline(resolution)
        tensor = pipeline(Source(array=picture))['inputs']
        (prediction,) = result['predictions']
        return Answer(
            resolution,
            self.inferencer.headline(prediction),
            self.inferencer.entries(prediction)[:5],
            result['forward_ms'],
            tensor.clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()[..., ::-1],
            result['visualization'][0] if self.draws else None,
        )

    def _choose_range(self, resolutions: Sequence[int] | None) -> ResolutionRange:
        patch = self.inferencer.patch_size or _FALLBACK_STEP
        if resolutions is None:
            return ResolutionRange(patch, max(patch, _TIMES_DEFAULT * self.default // patch * patch), patch)
        if len(resolutions) not in (2, 3):
            raise ValueError(f'--resolutions takes MIN MAX or MIN MAX STEP, not {len(resolutions)} values')
        chosen = ResolutionRange(*resolutions[:2], resolutions[2] if len(resolutions) == 3 else patch)
        self.inferencer.make_pipeline(chosen.lowest)  # complains if that is below one patch
        return chosen
