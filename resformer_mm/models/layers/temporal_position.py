"""Position embedding of the frames of a clip."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resformer_mm.compat.tracing import is_exporting


class TemporalPositionEmbedding(nn.Module):
    """A learned vector for each frame of a clip, interpolated linearly for another number of frames.

    The vectors belong to the centres of equal parts of the clip, so 16 frames of a clip sample the same
    function of time as 8 frames. By default they start at zero, so a model initialised from images first
    treats all frames alike. A checkpoint with another number of frames is interpolated on loading.

    Args:
        embed_dims: width C.
        num_frames: number of learned vectors.
        init_std: standard deviation of the normal distribution from which they are drawn; 0 starts at zero.

    Raises:
        ValueError: ``num_frames`` is not an integer of at least 1, or ``init_std`` is not a number
            of at least 0.
    """

    def __init__(self, embed_dims: int, num_frames: int, init_std: float = 0.0) -> None:
        super().__init__()
        if isinstance(num_frames, bool) or not isinstance(num_frames, int) or num_frames < 1:
            raise ValueError(f'num_frames must be an integer of at least 1, got {num_frames!r}')
        if not isinstance(init_std, (int, float)) or not 0 <= init_std < math.inf:
            raise ValueError(f'temporal_init_std must be a number of at least 0, got {init_std!r}')
        self.num_frames = num_frames
        self.table = nn.Parameter(torch.zeros(1, num_frames, embed_dims))
        if init_std > 0:
            nn.init.normal_(self.table, std=init_std)

    def forward(self, num_frames: int) -> Tensor:
        """Return the embedding ``(1, T, C)`` of T frames."""
        if not is_exporting() and num_frames == self.num_frames:
            return self.table
        return _interpolate(self.table, num_frames)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        key = f'{prefix}table'
        table = state_dict.get(key)
        if table is not None and table.ndim == 3 and table.shape[1] != self.num_frames:
            state_dict[key] = _interpolate(table, self.num_frames)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _interpolate(table: Tensor, num_frames: int) -> Tensor:
    over_time = table.transpose(1, 2).float()
    resized = F.interpolate(over_time, size=num_frames, mode='linear', align_corners=False)
    return resized.to(table.dtype).transpose(1, 2)
