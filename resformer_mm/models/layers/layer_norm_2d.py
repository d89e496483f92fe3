"""Layer norm for maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from resformer_mm.compat.tracing import is_exporting
from resformer_mm.registry import MODELS


@MODELS.register_module()
class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of every position of a map ``(B, C, H, W)``.

    As a subclass of :class:`torch.nn.LayerNorm`, it is exempt from weight decay whenever norms are. In heads
    of mmdet and convolutions of mmcv, use ``norm_cfg=dict(type='resformer_mm.LayerNorm2d', eps=1e-6)``;
    without ``eps``, mmcv sets it to 1e-5.

    Args:
        num_channels: C.
        eps: added to the variance.
    """

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__(num_channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map, which is contiguous, because mmcv's RoIAlign assumes it.

        The map has the type of the weights, which is float32 under autocast on every device, as in PyTorch's
        own norms on CUDA. mmcv's RoIAlign does not support bfloat16.
        """
        x = super().forward(x.permute(0, 2, 3, 1).to(self.weight.dtype)).permute(0, 3, 1, 2)
        # `contiguous` would ask for the layout, which an exported program cannot know.
        return x.clone(memory_format=torch.contiguous_format) if is_exporting() else x.contiguous()
