"""Detectors that tell the backbone which part of a batch is padding."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from resformer_mm.models.layers import extend_edges, token_grids

from .padding_blind_heads import PaddingBlindHeads


class PaddingAware:
    """Mixin before a detector of mmdet: the sizes of the images reach the backbone and the neck.

    mmdet pads the images of a batch to one size. With this mixin the maps of the backbone are those of each
    image alone, whatever its batch mates are. With a
    :class:`~resformer_mm.models.necks.SimpleFeaturePyramid` so is every level of the pyramid, and so are the
    predictions: dense heads see zeros beyond an image and find nothing there
    (:class:`~.padding_blind_heads.PaddingBlindHeads`), and regions are pooled from maps that go on beyond an
    image as at its edge, which is what RoIAlign makes of the edge of one that is alone.

    It also gives the depth of every parameter, for layer-wise decay of the learning rate.

    Raises:
        TypeError: when built: the backbone does not take ``sizes``.
    """

    _sizes: list[tuple[int, int]] | None = None

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if 'sizes' not in inspect.signature(self.backbone.forward).parameters:
            raise TypeError(
                f'resformer_mm.{type(self).__name__} needs a backbone that takes the sizes of the images, '
                f'such as resformer_mm.ResFormer; {type(self.backbone).__name__} does not. Use '
                f'mmdet.{type(self).__name__} with it'
            )
        self._heads = None
        if self.with_neck and hasattr(self.neck, 'level_grids'):
            self._heads = PaddingBlindHeads(self)

    def loss(self, batch_inputs: Tensor, batch_data_samples: list) -> dict:
        """Return the losses of a batch ``(B, C, H, W)``, as the detector of mmdet does."""
        with self._sizes_of(batch_data_samples):
            return super().loss(batch_inputs, batch_data_samples)

    def predict(self, batch_inputs: Tensor, batch_data_samples: list, rescale: bool = True) -> list:
        """Return the samples with predictions, as the detector of mmdet does."""
        with self._sizes_of(batch_data_samples):
            return super().predict(batch_inputs, batch_data_samples, rescale)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: list | None = None) -> tuple:
        with self._sizes_of(batch_data_samples):
            return super()._forward(batch_inputs, batch_data_samples)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of the neck; alone, without the samples of a batch, no part of it is padding."""
        feats = self.backbone(batch_inputs, sizes=self._sizes)
        if not self.with_neck:
            return feats
        if self._heads is None or self._sizes is None:
            return self.neck(feats)
        grids = token_grids(self._sizes, self.backbone.patch_size)
        levels, level_grids = self.neck(feats, grids=grids), self.neck.level_grids(grids)
        self._heads.pad(levels, level_grids)
        return tuple(map(extend_edges, levels, level_grids)) if hasattr(self, 'roi_head') else levels

    def get_layer_depth(self, param_name: str) -> tuple[int, int]:
        """Return the depth of a parameter and the number of depths, see ``ResFormer.get_layer_depth``."""
        return self.backbone.get_layer_depth(param_name, 'backbone.')

    @contextmanager
    def _sizes_of(self, data_samples: Sequence | None) -> Iterator[None]:
        # mmdet hands the samples to loss and predict, but not on to extract_feat.
        if data_samples:
            self._sizes = [tuple(sample.img_shape[:2]) for sample in data_samples]
        try:
            yield
        finally:
            self._sizes = None
            if self._heads is not None:
                self._heads.forget()
