"""Mixed precision on processors that have no instructions for it."""

from __future__ import annotations

import torch

from resformer_mm.environment.machine import has_native_bfloat16
from resformer_mm.repairs import remark


def bfloat16_pays(device: str | torch.device, where: str) -> bool:
    """Return whether bfloat16 is computed by the hardware; if not, tell once that float32 is used instead.

    A processor without such instructions emulates them, many times slower than float32. What cannot be found
    out counts as True.

    Args:
        device: device of the model.
        where: the config field or option that asks for mixed precision, for the message.
    """
    if torch.device(device).type != 'cpu' or has_native_bfloat16() is not False:
        return True
    remark(
        where,
        'this processor has no bfloat16 instructions (AVX512-BF16, AMX or those of ARM) and would emulate '
        'them, slower than float32: float32 is used',
    )
    return False
