"""Measured values as Python numbers, and as JSON, which has no NaN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def as_number(value: Any) -> Any:
    """Return a NumPy or PyTorch scalar, or an array of one element without dimensions, as a Python number.

    Other values are returned unchanged.
    """
    if isinstance(value, (np.generic, np.ndarray, torch.Tensor)) and value.ndim == 0:
        return value.item()
    return value


def is_number(value: Any) -> bool:
    """Whether a value is a Python number; truth values are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def mean(values: list[float]) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def for_json(value: Any) -> Any:
    """Return a value for a JSON file: arrays as lists, Python's numbers, None (null) for NaN and infinity."""
    value = as_number(value)
    if isinstance(value, Mapping):
        return {key: for_json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [for_json(entry) for entry in value]
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return for_json(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
