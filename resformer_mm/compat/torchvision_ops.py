"""Makes torchvision importable if its compiled operators cannot be loaded.

This is needed for torchvision 0.28.0 with a CPU-only PyTorch 2.13.0, if the torchvision wheel was built for
CUDA. The operator library ``_C`` cannot be loaded. torchvision tolerates that, but then its
``_meta_registrations`` fail with ``RuntimeError: operator torchvision::nms does not exist``, and if that
operator is declared, with the same error for ``qnms``.

Declaring the schemas of both is enough for the import and for everything that does not use compiled
operators: transforms, datasets, models. The operators themselves remain unavailable; ``torchvision.ops.nms``
still raises torchvision's own error.
"""

from __future__ import annotations

import sys
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

__all__ = ['declare_missing_ops']

# The two operators that torchvision._meta_registrations looks up while it is imported.
_SCHEMAS = {
    'nms': '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
    'qnms': '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
}
# torch.library removes a declaration when the object that made it is deleted.
_library = None


def declare_missing_ops() -> bool:
    """Declare the operators that torchvision looks up on import, if the import would fail otherwise.

    This has an effect only if torchvision is installed and not yet imported, PyTorch is a CPU-only build, and
    the operator library cannot be loaded. torchvision itself is not imported.

    Returns:
        True if this call or an earlier one made the declarations; False if they are not needed.
    """
    global _library
    if _library is not None:
        return True
    if 'torchvision' in sys.modules:
        return False
    spec = find_spec('torchvision')
    if spec is None or not spec.submodule_search_locations:
        return False

    import torch

    if torch.version.cuda is not None or torch.version.hip is not None:
        return False
    if _operators_load(Path(spec.submodule_search_locations[0])):
        return False
    _library = torch.library.Library('torchvision', 'FRAGMENT')
    for name, signature in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            _library.define(name + signature)
    return True


def _operators_load(package: Path) -> bool:
    import torch

    for suffix in EXTENSION_SUFFIXES:
        file = package / f'_C{suffix}'
        if not file.is_file():
            continue
        try:
            # torchvision makes the same call on import; loading twice is harmless.
            torch.ops.load_library(file)
        except (ImportError, OSError):
            return False
        return True
    return False
