"""Monocular depth."""

from __future__ import annotations

import numpy as np
from mmengine.structures import BaseDataElement

from resformer_mm.inference.base import ResolutionInferencer


class DepthInferencer(ResolutionInferencer):
    """Predict the depth of every pixel: ``depth_map`` ``(H, W)``, uint16, in millimetres."""

    default_visualizer = 'SegLocalVisualizer'

    def to_dict(self, sample: BaseDataElement) -> dict:
        """Return the depth map."""
        metres = sample.pred_depth_map.data[0].cpu().numpy()
        return {'depth_map': np.round(1000 * metres).astype(np.uint16)}

    def draw(self, pixels: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        """Return the picture above its depth."""
        self.visualizer.add_datasample('', pixels[..., ::-1], sample, draw_gt=False)
        return self.visualizer.get_image()

    def entries(self, prediction: dict) -> list[tuple[str, float]]:
        """Return the nearest and the farthest depth in metres."""
        depth = prediction['depth_map'] / 1000
        return [('nearest', float(depth.min())), ('farthest', float(depth.max()))]
