"""Video classification with mmaction2."""

from resformer_mm.libraries import adapters_of

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
VISUALIZERS = {'RecognitionVisualizer': 'visualizer'}

__getattr__ = adapters_of(globals())
