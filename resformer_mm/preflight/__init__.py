"""Pre-flight: what can be known to be wrong with a training run before its first step.

A check is a function of a :class:`~resformer_mm.preflight.subject.Subject` that yields findings; one module
per kind of problem. What only one library knows stands in ``tasks/*/preflight.py``.
"""

from __future__ import annotations

from .run import check_config

__all__ = ['check_config']
