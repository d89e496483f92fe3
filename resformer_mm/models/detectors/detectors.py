"""The detectors of mmdet whose images do not depend on the padding of their batch."""

from __future__ import annotations

from mmdet import models

from resformer_mm.registry import MODELS

from .padding_aware import PaddingAware


@MODELS.register_module()
class MaskRCNN(PaddingAware, models.MaskRCNN):
    """:class:`mmdet.models.MaskRCNN` that tells the backbone the sizes of the images."""


@MODELS.register_module()
class CascadeRCNN(PaddingAware, models.CascadeRCNN):
    """:class:`mmdet.models.CascadeRCNN`, also with a mask head, that tells the backbone the sizes."""


@MODELS.register_module()
class RetinaNet(PaddingAware, models.RetinaNet):
    """:class:`mmdet.models.RetinaNet` that tells the backbone the sizes of the images."""


@MODELS.register_module()
class FCOS(PaddingAware, models.FCOS):
    """:class:`mmdet.models.FCOS` that tells the backbone the sizes of the images."""
