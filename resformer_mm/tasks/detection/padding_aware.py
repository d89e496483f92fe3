"""Mixin that passes image sizes from a detector to its backbone and neck."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mmdet.models import BaseDetector
from torch import Tensor

from resformer_mm.models.layers import Grid, extend_edges

from .padding_masked_heads import PaddingMaskedHeads
from .strides import check_strides


class PaddingAware(BaseDetector):
    """Mixin for a detector of mmdet that passes the image sizes to the backbone and the neck.

    mmdet pads the images of a batch to one size. With this mixin, the feature maps of an image do not depend
    on the other images in the batch. With a :class:`~resformer_mm.models.necks.SimpleFeaturePyramid`, the
    same holds for every level of the pyramid and for the predictions. The inputs and scores of dense heads
    are masked outside the image (:class:`~.padding_masked_heads.PaddingMaskedHeads`). For region pooling, the
    values at the edges of an image are repeated outside it, which is how RoIAlign treats the edges of a
    single image.

    The mixin also provides the depth of every parameter, for layer-wise learning rate decay.

    Raises:
        TypeError: the backbone does not accept ``sizes``; raised by the constructor.
        ValueError: the backbone merges tokens or has patches of another size than its kernel, and the
            strides of a head are not those of the maps; raised by the constructor.
    """

    _sizes: list[Grid] | None = None

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if 'sizes' not in inspect.signature(self.backbone.forward).parameters:
            raise TypeError(
                f'resformer_mm.{type(self).__name__} needs a backbone that accepts image sizes, such as '
                f'resformer_mm.ResFormer; {type(self.backbone).__name__} does not. Use '
                f'mmdet.{type(self).__name__} with it'
            )
        check_strides(self)
        self._heads: PaddingMaskedHeads | None = None
        if self.with_neck and hasattr(self.neck, 'level_grids'):
            self._heads = PaddingMaskedHeads(self)

    @property
    def masks_padding(self) -> bool:
        """Whether predictions do not depend on the padding, as with a ``SimpleFeaturePyramid``."""
        return self._heads is not None

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
        """Return the maps of the neck. If called directly, without samples, nothing counts as padding."""
        feats = self.backbone(batch_inputs, sizes=self._sizes)
        if not self.with_neck:
            return feats
        if self._heads is None or self._sizes is None:
            return self.neck(feats)
        grids = self.backbone.map_grids(self._sizes)
        levels, level_grids = self.neck(feats, grids=grids), self.neck.level_grids(grids)
        self._heads.pad(levels, level_grids)
        return tuple(map(extend_edges, levels, level_grids)) if hasattr(self, 'roi_head') else levels

    def get_layer_depth(self, param_name: str) -> tuple[int, int]:
        """Return the depth of a parameter and the number of depths, see ``ResFormer.get_layer_depth``."""
        return self.backbone.get_layer_depth(param_name, 'backbone.')

    @contextmanager
    def _sizes_of(self, data_samples: Sequence | None) -> Iterator[None]:
        # mmdet passes the samples to loss and predict, but not to extract_feat.
        if data_samples:
            self._sizes = [(sample.img_shape[0], sample.img_shape[1]) for sample in data_samples]
        try:
            yield
        finally:
            self._sizes = None
            if self._heads is not None:
                self._heads.forget()
