"""Detectors of mmdet whose results do not depend on the padding of the batch."""

from __future__ import annotations

from mmdet import models
from torch import Tensor, nn

from resformer_mm.registry import MODELS

from .padding_aware import PaddingAware


class Float32Predictions(nn.Module):
    """Mixin for a detector of mmdet: under autocast, heads return their predictions in float32.

    mmdet creates anchors in the data type of the scores. In bfloat16, anchors beyond pixel 1024 are silently
    off by up to four pixels, and mmcv's NMS does not support bfloat16.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        for module in self.modules():
            if hasattr(module, 'predict_by_feat'):
                module.register_forward_hook(_in_float32)


def _in_float32(head: nn.Module, args: tuple, outputs: object) -> object:
    if isinstance(outputs, Tensor):
        return outputs.float()
    if isinstance(outputs, (list, tuple)):
        return type(outputs)(_in_float32(head, args, output) for output in outputs)
    return outputs  # None if the head does not have this branch


@MODELS.register_module()
class FasterRCNN(PaddingAware, Float32Predictions, models.FasterRCNN):
    """:class:`mmdet.models.FasterRCNN` that passes the image sizes to the backbone."""


@MODELS.register_module()
class MaskRCNN(PaddingAware, Float32Predictions, models.MaskRCNN):
    """:class:`mmdet.models.MaskRCNN` that passes the image sizes to the backbone."""


@MODELS.register_module()
class CascadeRCNN(PaddingAware, Float32Predictions, models.CascadeRCNN):
    """:class:`mmdet.models.CascadeRCNN`, with or without mask head, that passes the sizes to the backbone."""


@MODELS.register_module()
class RetinaNet(PaddingAware, Float32Predictions, models.RetinaNet):
    """:class:`mmdet.models.RetinaNet` that passes the image sizes to the backbone."""


@MODELS.register_module()
class FCOS(PaddingAware, Float32Predictions, models.FCOS):
    """:class:`mmdet.models.FCOS` that passes the image sizes to the backbone."""
