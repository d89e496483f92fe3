"""Strict loading of segmentation masks."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from mmseg.datasets.transforms import LoadAnnotations

from resformer_mm.datasets.regular_files import read_file
from resformer_mm.registry import TRANSFORMS
from resformer_mm.repairs import StrictError

from .label_maps import (
    MARK,
    LabelValues,
    NotALabelMapError,
    decode_label_map,
    likely_cause,
    value_counts,
)

CHECK = 'tools/dataset_converters/check_segmentation.py lists all such files of a data set'


class SegMapError(RuntimeError):
    """A mask that cannot be used. The message names the mask, its image and a remedy."""


@TRANSFORMS.register_module()
class LoadSegMap(LoadAnnotations):
    """Read a label mask as mmsegmentation does, and raise if it does not match the image or the classes.

    Required keys: ``img_path`` and ``ori_shape`` of the loaded image (which may have been resized since),
    ``seg_map_path``, ``reduce_zero_label``, ``label_map`` and ``seg_fields``, as set by mmsegmentation's data
    sets. Sets ``gt_seg_map``, ``(H, W)`` uint8. An image that does not come from a data set, as in
    mmsegmentation's inference functions, has no ``seg_fields``; it is passed on without a mask.

    Args:
        num_classes: number of classes of the data set. Needed with data sets of mmsegmentation; those of this
            package provide it.
        ignore_index: value of ignored pixels in the files, or several; by default that of the data set, or
            255. After loading they have the label 255, which losses, metrics and padding ignore by default.
        backend_args: file backend of MMEngine, for storage other than local files.

    Raises:
        SegMapError: the mask is missing, truncated, not a label map, differs in size from the image, or has a
            value that is neither a class nor ignored.
        ValueError: the number of classes is unknown, differs from that of the data set, or does not fit into
            a mask; the image has not been loaded yet; or the data set has no masks.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        ignore_index: int | Sequence[int] | None = None,
        backend_args: dict | None = None,
    ) -> None:
        super().__init__(backend_args=backend_args)
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def _load_seg_map(self, results: dict) -> None:
        mask, image = results.get('seg_map_path'), results.get('img_path')
        if mask is None and 'seg_fields' not in results:
            return
        if mask is None:
            raise ValueError(
                f'LoadSegMap: the data set has no mask for {image}: set its data_prefix.seg_map_path, or '
                'remove this transform from the pipeline'
            )
        if 'ori_shape' not in results:
            raise ValueError(
                f'LoadSegMap: {image} has not been loaded yet: put resformer_mm.LoadImage before it'
            )
        values = self._read(mask, image)
        height, width = results['ori_shape'][:2]
        if values.shape != (height, width):
            raise SegMapError(
                f'the mask {mask} has {values.shape[0]} x {values.shape[1]} pixels (height x width), but its '
                f'image {image} has {height} x {width}: they do not belong together, one was resized, or the '
                f'image has an EXIF orientation that the mask does not follow. {CHECK}'
            )
        meaning = self._meaning(results)
        if unknown := meaning.unknown_in(values):
            raise SegMapError(
                f'the mask {mask} of the image {image} has the values {unknown[:8]}'
                f'{" and more" if len(unknown) > 8 else ""}, which are not classes ({meaning}): correct '
                'the mask, the classes, ignore_index or reduce_zero_label of the data set'
                f'{likely_cause(unknown, value_counts(values), meaning)}. {CHECK}'
            )
        results['gt_seg_map'] = meaning.apply(values)
        results['seg_fields'].append('gt_seg_map')

    def _read(self, mask: str, image: str | None) -> np.ndarray:
        try:
            return decode_label_map(read_file(mask, self.backend_args), os.path.dirname(mask))
        except FileNotFoundError as error:
            raise SegMapError(
                f'there is no mask {mask} for the image {image}: add it, or remove the image. {CHECK}'
            ) from error
        except StrictError:
            raise
        except Exception as error:
            is_other = isinstance(error, NotALabelMapError)  # whose message has the remedy
            what, remedy = ('use', '') if is_other else ('read', ': repair it, or remove both')
            raise SegMapError(
                f'cannot {what} the mask {mask} of the image {image} ({type(error).__name__}: '
                f'{error}){remedy}. {CHECK}'
            ) from error

    def _meaning(self, results: dict) -> LabelValues:
        given, own = self.num_classes, results.get('num_classes')
        num_classes = own if given is None else given
        if num_classes is None:
            raise ValueError(
                'LoadSegMap needs the number of classes, which this data set does not provide: set '
                "dict(type='resformer_mm.LoadSegMap', num_classes=...), or use "
                'resformer_mm.SegmentationFolder'
            )
        if own is not None and own != num_classes:
            raise ValueError(f'LoadSegMap.num_classes is {given}, but the data set has {own} classes')
        ignore_index = self.ignore_index
        if ignore_index is None:
            ignore_index = results.get('ignore_index', MARK)
        return LabelValues(
            num_classes,
            results['reduce_zero_label'],
            ignore_index,
            results['label_map'],
        )

    def __repr__(self) -> str:
        """Return the settings."""
        return (
            f'{type(self).__name__}(num_classes={self.num_classes}, ignore_index={self.ignore_index}, '
            f'backend_args={self.backend_args})'
        )
