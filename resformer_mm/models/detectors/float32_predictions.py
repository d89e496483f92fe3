"""Box arithmetic in float32 where the networks run in low precision."""

from __future__ import annotations

from torch import Tensor, nn


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
