"""Video classification with mmaction2."""

LIBRARY = 'mmaction'
MODELS = {
    'MultiResolutionActionDataPreprocessor': 'preprocessor',
    'MultiResolutionRecognizer': 'model',
}
DATASETS = {'VideoList': 'lists'}
HOOKS = {'ClipVisualizationHook': 'pictures'}
TRANSFORMS = {
    'ClipDecode': 'clips',
    'ClipInit': 'clips',
    'MultiResolutionClips': 'multi_resolution_clips',
    'PackClips': 'clips',
}
