"""Self-supervised pre-training with mmpretrain.

Algorithms of mmpretrain that compare views of an image take a ResFormer as their backbone as they are, and
views of different sizes as well: BYOL, SimSiam, MoCo v3, Barlow Twins. What is here is what masked
autoencoders need for images of any size.
"""

from resformer_mm.libraries import adapters_of

LIBRARY = 'mmpretrain'
MODELS = {
    'AnySizeMAEDecoder': 'masked_autoencoder',
    'AnySizeMAEHead': 'masked_autoencoder',
    'MultiResolutionMAE': 'masked_autoencoder',
}

__getattr__ = adapters_of(globals())
