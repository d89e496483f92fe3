"""The detectors of mmdet whose images do not depend on the padding of their batch."""

from __future__ import annotations

from mmdet import models

from resformer_mm.registry import MODELS

from .float32_predictions import Float32Predictions
from .padding_aware import PaddingAware


@MODELS.register_module()
class MaskRCNN(PaddingAware, Float32Predictions, models.MaskRCNN):
    """:class:`mmdet.models.MaskRCNN` that tells the backbone the sizes of the images."""


@MODELS.register_module()
class CascadeRCNN(PaddingAware, Float32Predictions, models.CascadeRCNN):
    """:class:`mmdet.models.CascadeRCNN`, also with a mask head, that tells the backbone the sizes."""


@MODELS.register_module()
class RetinaNet(PaddingAware, Float32Predictions, models.RetinaNet):
    """:class:`mmdet.models.RetinaNet` that tells the backbone the sizes of the images."""


@MODELS.register_module()
class FCOS(PaddingAware, Float32Predictions, models.FCOS):
    """:class:`mmdet.models.FCOS` that tells the backbone the sizes of the images."""
