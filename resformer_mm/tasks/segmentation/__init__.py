"""Semantic segmentation with mmsegmentation."""

LIBRARY = 'mmseg'
MODELS = {
    'MultiResolutionSegmentor': 'model',
    'MultiResolutionSegDataPreprocessor': 'preprocessor',
}
DATASETS = {'ADE20K': 'folders', 'SegmentationFolder': 'folders'}
TRANSFORMS = {'LoadSegMap': 'load_seg_map'}
