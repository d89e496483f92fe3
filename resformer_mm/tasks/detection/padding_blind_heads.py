"""Heads of mmdet that neither see the padding of a batch nor find objects in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from mmdet.models.dense_heads import AnchorFreeHead, AnchorHead, RPNHead
from mmengine.structures import InstanceData
from torch import Tensor, nn

from resformer_mm.models.layers import inside

Grid = tuple[int, int]
_IMPOSSIBLE = -1e4  # as a logit a probability of exactly 0, also in half precision


class PaddingBlindHeads:
    """What heads on the maps of a pyramid do with the padding of a batch: nothing.

    While :meth:`pad` has told which positions of the levels are padding, every convolution of a dense head
    sees zeros there, as beyond the border of an image alone, and no object is predicted there. This holds
    for heads of the kinds :class:`mmdet.models.AnchorHead` and :class:`mmdet.models.AnchorFreeHead`, as far
    as they consist of convolutions and norms of single positions; a norm over the map counts the padding.

    Args:
        model: the detector, whose heads get hooks.
    """

    def __init__(self, model: nn.Module) -> None:
        self._outside: Mapping[Grid, Tensor] = {}
        for head in model.modules():
            if isinstance(head, (AnchorHead, AnchorFreeHead)):
                for module in head.modules():
                    if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1:
                        module.register_forward_pre_hook(self._see_zeros)
                # Outside training alone: what is learned from proposals in the padding is as in mmdet.
                head.predict_by_feat = partial(self._find_nothing, head, head.predict_by_feat)
            if isinstance(head, RPNHead):
                # Other heads drop scores of 0 by their score_thr.
                head._bbox_post_process = partial(self._drop_impossible, head._bbox_post_process)

    def pad(self, levels: Sequence[Tensor], grids: Sequence[Sequence[Grid]]) -> None:
        """Take the padding of the levels ``(B, D, H_l, W_l)``, given the grids of the images in each."""
        self._outside = {}
        for level, own in zip(levels, grids, strict=True):
            extent = level.shape[2], level.shape[3]
            if any(tuple(grid) != extent for grid in own):
                self._outside[extent] = ~inside(own, extent, level.device).unsqueeze(1)

    def forget(self) -> None:
        """No position is padding any more."""
        self._outside = {}

    def _see_zeros(self, conv: nn.Module, args: tuple[Tensor]) -> tuple[Tensor] | None:
        outside = self._outside.get(args[0].shape[2:])
        return None if outside is None else (args[0].masked_fill(outside, 0),)

    def _find_nothing(self, head: nn.Module, predict: Callable, scores: Sequence[Tensor], *args, **kwargs):
        if self._outside and not head.training:
            scores = [self._without_objects(head, level) for level in scores]
        return predict(scores, *args, **kwargs)

    def _drop_impossible(
        self, post_process: Callable, results: InstanceData, *args, **kwargs
    ) -> InstanceData:
        if self._outside:
            results = results[results.scores != 0]
        return post_process(results, *args, **kwargs)

    def _without_objects(self, head: nn.Module, scores: Tensor) -> Tensor:
        outside = self._outside.get(scores.shape[2:])
        if outside is None:
            return scores
        if not head.use_sigmoid_cls:  # the last of each group of channels is the background
            is_object = scores.new_ones(scores.shape[1], dtype=bool)
            is_object[head.cls_out_channels - 1 :: head.cls_out_channels] = False
            outside = outside & is_object[:, None, None]
        return scores.masked_fill(outside, _IMPOSSIBLE)
