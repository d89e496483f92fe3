"""Inferencer of semantic segmentation."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from mmseg.models.segmentors import DepthEstimator

from resformer_mm.config.resolutions import test_dataset
from resformer_mm.inference.base import ResolutionInferencer, check_names
from resformer_mm.inference.drawing import draw_label_map
from resformer_mm.picture_text import literal_text

from .mask_values import label_map, mask_values, reduces_zero_label
from .slices import LabelMapMerger
from .visualizer import LabelMapVisualizer


class SegmentationInferencer(ResolutionInferencer):
    """Inferencer of semantic segmentors from mmseg.

    A prediction has ``seg_map``, the label of every pixel of the original image, ``(H, W)``, and ``areas``,
    class name -> fraction of the image, largest first. Label maps in a result folder have the values of the
    data set's masks, which differ from the labels under ``reduce_zero_label``. For the rest see
    :class:`ResolutionInferencer`.
    """

    output = 'pred_sem_seg'
    merger_class = LabelMapMerger
    default_visualizer = 'mmseg.SegLocalVisualizer'

    def to_dict(self, sample: BaseDataElement) -> dict:
        """Return the label map, and the area of every class in it."""
        classes = self.dataset_meta['classes']  # always there: see class_meta
        labels = sample.pred_sem_seg.data[0].cpu().numpy()
        seg_map = labels.astype(np.uint8 if len(classes) <= 256 else np.uint16, copy=False)
        present, counts = np.unique(seg_map, return_counts=True)
        order = np.argsort(-counts, kind='stable')
        areas = {classes[present[index]]: float(counts[index] / seg_map.size) for index in order}
        return {'seg_map': seg_map, 'areas': areas}

    def draw(self, pixels: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        """Return the image overlaid with the colours of the classes."""
        image = np.ascontiguousarray(pixels[..., ::-1])
        meta = self.visualizer.dataset_meta
        if isinstance(self.visualizer, LabelMapVisualizer):  # without a figure of Matplotlib
            labels = sample.pred_sem_seg.data[0].cpu().numpy()
            return draw_label_map(image, labels, meta['palette'], self.visualizer.alpha, meta['classes'])
        with literal_text(*meta['classes']):
            self.visualizer.add_datasample('', image, sample, draw_gt=False)
            return self.visualizer.get_image()

    def to_files(self, prediction: dict) -> dict:
        """Return the prediction with the pixel values that the masks of the data set have."""
        values = self._values
        return {**prediction, 'seg_map': values[prediction['seg_map']]}

    def legend(self) -> dict:
        """Return the name of the class of each value in the written label maps."""
        classes = self.dataset_meta['classes']
        return {str(value): str(name) for value, name in zip(self._values.tolist(), classes)}

    def entries(self, prediction: dict) -> list[tuple[str, float]]:
        """Return the classes with the fraction of the image that they cover."""
        return list(prediction['areas'].items())

    @cached_property
    def _values(self) -> np.ndarray:
        """Pixel value of each class in the masks of the data set, ``(num_classes,)``."""
        meta = self.dataset_meta
        return mask_values(len(meta['classes']), meta.get('label_map'), bool(meta.get('reduce_zero_label')))

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
        if 'reduce_zero_label' not in meta:
            meta['reduce_zero_label'] = reduces_zero_label(test_dataset(model.cfg), self.scope)
        if 'label_map' not in meta:
            meta['label_map'] = label_map(test_dataset(model.cfg), self.scope, meta['classes'])
        if len(meta.get('palette') or []) != number:
            meta['palette'] = np.random.default_rng(0).integers(0, 256, (number, 3)).tolist()
        return meta
