"""Several position modules in one attention."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from resformer_mm.registry import MODELS

from .batch_padding import BatchPadding
from .grids import Grid
from .local_position import LocalPosition, LocalPositionEmbedding


@MODELS.register_module()
class CombinedPosition(LocalPosition):
    """Position modules together, e.g. LPE and a rotation: their terms and biases are added, rotations follow.

    A checkpoint of a model whose only position module was LPE gives its weights to the LPE among the parts.

    Args:
        embed_dims: width C of all heads together.
        num_heads: number of heads.
        parts: config of each module.

    Raises:
        ValueError: there is no part.
    """

    def __init__(self, embed_dims: int, num_heads: int, parts: Sequence[dict]) -> None:
        super().__init__()
        if not parts:
            raise ValueError('local_position.parts must name at least one position module')
        shape = dict(embed_dims=embed_dims, num_heads=num_heads)
        built = [MODELS.build({'_scope_': 'resformer_mm', **part, **shape}) for part in parts]
        self.parts = nn.ModuleList(built)
        self.rotates = any(part.rotates for part in built)
        self.biases_cls_token = any(part.biases_cls_token for part in built)

    def set_depth(self, index: int, num_layers: int) -> None:
        """Tell every part which block it is in."""
        for part in self._positions():
            part.set_depth(index, num_layers)

    def forward(self, value: Tensor, grid: Grid) -> Tensor | None:
        """Return the sum of the terms, ``(B, H * W, C)``."""
        return _total([part(value, grid) for part in self._positions()])

    def attention_bias(self, grid: Grid, with_cls_token: bool) -> Tensor | None:
        """Return the sum of the biases, broadcastable to ``(1, num_heads, N, N)``."""
        return _total([part.attention_bias(grid, with_cls_token) for part in self._positions()])

    def rotate(self, query: Tensor, key: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Return queries and keys ``(B, num_heads, H * W, d)``, turned by every part."""
        for part in self._positions():
            query, key = part.rotate(query, key, grid)
        return query, key

    def term_of_batch(self, value: Tensor, grid: Grid, padding: BatchPadding) -> Tensor | None:
        """Return the sum of the terms of each image of a padded batch, ``(B, H * W, C)``."""
        return _total([part.term_of_batch(value, grid, padding) for part in self._positions()])

    def bias_of_batch(self, grid: Grid, grids: Sequence[Grid], with_cls_token: bool) -> Tensor | None:
        """Return the sum of the biases of each image of a padded batch."""
        return _total([part.bias_of_batch(grid, grids, with_cls_token) for part in self._positions()])

    def rotate_batch(
        self, query: Tensor, key: Tensor, grid: Grid, grids: Sequence[Grid]
    ) -> tuple[Tensor, Tensor]:
        """Return the queries and keys of each image of a padded batch, turned by every part."""
        for part in self._positions():
            if part.rotates:
                query, key = part.rotate_batch(query, key, grid, grids)
        return query, key

    def _positions(self) -> list[LocalPosition]:
        return list(self.parts)  # type: ignore[arg-type]  # a ModuleList forgets the classes of its modules

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        alone = [key for key in state_dict if key.startswith(f'{prefix}conv.')]
        for index, part in enumerate(self.parts):
            if isinstance(part, LocalPositionEmbedding):
                for key in alone:
                    state_dict[key.replace(prefix, f'{prefix}parts.{index}.', 1)] = state_dict.pop(key)
                break
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _total(parts: Sequence[Tensor | None]) -> Tensor | None:
    found = [part for part in parts if part is not None]
    return sum(found[1:], found[0]) if found else None
