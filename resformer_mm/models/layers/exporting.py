"""Detection of ``torch.export``, whose one program must serve every size of the image.

A program holds one path, the one that the sizes of its example took. Where eager mode takes a shorter path
for some sizes, or asks for a memory layout, which PyTorch answers differently for maps one token high or
wide, the layers take the path that is right for all sizes instead.
"""

from __future__ import annotations

import torch

# PyTorch before 2.7 does not tell an export from a compilation.
is_exporting = getattr(torch.compiler, 'is_exporting', torch.compiler.is_compiling)
