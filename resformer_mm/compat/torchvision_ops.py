"""Makes torchvision importable where its compiled operators do not load.

Needed by torchvision 0.28.0 on a CPU-only PyTorch 2.13.0 when its wheel was built for CUDA: the
operator library ``_C`` cannot be loaded, torchvision tolerates that, and then its own
``_meta_registrations`` fail with ``RuntimeError: operator torchvision::nms does not exist`` (and,
that one declared, the same for ``qnms``).

Declaring the schemas of both is enough for the import and for everything that needs no compiled
operator: transforms, datasets, models. The operators themselves stay unavailable;
``torchvision.ops.nms`` still raises torchvision's own explanation.
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
# torch.library removes a declaration together with the object that made it.
_library = None


def declare_missing_ops() -> bool:
    """Declare the operators torchvision looks up on import, if it could not be imported otherwise.

    It acts only if torchvision is installed and not imported yet, PyTorch is a CPU-only build, and
    the operator library cannot be loaded. torchvision itself is not imported.

    Returns:
        True if the declarations are in place, by this call or an earlier one; False if not needed.
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
            # The very call that torchvision makes on import; loading twice does no harm.
            torch.ops.load_library(file)
        except (ImportError, OSError):
            return False
        return True
    return False
