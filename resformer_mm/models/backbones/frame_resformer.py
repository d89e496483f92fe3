"""ResFormer for recognizers that process the frames of a video as images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from resformer_mm.models.layers import Grid
from resformer_mm.registry import MODELS

from .resformer import ResFormer


@MODELS.register_module()
class FrameResFormer(ResFormer):
    """A :class:`ResFormer` with the output convention of mmaction, for its 2D recognizers (TSN and others).

    ``forward`` maps frames ``(B * T, C_in, h, w)`` to one output, or to a tuple of outputs if there are
    several out indices. Heads of mmaction such as ``TSNHead`` take a map: set
    ``out_type='featmap'``. Parameters, and therefore checkpoints, are those of :class:`ResFormer`.

    Args:
        *args: see :class:`ResFormer`, as are all arguments that are not listed.
        num_segments: frames per video. A recognizer with ``test_cfg.fcn_test`` reads it from its backbone.
        **kwargs: further arguments of :class:`ResFormer`.
    """

    pools_maps = True  # as the heads of mmaction do

    def __init__(self, *args, num_segments: int | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.num_segments = num_segments

    def forward(
        self,
        image: Tensor | Sequence[Tensor],
        sizes: Sequence[Grid] | None = None,
        pool: str | None = None,
    ) -> Any:  # an output, a tuple of outputs, or what `forward_pooled` or `forward_copies` returns
        """Return the output in the form given by ``out_type``, a tuple if there are several out indices.

        The arguments are those of :meth:`ResFormer.forward`.
        """
        outputs = super().forward(image, sizes, pool)
        return self._as_output(outputs) if pool is None and isinstance(image, Tensor) else outputs

    def _as_output(self, feats: tuple) -> Any:
        return feats[0] if len(feats) == 1 else feats
