"""Pictures for inferencers, and what models get of them."""

from __future__ import annotations

from pathlib import Path

import cv2
import mmcv
import numpy as np
import torch
from small_models import MEAN, STD

WIDTH, HEIGHT = 150, 100


def picture(seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Return smooth colours, BGR ``(H, W, 3)``."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def drawn_over(drawn: np.ndarray, image: np.ndarray, tolerance: float, passes: int = 1) -> np.ndarray:
    """Return where a drawing differs from an image, ``(H, W)`` bool.

    Before version 3.11, Matplotlib may stretch a picture by a pixel whenever it passes a visualizer of
    MMEngine. Values between those so near are therefore not a difference, and the border is left out.
    """
    window = np.ones((2 * passes + 1, 2 * passes + 1), np.uint8)
    image = np.ascontiguousarray(image).astype(np.float32)
    below = cv2.erode(image, window) - drawn
    above = drawn - cv2.dilate(image, window)
    differs = np.maximum(below, above).max(axis=-1) > tolerance
    inside = np.pad(np.ones([side - 2 for side in differs.shape], bool), 1)
    return differs & inside


def write_pictures(root: Path) -> Path:
    """Write three pictures, and a file that is not one, to a folder."""
    for seed in range(3):
        cv2.imwrite(str(root / f'{seed}.png'), picture(seed))
    (root / 'bad.png').write_bytes(b'no picture')
    return root


def tensor_at(image: np.ndarray, short: int) -> torch.Tensor:
    """Return a picture as the models get it at a resolution: scaled, normalised, RGB ``(1, 3, h, w)``."""
    image = mmcv.imrescale(image, (16 * short, short))
    pixels = (image[..., ::-1].astype(np.float64) - MEAN) / STD
    return torch.from_numpy(pixels.transpose(2, 0, 1)[None]).float()
