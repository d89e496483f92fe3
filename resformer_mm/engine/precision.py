"""Decision for or against 16 bits, by what the processor computes fast."""

from __future__ import annotations

import torch

from resformer_mm.environment.half_precision import HalfType, product_ratio
from resformer_mm.environment.machine import has_native_bfloat16
from resformer_mm.repairs import remark


def half_pays(kind: HalfType, device: str | torch.device, where: str) -> bool:
    """Return whether a type of 16 bits is faster than float32; if not, tell once that float32 is used.

    A processor without instructions for it emulates it, up to many times slower than float32. Processors that
    have the instructions may not use them, as with the environment variable ``ONEDNN_MAX_CPU_ISA``, or in
    builds of PyTorch without oneDNN; therefore a product of milliseconds is measured there as well.

    Args:
        kind: 'bfloat16' or 'float16'.
        device: device of the model. GPUs always pay.
        where: the config field or option that asks for it, for the message.
    """
    if torch.device(device).type != 'cpu':
        return True
    native = has_native_bfloat16() if kind == 'bfloat16' else None
    if native is False:
        text = (
            'this processor has no bfloat16 instructions (AVX512-BF16, AMX or those of ARM) and would '
            'emulate them, slower than float32: float32 is used'
        )
        remark(where, text, f'{kind} on this processor')
        return False
    ratio = product_ratio(kind)
    assert ratio is not None  # PyTorch is there
    pays = ratio < 1
    if not (pays and native):
        text = (
            f'a matrix product in {kind} takes {ratio:.2g} times as long as in float32 on this processor: '
            f'{kind if pays else "float32"} is used'
        )
        remark(where, text, f'{kind} on this processor')
    return pays
