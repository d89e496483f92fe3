"""The detectors of mmdet whose images do not depend on the padding of their batch."""

from __future__ import annotations

from mmdet import models
from torch import Tensor, nn

from resformer_mm.registry import MODELS

from .padding_aware import PaddingAware


class Float32Predictions:
    """Mixin before a detector of mmdet: under autocast, heads give their predictions in float32.

    mmdet makes the anchors of predictions in the type of the scores. In bfloat16 those beyond pixel 1024 are
    off by up to four pixels, without an error, and mmcv's NMS takes no bfloat16.
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
    return outputs  # None, where a head has no such branch


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
