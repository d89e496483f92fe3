"""Data of all tasks: samplers, collation, reading of images, and copies of them at several resolutions.

Importing this package imports none of its modules. What needs mmcv is listed for ``resformer_mm.registry``,
as the manifests of :mod:`resformer_mm.tasks` list what needs other libraries.
"""

LIBRARY = 'mmcv'
TRANSFORMS = {'LoadImage': 'loading', 'MultiResolution': 'multi_resolution'}
