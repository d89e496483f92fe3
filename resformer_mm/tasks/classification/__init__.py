"""Image classification with mmpretrain."""

LIBRARY = 'mmpretrain'
MODELS = {
    'MultiResolutionClassifier': 'model',
    'MultiResolutionDataPreprocessor': 'preprocessor',
}
DATASETS = {'ImageFolder': 'folders', 'ImageNet': 'folders'}
TRANSFORMS = {'ResizeCenterCrop': 'resize_center_crop'}
