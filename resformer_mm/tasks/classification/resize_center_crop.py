"""Centre crop for evaluation."""

from __future__ import annotations

from mmcv.transforms import BaseTransform, Compose

from resformer_mm.config.resolutions import check_resolutions
from resformer_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ResizeCenterCrop(BaseTransform):
    """Resize the short side to ``int(resolution / crop_pct)``, then crop the centre to the resolution.

    The default is the paper's evaluation: ``int(R * 256 / 224)``, bicubic with antialiasing (Pillow).

    Args:
        resolution: side of the output in pixels; evaluation at other resolutions replaces this field.
        crop_pct: fraction of the short side that the crop keeps.
        interpolation: interpolation method of the resize.

    Raises:
        ValueError: the resolution is not a positive integer, or ``crop_pct`` is not in (0, 1].
    """

    def __init__(self, resolution: int, crop_pct: float = 224 / 256, interpolation: str = 'bicubic') -> None:
        check_resolutions([resolution], 'ResizeCenterCrop.resolution')
        if not 0 < crop_pct <= 1:
            raise ValueError(f'ResizeCenterCrop.crop_pct must be in (0, 1], got {crop_pct}')
        self.resolution = resolution
        self.crop_pct = crop_pct
        self.interpolation = interpolation
        self.pipeline = Compose(
            [
                dict(
                    type='mmpretrain.ResizeEdge',
                    scale=int(resolution / crop_pct),
                    edge='short',
                    backend='pillow',
                    interpolation=interpolation,
                ),
                dict(type='mmpretrain.CenterCrop', crop_size=resolution),
            ]
        )

    def transform(self, results: dict) -> dict:
        """Return the results with ``img`` of shape ``(resolution, resolution, 3)``."""
        return self.pipeline(results)

    def __repr__(self) -> str:
        """Return the settings."""
        return (
            f'{type(self).__name__}(resolution={self.resolution}, crop_pct={self.crop_pct}, '
            f'interpolation={self.interpolation!r})'
        )
