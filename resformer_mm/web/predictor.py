"""Predictions for the web page: one image at one resolution."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from resformer_mm.datasets.decoding import decode_image
from resformer_mm.inference.base import ResolutionInferencer
from resformer_mm.inference.sources import InputError, Source
from resformer_mm.libraries import task_of

_TIMES_DEFAULT = 4  # end of the default range, as a multiple of the resolution of the config
_FALLBACK_STEP = 16  # in pixels, for backbones without patches
MAX_PIXELS = 90_000_000
"""Largest accepted image: a small file may expand to any size, and visitors of the page are strangers."""


@dataclass(frozen=True)
class ResolutionRange:
    """Range of the slider in pixels: from ``lowest`` to at most ``highest`` in steps of ``step``.

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
                'positive, and the highest must not be below the lowest'
            )

    def nearest(self, resolution: int) -> int:
        """Return the value of the range that is nearest to a resolution."""
        steps = round((min(max(resolution, self.lowest), self.highest) - self.lowest) / self.step)
        return self.lowest + min(steps, (self.highest - self.lowest) // self.step) * self.step


@dataclass(frozen=True)
class Answer:
    """A prediction as shown on the page.

    Attributes:
        resolution: the test resolution in pixels.
        headline: the prediction in a few words.
        entries: at most five parts of the prediction, each with its score or size, largest first.
        forward_ms: milliseconds of one forward pass on the device.
        input_picture: the input of the model, RGB uint8 ``(h, w, 3)``.
        drawn: the image with the prediction drawn on it, RGB; None for classification.
    """

    resolution: int
    headline: str
    entries: list[tuple[str, float]]
    forward_ms: float
    input_picture: np.ndarray
    drawn: np.ndarray | None


class WebPredictor:
    """Predictor of one image at a time, shared by all visitors.

    Args:
        inferencer: inferencer of an image task.
        resolutions: lowest, highest and step of the slider; by default from one patch to four times the
            resolution of the config. The default step is one patch.

    Raises:
        ValueError: the inferencer is for clips, its config does not resize images to one size, or the
            resolutions are not two or three numbers, or start below one patch.
    """

    def __init__(self, inferencer: ResolutionInferencer, resolutions: Sequence[int] | None = None) -> None:
        unit = inferencer.source_kind.unit
        if unit != 'image':
            raise ValueError(f'the web page supports models of images, not of {unit}s: use tools/demo.py')
        self.inferencer = inferencer
        self.draws = task_of(inferencer.cfg).is_dense
        self.device = next(inferencer.model.parameters()).device
        default = inferencer.default_resolution
        if default is None:
            raise ValueError(
                'the test pipeline of the config does not resize images to one size, so there is no '
                'resolution to choose: use a config that resizes'
            )
        self.default = default
        self.range = self._choose_range(resolutions)
        self._lock = threading.Lock()

    def decode(self, content: bytes, name: str) -> np.ndarray:
        """Return the image in a file, BGR uint8 ``(H, W, 3)``.

        Raises:
            InputError: the file is not an image, is damaged, or has more than :data:`MAX_PIXELS` pixels.
        """
        try:
            return decode_image(content, max_pixels=MAX_PIXELS)
        except ValueError as error:  # the size, or the range of the values
            raise InputError(f'{name} cannot be used: {error}') from error
        except Exception as error:  # each decoder has its own error types
            raise InputError(f'{name} is not a readable image ({type(error).__name__})') from error

    def predict(self, picture: np.ndarray, resolution: int) -> Answer:
        """Return the prediction on a BGR uint8 image ``(H, W, 3)``."""
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
        lowest, highest, step = (*resolutions, patch)[:3]
        chosen = ResolutionRange(lowest, highest, step)
        self.inferencer.make_pipeline(chosen.lowest)  # raises if that is below one patch
        return chosen
