"""Inferencer of object detection and instance segmentation."""

from __future__ import annotations

from collections import Counter

import numpy as np
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import nn

from resformer_mm.inference.base import ResolutionInferencer, check_names
from resformer_mm.inference.pipelines import Batch
from resformer_mm.picture_text import literal_text

from .compact_masks import decode_masks, encode_masks, masks_one_by_one
from .slices import ObjectMerger
from .visualizer import ObjectVisualizer


class DetectionInferencer(ResolutionInferencer):
    """Inferencer of object detectors and instance segmentors from mmdet.

    A prediction has ``labels``, ``classes`` (names), ``scores`` and ``bboxes`` (``[x1, y1, x2, y2]`` in
    pixels of the original image), best first, and ``masks`` in COCO's run-length encoding if the model
    predicts masks. A call also takes the keyword ``score_thr`` (0.3), the minimum score of the objects that
    are listed and drawn. For the rest see :class:`ResolutionInferencer`.
    """

    forward_kwargs = {'score_thr'}
    output = 'pred_instances'
    mixes_sizes = True
    merger_class = ObjectMerger
    default_visualizer = 'mmdet.DetLocalVisualizer'

    def forward(self, inputs: Batch, score_thr: float = 0.3) -> list[BaseDataElement]:
        """Return the data samples of a batch, with the objects whose score is at least ``score_thr``."""
        with masks_one_by_one(self.model):
            samples = super().forward(inputs)
        for sample in samples:
            found = sample.pred_instances[sample.pred_instances.scores >= score_thr]
            encode_masks(found)
            sample.pred_instances = found
        return samples

    def library_sample(self, sample: BaseDataElement) -> BaseDataElement:
        """Return the data sample with masks as arrays."""
        height, width = sample.ori_shape[:2]
        decode_masks(sample.pred_instances, (height, width))
        return sample

    def to_dict(self, sample: BaseDataElement) -> dict:
        """Return labels, names, scores, boxes and masks of the objects."""
        found = sample.pred_instances.cpu()
        labels = found.labels.tolist()
        names = self.classes
        prediction = {
            'labels': labels,
            'classes': [str(label) if names is None else str(names[label]) for label in labels],
            'scores': found.scores.tolist(),
            'bboxes': found.bboxes.tolist(),
        }
        if 'masks' in found:
            prediction['masks'] = [
                {'size': list(code['size']), 'counts': code['counts'].decode()} for code in found.masks
            ]
        return prediction

    def draw(self, pixels: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        """Return the image with boxes, masks, names and scores drawn on it."""
        image = pixels[..., ::-1]
        meta = self.visualizer.dataset_meta
        if isinstance(self.visualizer, ObjectVisualizer):  # without a figure of Matplotlib
            found = sample.pred_instances.cpu()
            return self.visualizer.draw_objects(image, found, meta.get('classes'), meta.get('palette'))
        decode_masks(sample.pred_instances, image.shape[:2])
        with literal_text(*(meta.get('classes') or ())):
            self.visualizer.add_datasample('', image, sample, draw_gt=False, pred_score_thr=-1)
            picture = self.visualizer.get_image()
        encode_masks(sample.pred_instances)
        return picture

    def entries(self, prediction: dict) -> list[tuple[str, float]]:
        """Return the objects with their scores."""
        return list(zip(prediction['classes'], prediction['scores']))

    def headline(self, prediction: dict) -> str:
        """Return the number of objects of each class."""
        counts = Counter(prediction['classes'])
        return ', '.join(f'{number} {name}' for name, number in counts.items()) or 'nothing'

    def class_meta(self, model: BaseModel) -> dict:
        """Return ``classes``, ``palette`` and the like.

        Raises:
            ValueError: the number of names differs from the number of classes of the model.
        """
        meta = super().class_meta(model)
        head = getattr(getattr(model, 'roi_head', model), 'bbox_head', None)
        if isinstance(head, nn.ModuleList):  # the stages of a cascade
            head = head[0]
        num_classes = getattr(head, 'num_classes', None)
        if num_classes is not None:
            check_names(meta.get('classes'), num_classes)
        return meta
