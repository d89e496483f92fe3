"""Inferencer of semantic segmentation."""

from __future__ import annotations

import numpy as np
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from mmseg.models.segmentors import DepthEstimator

from resformer_mm.inference.base import ResolutionInferencer, check_names


class SegmentationInferencer(ResolutionInferencer):
    """Inferencer of semantic segmentors from mmseg.

    A prediction has ``seg_map``, the label of every pixel of the original image, ``(H, W)``, and ``areas``,
    class name -> fraction of the image, largest first. For the rest see :class:`ResolutionInferencer`.
    """

    output = 'pred_sem_seg'
    default_visualizer = 'mmseg.SegLocalVisualizer'

    def to_dict(self, sample: BaseDataElement) -> dict:
        """Return the label map, and the area of every class in it."""
        classes = self.dataset_meta['classes']  # always there: see class_meta
        labels = sample.pred_sem_seg.data[0].cpu().numpy()
        seg_map = labels.astype(np.uint8 if len(classes) <= 256 else np.uint16)
        present, counts = np.unique(seg_map, return_counts=True)
        order = np.argsort(-counts, kind='stable')
        areas = {classes[present[index]]: float(counts[index] / seg_map.size) for index in order}
        return {'seg_map': seg_map, 'areas': areas}

    def draw(self, pixels: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        """Return the image overlaid with the colours of the classes."""
        self.visualizer.add_datasample('', pixels[..., ::-1], sample, draw_gt=False)
        return self.visualizer.get_image()

    def entries(self, prediction: dict) -> list[tuple[str, float]]:
        """Return the classes with the fraction of the image that they cover."""
        return list(prediction['areas'].items())

    def class_meta(self, model: BaseModel) -> dict:
        """Return ``classes``, by default their numbers, and ``palette``, by default random colours.

        Raises:
            ValueError: the number of names differs from the number of classes of the model, or the model
                predicts depth.
        """
        if isinstance(model, DepthEstimator):  # has one output channel, not one per class
            raise self._no_output(model)
        meta = super().class_meta(model)
        number = model.num_classes
        check_names(meta.setdefault('classes', [str(label) for label in range(number)]), number)
        if len(meta.get('palette') or []) != number:
            meta['palette'] = np.random.default_rng(0).integers(0, 256, (number, 3)).tolist()
        return meta
