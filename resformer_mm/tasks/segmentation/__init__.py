"""Semantic segmentation with mmsegmentation."""

from resformer_mm.libraries import adapters_of

LIBRARY = 'mmseg'
MODELS = {
    'MultiResolutionSegmentor': 'model',
    'MultiResolutionSegDataPreprocessor': 'preprocessor',
}
DATASETS = {'ADE20K': 'folders', 'SegmentationFolder': 'folders'}
TRANSFORMS = {'LoadSegMap': 'load_seg_map', 'PhotoMetricDistortion': 'photometric_distortion'}
VISUALIZERS = {'LabelMapVisualizer': 'visualizer'}

__getattr__ = adapters_of(globals())
