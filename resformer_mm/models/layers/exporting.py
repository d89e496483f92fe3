"""Detection of ``torch.export``, which makes one program for all image sizes.

An exported program contains a single path, that of the example. In eager mode, layers take shortcuts for some
sizes, or query the memory layout, for which PyTorch has a special case if a map is one token high or wide.
While exporting, they take the path that is correct for all sizes.
"""

from __future__ import annotations

import torch

# PyTorch before 2.7 does not distinguish exporting from compiling.
is_exporting = getattr(torch.compiler, 'is_exporting', torch.compiler.is_compiling)
