"""Image classification with mmpretrain."""

from resformer_mm.libraries import adapters_of

LIBRARY = 'mmpretrain'
MODELS = {
    'MultiResolutionClassifier': 'model',
    'MultiResolutionDataPreprocessor': 'preprocessor',
}
DATASETS = {'ImageFolder': 'folders', 'ImageNet': 'folders'}
TRANSFORMS = {
    'ColorJitter': 'color_jitter',
    'RandAugment': 'rand_augment',
    'RandomErasing': 'random_erasing',
    'RandomResizedCrop': 'random_resized_crop',
    'ResizeCenterCrop': 'resize_center_crop',
}
VISUALIZERS = {'ClassVisualizer': 'visualizer'}

__getattr__ = adapters_of(globals())
