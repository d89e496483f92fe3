"""Semantic segmentation."""

from __future__ import annotations

import numpy as np
from mmengine.config import Config
from mmengine.structures import BaseDataElement
from torch import nn

from resformer_mm.inference.base import ResolutionInferencer
from resformer_mm.inference.meta import check_names


class SegmentationInferencer(ResolutionInferencer):
    """Segment images with an mmseg model.

    A prediction has ``seg_map``, the label of every pixel of the picture as given, ``(H, W)``, and ``areas``,
    class name -> part of the picture, largest first. For the rest see :class:`ResolutionInferencer`.
    """

    default_visualizer = 'SegLocalVisualizer'

    def to_dict(self, sample: BaseDataElement) -> dict:
        """Return the label map, and the area of every class in it."""
        labels = sample.pred_sem_seg.data[0].cpu().numpy()
        seg_map = labels.astype(np.uint8 if len(self.classes) <= 256 else np.uint16)
        present, counts = np.unique(seg_map, return_counts=True)
        order = np.argsort(-counts, kind='stable')
        areas = {self.classes[present[index]]: float(counts[index] / seg_map.size) for index in order}
        return {'seg_map': seg_map, 'areas': areas}

    def draw(self, pixels: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        """Return the picture under the colours of the classes."""
        self.visualizer.add_datasample('', pixels[..., ::-1], sample, draw_gt=False)
        return self.visualizer.get_image()

    def entries(self, prediction: dict) -> list[tuple[str, float]]:
        """Return the classes with the part of the picture that they take."""
        return list(prediction['areas'].items())

    def _init_model(self, cfg: Config, weights: object, device: str = 'cpu') -> nn.Module:
        model = super()._init_model(cfg, weights, device)
        number = model.decode_head.num_classes
        classes = self.dataset_meta.setdefault('classes', [str(label) for label in range(number)])
        check_names(classes, number)
        if len(self.dataset_meta.get('palette') or []) != number:
            colours = np.random.default_rng(0).integers(0, 256, (number, 3))
            self.dataset_meta['palette'] = colours.tolist()
        return model
