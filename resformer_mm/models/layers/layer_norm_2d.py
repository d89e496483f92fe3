"""Layer norm for maps."""

from __future__ import annotations

from torch import Tensor, nn

from resformer_mm.registry import MODELS


@MODELS.register_module()
class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of every position of a map ``(B, C, H, W)``.

    A subclass of :class:`torch.nn.LayerNorm`, so that optimisers that spare norms from weight decay spare it
    too. In heads of mmdet and convolutions of mmcv it is ``norm_cfg=dict(type='resformer_mm.LayerNorm2d',
    eps=1e-6)``; mmcv sets eps to 1e-5 where the config gives none.

    Args:
        num_channels: C.
        eps: added to the variance.
    """

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__(num_channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map, contiguous: mmcv's RoIAlign reads every map as if it were so.

        It has the type of the weights: float32 under autocast on every device, as CUDA has it. mmcv's
        RoIAlign takes no bfloat16.
        """
        x = x.permute(0, 2, 3, 1).to(self.weight.dtype)
        return super().forward(x).permute(0, 3, 1, 2).contiguous()
