"""The field ``inference_dtype`` of a config: the type in which a model predicts."""

from __future__ import annotations

from typing import Literal, get_args

from mmengine.config import Config
from mmengine.device import get_device

FIELD = 'inference_dtype'
InferenceDtype = Literal['float32', 'bfloat16', 'float16']
DTYPES: tuple[InferenceDtype, ...] = get_args(InferenceDtype)


def read_inference_dtype(cfg: Config) -> InferenceDtype:
    """Return the field ``inference_dtype`` of a config, by default 'float32'.

    Raises:
        ValueError: it is not one of :data:`DTYPES`.
    """
    name = cfg.get(FIELD) or 'float32'
    if name not in DTYPES:
        raise ValueError(f'{FIELD}={name!r} is not a type of inference: choose from {", ".join(DTYPES)}')
    return name


def mixed_precision_dtype() -> InferenceDtype:
    """Return the usual type of mixed precision on the device of this run: float16 on a GPU, else bfloat16."""
    return 'bfloat16' if get_device() == 'cpu' else 'float16'
