"""The lines of numbers that a run logs, as valid JSON.

MMEngine 0.10 writes losses and metrics to ``WORK_DIR/TIMESTAMP/vis_data/scalars.json``, NaN and infinity
included, which JSON does not have: a class without a sample is enough for a metric of NaN. This module writes
null. Other backends of a visualizer, such as TensorBoard, have these numbers and are not changed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from mmengine.runner import Runner
from mmengine.visualization import LocalVisBackend

from resformer_mm.measured import for_json

__all__ = ['write_valid_scalars']


def write_valid_scalars(runner: Runner) -> None:
    """Let the local backends of a runner's visualizer write null for numbers that are not finite."""
    for backend in runner.visualizer._vis_backends.values():
        if isinstance(backend, LocalVisBackend):
            backend._dump = _with_nulls(backend._dump)


def _with_nulls(dump: Callable) -> Callable:
    @wraps(dump)
    def dump_valid(value_dict: dict, *args: object) -> None:
        dump(for_json(value_dict), *args)

    return dump_valid
