"""Position information inside attention, one module per block (paper, Section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resformer_mm.compat.tracing import is_compiling, is_exporting
from resformer_mm.registry import MODELS

from .batch_padding import BatchPadding, image_by_image, place_pairs
from .grids import Grid
from .shifts import convolve_by_shifts


class LocalPosition(nn.Module):
    """Interface of the position module of a block.

    Subclasses are built with ``embed_dims`` and ``num_heads``. A module overrides one or more of three
    methods: a term of the attention output (:meth:`forward`, as in LPE), a bias of the attention scores
    (:meth:`attention_bias`, as in relative position biases), a rotation of queries and keys (:meth:`rotate`,
    as in rotary embeddings). Each sees one grid ``(H, W)``:

    - the token grid of an image, also where a batch was padded to one size;
    - of a clip, that of a frame. In joint attention over space and time, the bias between two patches is the
      same whichever frames they belong to;
    - inside windows, that of a window, ``(size, size)``, for bias and rotation, also at the border of the
      map, where a part of the window is padding. The term is that of the whole map, across windows, and so
      are bias and rotation of what the class token attends to.

    The class token is not part of any grid: a module gives it no term and no rotation. Registers get nothing
    at all, and modules do not see them.

    The methods for padded batches, :meth:`term_of_batch`, :meth:`bias_of_batch` and :meth:`rotate_batch`,
    follow from these three. A module overrides them only where it has a faster way.

    Attributes:
        rotates: whether the class overrides :meth:`rotate`.
        biases_cls_token: whether the class token may have a bias to other tokens. A class that overrides
            :meth:`attention_bias`, and has zeros there, sets it to False: for the class token alone, the bias
            of all pairs is then not computed.
    """

    rotates = False
    biases_cls_token = False

    def __init_subclass__(cls, **kwargs) -> None:
        super().__init_subclass__(**kwargs)
        cls.rotates = cls.rotate is not LocalPosition.rotate
        if 'attention_bias' in cls.__dict__ and 'biases_cls_token' not in cls.__dict__:
            cls.biases_cls_token = True

    def set_depth(self, index: int, num_layers: int) -> None:
        """Tell the module which of the blocks it is in, counted from 0; by default it makes no difference."""

    def forward(self, value: Tensor, grid: Grid) -> Tensor | None:
        """Return what is added to the attention output of the patch tokens, or None to add nothing.

        Args:
            value: values of the patch tokens, ``(B, H * W, C)``, heads side by side in C; so is the result.
            grid: ``(H, W)``.
        """
        return None

    def attention_bias(self, grid: Grid, with_cls_token: bool) -> Tensor | None:
        """Return a bias of the scores, broadcastable to ``(1, num_heads, N, N)``, queries first, or None.

        Args:
            grid: ``(H, W)``.
            with_cls_token: whether N counts a class token, which comes first: N = 1 + H * W.
        """
        return None

    def rotate(self, query: Tensor, key: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Return queries and keys as functions of their positions, by default unchanged.

        Neither may depend on the other: if only the class token is needed, there are no queries of patches.

        Args:
            query: queries of the patch tokens, ``(B, num_heads, H * W, d)``; so is the result.
            key: keys of the patch tokens, of the same shape.
            grid: ``(H, W)``.
        """
        return query, key

    def term_of_batch(self, value: Tensor, grid: Grid, padding: BatchPadding) -> Tensor | None:
        """Return the term of each image of a padded batch, ``(B, H * W, C)``, zero in the padding.

        Args:
            value: ``(B, H * W, C)``.
            grid: ``(H, W)`` of the batch.
            padding: the part of it that belongs to the images.
        """

        def term(one: Tensor, own: Grid) -> tuple[Tensor, ...]:
            found = self(one, own)
            return () if found is None else (found,)

        terms = image_by_image(term, (value,), grid, padding.grids)
        return terms[0] if terms else None

    def bias_of_batch(self, grid: Grid, grids: Sequence[Grid], with_cls_token: bool) -> Tensor | None:
        """Return the bias of each image of a padded batch, ``(B, num_heads or 1, N, N)``.

        Args:
            grid: ``(H, W)`` of the batch; the bias is zero for tokens that do not belong to the image.
            grids: the token grid of each of the B images.
            with_cls_token: as in :meth:`attention_bias`.
        """
        biases: dict[Grid, Tensor] = {}
        for own in grids:
            if own in biases:
                continue
            bias = self.attention_bias(own, with_cls_token)
            if bias is None:
                return None
            biases[own] = place_pairs(bias, own, grid, with_cls_token)
        return torch.cat([biases[own] for own in grids])

    def rotate_batch(
        self, query: Tensor, key: Tensor, grid: Grid, grids: Sequence[Grid]
    ) -> tuple[Tensor, Tensor]:
        """Return the rotated queries and keys of each image of a padded batch, zero in the padding.

        Args:
            query: ``(B, num_heads, H * W, d)``.
            key: of the same shape.
            grid: ``(H, W)`` of the batch.
            grids: the token grid of each of the B images.
        """
        query, key = image_by_image(self.rotate, (query, key), grid, grids)
        return query, key


@MODELS.register_module()
class LocalPositionEmbedding(LocalPosition):
    """LPE: a 3x3 depthwise convolution of the values, its filters shared by all heads (paper, Equation 5).

    Weight and bias start at zero, so an untrained LPE changes nothing.

    Args:
        embed_dims: width C of all heads together.
        num_heads: number of heads; they share C / num_heads filters.
    """

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        head_dim = embed_dims // num_heads
        self.num_heads = num_heads
        self.conv = nn.Conv2d(head_dim, head_dim, 3, padding=1, groups=head_dim)
        for parameter in self.conv.parameters():
            nn.init.zeros_(parameter)

    def forward(self, value: Tensor, grid: Grid) -> Tensor:
        """Return the convolved values ``(B, H * W, C)``."""
        assert self.conv.bias is not None  # optional in general, but not in this convolution
        weight, bias = (self._for_all_heads(one) for one in (self.conv.weight, self.conv.bias))
        if torch.is_grad_enabled() and is_compiling() and not is_exporting():
            return convolve_by_shifts(value, grid, weight, bias)
        # One convolution over all heads: the tokens are already a channels-last map.
        value_map = value.transpose(1, 2).unflatten(2, grid)
        if is_exporting():  # channels-last maps would ask whether the grid is wider than one token
            value_map = value_map.clone(memory_format=torch.contiguous_format)
        out = F.conv2d(value_map, weight, bias, padding=1, groups=weight.shape[0])
        return out.flatten(2).transpose(1, 2)

    def _for_all_heads(self, parameter: Tensor) -> Tensor:
        """Return the filters or their biases once per head, ``(C, ...)``; `repeat` takes longer."""
        return parameter.expand(self.num_heads, *parameter.shape).flatten(0, 1)

    def term_of_batch(self, value: Tensor, grid: Grid, padding: BatchPadding) -> Tensor:
        """Return the convolved values of each image; those in the padding are undefined.

        One convolution suffices for all images: the padding is zero, as is the padding of the convolution.
        """
        return self(value.masked_fill(~padding.valid.unsqueeze(2), 0), grid)


def pad_prefix_tokens(patch_term: Tensor, number: int) -> Tensor:
    """Prepend rows of zeros (or False) for a number of class tokens and registers to ``(B, N, C)``."""
    return F.pad(patch_term, (0, 0, int(number), 0)) if number else patch_term
