"""Detectors that tell the backbone which part of a batch is padding."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from resformer_mm.models.layers import token_grids


class PaddingAware:
    """Mixin before a detector of mmdet: the sizes of the images reach the backbone and the neck.

    mmdet pads the images of a batch to one size. With this mixin the maps of the backbone and, with a
    :class:`~resformer_mm.models.necks.SimpleFeaturePyramid`, every level of the pyramid are those of each
    image alone, whatever its batch mates are. Heads see zeros beyond an image, as beyond the border of one
    that is alone; from the second 3x3 convolution of a head on, the outermost positions still depend on
    whether there is padding beside them.

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
        self._neck_takes_grids = self.with_neck and 'grids' in inspect.signature(self.neck.forward).parameters

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
        if self._neck_takes_grids and self._sizes is not None:
            return self.neck(feats, grids=token_grids(self._sizes, self.backbone.patch_size))
        return self.neck(feats)

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
