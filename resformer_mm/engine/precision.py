"""Mixed precision on processors that have no instructions for it."""

from __future__ import annotations

import torch

from resformer_mm.environment.bfloat16 import bfloat16_ratio
from resformer_mm.environment.machine import has_native_bfloat16
from resformer_mm.repairs import remark

MOST = 1.5  # native products take about half the time of float32, emulated ones three times or more


def bfloat16_pays(device: str | torch.device, where: str) -> bool:
    """Return whether bfloat16 is computed by the hardware; if not, tell once that float32 is used instead.

    A processor without such instructions emulates them, many times slower than float32. Where they are
    unknown, as on macOS and Windows, a product is measured, and the decision is told once.

    Args:
        device: device of the model.
        where: the config field or option that asks for mixed precision, for the message.
    """
    if torch.device(device).type != 'cpu':
        return True
    native = has_native_bfloat16()
    if native is False:
        remark(
            where,
            'this processor has no bfloat16 instructions (AVX512-BF16, AMX or those of ARM) and would '
            'emulate them, slower than float32: float32 is used',
        )
    if native is not None:
        return native
    ratio = bfloat16_ratio()
    assert ratio is not None  # PyTorch is there
    remark(
        where,
        f'a matrix product in bfloat16 takes {ratio:.2g} times as long as in float32 on this processor: '
        f'{"bfloat16" if ratio < MOST else "float32"} is used',
    )
    return ratio < MOST
