"""Monocular depth with mmsegmentation, a task of another package.

A config names this package in ``custom_imports``.
"""

from resformer_mm.libraries import Task, register_task

from . import data, inferencer, model  # noqa: F401  they register their classes

register_task(
    'depth',
    Task(
        model='mmseg.DepthEstimator',
        inferencer='depth_task.inferencer:DepthInferencer',
        is_dense=True,
    ),
)
