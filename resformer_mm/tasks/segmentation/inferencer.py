"""Inferencer of semantic segmentation."""

from __future__ import annotations

import numpy as np
from mmengine.structures import BaseDataElement
from mmseg.models.segmentors import DepthEstimator
from torch import nn

from resformer_mm.inference.base import ResolutionInferencer, check_names


class SegmentationInferencer(ResolutionInferencer):
    """Segment images with an mmseg model.

    A prediction has ``seg_map``, the label of every pixel of the picture as given, ``(H, W)``, and ``areas``,
    class name -> part of the picture, largest first. For the rest see :class:`ResolutionInferencer`.
    """

    output = 'pred_sem_seg'
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

    def class_meta(self, model: nn.Module) -> dict:
        """Return ``classes``, else numbers, and ``palette``, else random colours.

        Raises:
            ValueError: the names are not as many as the classes of the model, or it predicts depth.
        """
        if isinstance(model, DepthEstimator):  # before its one channel is compared with the names
            raise self._no_output(model)
        meta = super().class_meta(model)
        number = model.num_classes
        check_names(meta.setdefault('classes', [str(label) for label in range(number)]), number)
        if len(meta.get('palette') or []) != number:
            meta['palette'] = np.random.default_rng(0).integers(0, 256, (number, 3)).tolist()
        return meta
