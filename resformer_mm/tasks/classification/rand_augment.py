"""RandAugment for training, by OpenCV."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import numpy as np
from mmpretrain.datasets import transforms as mmpretrain
from mmpretrain.datasets.transforms.auto_augment import BaseAugTransform

from resformer_mm.datasets import pixel_operations as pixels
from resformer_mm.datasets.shears import shear, translate
from resformer_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandAugment(mmpretrain.RandAugment):
    """mmpretrain's RandAugment with faster operations.

    The policies, their arguments and the random draws are the same. Every operation gives the values of
    mmpretrain's to one grey level. Those of :data:`OPERATIONS` are faster. Others run as they are: rotation,
    which OpenCV does in mmpretrain, too, shears and translations with another interpolation than 'bicubic',
    and operations of your own.

    Required key: ``img``, BGR ``(H, W, 3)`` of uint8.

    Args:
        *args: as of :class:`mmpretrain.datasets.transforms.RandAugment`.
        **kwargs: likewise.

    Raises:
        TypeError: an image is of another kind.
    """

    def transform(self, results: dict) -> dict | None:
        """Return the results with the new ``img``; None if an operation of your own skips the image."""
        for index in self.random_policy_indices():
            operation = self.transforms[index]
            faster = OPERATIONS.get(type(operation))
            if faster is None or getattr(operation, 'interpolation', 'bicubic') != 'bicubic':
                results = operation(results)
                if results is None:
                    return None
            elif not operation.random_disable():
                results['img'] = faster(operation, results['img'])
        return results


def _drawn(operation: BaseAugTransform, fixed: float | None) -> float:
    return operation.random_magnitude() if fixed is None else fixed


def _signed(operation: BaseAugTransform) -> float:
    return operation.random_negative(_drawn(operation, operation.magnitude))


def _fill(operation: BaseAugTransform) -> tuple[int, ...]:
    return (operation.pad_val,) * 3 if isinstance(operation.pad_val, int) else operation.pad_val


def _translate(operation: BaseAugTransform, image: np.ndarray) -> np.ndarray:
    length = image.shape[1 if operation.direction == 'horizontal' else 0]
    return translate(image, _signed(operation) * length, operation.direction, _fill(operation))


OPERATIONS: dict[type, Callable[[BaseAugTransform, np.ndarray], np.ndarray]] = {
    mmpretrain.AutoContrast: lambda _, image: pixels.auto_contrast(image),
    mmpretrain.Brightness: lambda op, image: pixels.adjust_brightness(image, 1 + _signed(op)),
    mmpretrain.ColorTransform: lambda op, image: pixels.adjust_saturation(
        image, 1 + _signed(op), cut_off=False
    ),
    mmpretrain.Contrast: lambda op, image: pixels.adjust_contrast(image, 1 + _signed(op)),
    mmpretrain.Equalize: lambda _, image: pixels.equalize(image),
    mmpretrain.Invert: lambda _, image: pixels.invert(image),
    mmpretrain.Posterize: lambda op, image: pixels.posterize(image, ceil(_drawn(op, op.bits))),
    mmpretrain.Sharpness: lambda op, image: pixels.adjust_sharpness(image, 1 + _signed(op)),
    mmpretrain.Shear: lambda op, image: shear(image, _signed(op), op.direction, _fill(op)),
    mmpretrain.Solarize: lambda op, image: pixels.solarize(image, _drawn(op, op.thr)),
    mmpretrain.SolarizeAdd: lambda op, image: pixels.solarize_add(image, _drawn(op, op.magnitude), op.thr),
    mmpretrain.Translate: _translate,
}
"""Operation of mmpretrain -> what does the same; both draw the same numbers."""
