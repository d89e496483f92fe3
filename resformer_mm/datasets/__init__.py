"""Data loading shared by all tasks: reading of images, copies at several resolutions, samplers, collation.

Importing this package imports none of its modules. Like the manifests of :mod:`resformer_mm.tasks`, it lists
for ``resformer_mm.registry`` the transforms that need a library, here mmcv.
"""

from resformer_mm.libraries import adapters_of

LIBRARY = 'mmcv'
TRANSFORMS = {
    'DownscaledCopies': 'downscaled_copies',
    'LoadImage': 'loading',
    'MultiResolution': 'multi_resolution',
    'OpenImage': 'opening',
}

__getattr__ = adapters_of(globals())
