"""Padding masks for the dense heads of mmdet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from mmdet.models.dense_heads import AnchorFreeHead, AnchorHead, RPNHead
from mmengine.structures import InstanceData
from torch import Tensor, nn

from resformer_mm.models.layers import Grid, inside

_IMPOSSIBLE = -1e4  # a logit with a probability of exactly 0, even in half precision


class PaddingMaskedHeads:
    """Hooks that mask the padding of a batch in the inputs and scores of dense heads.

    :meth:`pad` sets which positions of the levels are padding. From then on until :meth:`forget`, every
    convolution of a dense head sees zeros there, as it does outside a single image, and no object is
    predicted there. Supported heads are :class:`mmdet.models.AnchorHead` and
    :class:`mmdet.models.AnchorFreeHead`, if they consist of convolutions and norms over single positions. A
    norm over the whole map includes the padding.

    Args:
        model: the detector; hooks are registered on its heads.
    """

    def __init__(self, model: nn.Module) -> None:
        self._outside: dict[Grid, Tensor] = {}
        for head in model.modules():
            if isinstance(head, (AnchorHead, AnchorFreeHead)):
                for module in head.modules():
                    if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1:
                        module.register_forward_pre_hook(self._mask_inputs)
                # Not in training: there, proposals in the padding are handled as in mmdet.
                head.predict_by_feat = partial(self._mask_scores, head, head.predict_by_feat)
            if isinstance(head, RPNHead):
                # Other heads drop scores of 0 by their score_thr.
                head._bbox_post_process = partial(self._drop_impossible, head._bbox_post_process)

    def pad(self, levels: Sequence[Tensor], grids: Sequence[Sequence[Grid]]) -> None:
        """Set the padding of the levels ``(B, D, H_l, W_l)``, given the grid of each image in each level."""
        self._outside = {}
        for level, own in zip(levels, grids, strict=True):
            extent = _extent(level)
            if any(tuple(grid) != extent for grid in own):
                self._outside[extent] = ~inside(own, extent, level.device).unsqueeze(1)

    def forget(self) -> None:
        """Treat no position as padding any more."""
        self._outside = {}

    def _mask_inputs(self, conv: nn.Module, args: tuple[Tensor]) -> tuple[Tensor] | None:
        if not self._outside:  # the extent of a map in a program that holds for all sizes is not a key
            return None
        outside = self._outside.get(_extent(args[0]))
        return None if outside is None else (args[0].masked_fill(outside, 0),)

    def _mask_scores(
        self, head: AnchorHead | AnchorFreeHead, predict: Callable, scores: Sequence[Tensor], *args, **kwargs
    ) -> list[InstanceData]:
        if self._outside and not head.training:
            scores = [self._without_objects(head, level) for level in scores]
        return predict(scores, *args, **kwargs)

    def _drop_impossible(
        self, post_process: Callable, results: InstanceData, *args, **kwargs
    ) -> InstanceData:
        if self._outside:
            results = results[results.scores != 0]
        return post_process(results, *args, **kwargs)

    def _without_objects(self, head: AnchorHead | AnchorFreeHead, scores: Tensor) -> Tensor:
        outside = self._outside.get(_extent(scores))
        if outside is None:
            return scores
        if not head.use_sigmoid_cls:  # the last channel of each group is the background
            is_object = scores.new_ones(scores.shape[1], dtype=torch.bool)
            is_object[head.cls_out_channels - 1 :: head.cls_out_channels] = False
            outside = outside & is_object[:, None, None]
        return scores.masked_fill(outside, _IMPOSSIBLE)


def _extent(level: Tensor) -> Grid:
    return level.shape[2], level.shape[3]
