"""Detection of ``torch.compile`` and ``torch.export``, which record the path that a call takes.

An exported program contains a single path, that of the example. In eager mode, layers take shortcuts for some
sizes, or query the memory layout, for which PyTorch has a special case if a map is one token high or wide.
While exporting, they take the path that is correct for all sizes.

PyTorch has ``torch.compiler.is_compiling`` since 2.3 and ``torch.compiler.is_exporting`` since 2.7. Earlier
versions compile a function of another name to True, and do not distinguish exporting from compiling.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ['dense_in_export', 'is_compiling', 'is_exporting']

is_compiling = getattr(torch.compiler, 'is_compiling', None) or torch._utils.is_compiling
is_exporting = getattr(torch.compiler, 'is_exporting', None) or is_compiling


def dense_in_export(x: Tensor) -> Tensor:
    """Return a contiguous copy while exporting, else the tensor itself.

    Whether axes of a view can be merged without a copy depends on which of its sides are one.
    """
    return x.clone(memory_format=torch.contiguous_format) if is_exporting() else x
