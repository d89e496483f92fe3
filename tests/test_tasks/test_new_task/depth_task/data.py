"""Images with depth maps, in millimetres."""

from __future__ import annotations

from mmengine.registry import DATASETS, MODELS
from mmseg.datasets import NYUDataset

from resformer_mm.tasks.segmentation.preprocessor import MultiResolutionSegDataPreprocessor


@DATASETS.register_module()
class DepthFolder(NYUDataset):
    """Images and depth maps in two folders, without the rooms that NYU's files are named after."""

    METAINFO = dict(classes=())


@MODELS.register_module()
class MultiResolutionDepthDataPreprocessor(MultiResolutionSegDataPreprocessor):
    """Shrinks the crops; the depth map keeps the size of the largest."""

    map_name = 'gt_depth_map'
