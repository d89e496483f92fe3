"""Strides of the maps of a detector, and those that its heads are configured with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from resformer_mm.models import FlexiblePatchEmbed, ResFormer, SimpleFeaturePyramid


def check_strides(model: Any) -> None:
    """Check that heads expect the strides that the maps have with a token merger or flexible patches.

    The stride of the maps is then not the ``patch_size`` of the config, and with another one every box would
    be misplaced by the same factor, without an error. Only the levels of a
    :class:`~resformer_mm.models.necks.SimpleFeaturePyramid` have known strides.

    Raises:
        ValueError: the strides of a head are others, or those of flexible patches are not known; the message
            names the field.
    """
    backbone, neck = model.backbone, getattr(model, 'neck', None)
    if not isinstance(backbone, ResFormer):
        return
    patches = backbone.patch_embed
    is_flexible = isinstance(patches, FlexiblePatchEmbed) and patches.changes_size
    if backbone.token_merger is None and not is_flexible:
        return
    if not isinstance(neck, SimpleFeaturePyramid):
        if is_flexible:
            raise ValueError(
                f'model.backbone.patch_embed has patches of another size than its kernel ({patches}), but '
                'the strides of the neck are those of the kernel: leave patch_size, patch_sizes and tokens '
                'out of it, or use SimpleFeaturePyramid'
            )
        return
    stride = backbone.stride_after()
    if stride is None:
        raise ValueError(
            f'model.backbone.token_merger.type={type(backbone.token_merger).__name__!r} gives maps whose '
            'stride differs from image to image: a detector needs StridedTokenMerger'
        )
    strides = neck.level_strides(stride)
    source = 'the patch size' if backbone.token_merger is None else 'the token merger'
    for field, configured in _configured(model):
        expected = strides[: len(configured)]
        if configured != expected:
            raise ValueError(
                f'{field} is {configured}, but the levels of the neck have the strides {strides}: {source} '
                f'gives a map of stride {stride}. Set this field to {expected}, or '
                'model.neck.scale_factors such that the levels have the strides of the heads'
            )


def _configured(model: Any) -> Iterator[tuple[str, list[float]]]:
    """Yield the fields of a detector that name strides, and the strides along both sides."""
    for head in ('rpn_head', 'bbox_head'):
        generator = getattr(getattr(model, head, None), 'prior_generator', None)
        if generator is not None:
            for axis in (0, 1):
                strides = [float(pair[axis]) for pair in generator.strides]
                yield f'strides of model.{head}', strides
    roi_head: Any = getattr(model, 'roi_head', None)
    for part in ('bbox_roi_extractor', 'mask_roi_extractor'):
        extractors: Any = getattr(roi_head, part, None)
        for extractor in extractors if hasattr(extractors, '__iter__') else [extractors]:
            if hasattr(extractor, 'featmap_strides'):
                strides = [float(stride) for stride in extractor.featmap_strides]
                yield f'model.roi_head.{part}.featmap_strides', strides
