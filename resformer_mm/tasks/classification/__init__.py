"""Image classification with mmpretrain."""

from resformer_mm.libraries import adapters_of

LIBRARY = 'mmpretrain'
MODELS = {
    'MultiResolutionClassifier': 'model',
    'MultiResolutionDataPreprocessor': 'preprocessor',
    'PartlyLabelledDataPreprocessor': 'semi_supervised',
    'SemiSupervisedClassifier': 'semi_supervised',
}
DATASETS = {
    'FewLabelsFolder': 'few_labels',
    'ImageFolder': 'folders',
    'ImageNet': 'folders',
    'PartlyLabelledFolder': 'few_labels',
}
TRANSFORMS = {
    'ColorJitter': 'color_jitter',
    'RandAugment': 'rand_augment',
    'RandomErasing': 'random_erasing',
    'RandomResizedCrop': 'random_resized_crop',
    'ResizeCenterCrop': 'resize_center_crop',
}
VISUALIZERS = {'ClassVisualizer': 'visualizer'}

__getattr__ = adapters_of(globals())
