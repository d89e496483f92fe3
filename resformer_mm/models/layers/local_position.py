"""Position information inside attention, one module per block (paper, Section 3.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from resformer_mm.registry import MODELS

from .exporting import is_exporting

Grid = tuple[int, int]


class LocalPosition(BaseModule):
    """Interface of a block's own position module: built with ``embed_dims`` and ``num_heads``.

    A module may add a term to the attention output (:meth:`forward`, as LPE does), a bias to the attention
    scores (:meth:`attention_bias`, as relative position biases do), or both.
    """

    def forward(self, value: Tensor, grid: Grid) -> Tensor | None:
        """Return what is added to the attention output of the patch tokens.

        ``value`` is ``(B, H * W, C)``, heads side by side in C; so is the result. None adds nothing.
        """
        return None

    def attention_bias(self, grid: Grid, with_cls_token: bool) -> Tensor | None:
        """Return a bias of the scores, broadcastable to ``(B, num_heads, N, N)``, or None.

        N counts the class token, which comes first, if ``with_cls_token``.
        """
        return None


@MODELS.register_module()
class LocalPositionEmbedding(LocalPosition):
    """LPE: a 3x3 depthwise convolution of the values, its filters shared by all heads (paper, Equation 5).

    Weight and bias start at zero, so that a fresh LPE changes nothing.

    Args:
        embed_dims: width C of all heads together.
        num_heads: number of heads; each has C / num_heads filters to share.
    """

    def __init__(self, embed_dims: int, num_heads: int, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        head_dim = embed_dims // num_heads
        self.num_heads = num_heads
        self.conv = nn.Conv2d(head_dim, head_dim, 3, padding=1, groups=head_dim)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, value: Tensor, grid: Grid) -> Tensor:
        """Return the convolved values ``(B, H * W, C)``."""
        # One convolution over all heads with repeated filters: the tokens already are a channels-last map.
        value_map = value.transpose(1, 2).unflatten(2, grid)
        if is_exporting():  # channels-last maps would ask whether the grid is wider than one token
            value_map = value_map.clone(memory_format=torch.contiguous_format)
        weight = self.conv.weight.repeat(self.num_heads, 1, 1, 1)
        bias = self.conv.bias.repeat(self.num_heads)
        out = F.conv2d(value_map, weight, bias, padding=1, groups=weight.shape[0])
        return out.flatten(2).transpose(1, 2)


def pad_cls_token(patch_term: Tensor, with_cls_token: bool) -> Tensor:
    """Prepend a zero row for the class token to ``(B, N, C)``, if there is one."""
    return F.pad(patch_term, (0, 0, 1, 0)) if with_cls_token else patch_term
