"""What the evaluators of a detection config need."""

from __future__ import annotations

from importlib.util import find_spec

from mmengine.config import Config

from resformer_mm.config_types import type_names

EVALUATORS = ('val_evaluator', 'test_evaluator')


def check_evaluators(cfg: Config) -> None:
    """Check that the package of ``FasterCocoMetric`` is installed, if a config evaluates with that metric.

    Without the package, the metric fails at the end of the evaluation.

    Raises:
        ValueError: it is missing.
    """
    for field in EVALUATORS:
        if 'FasterCocoMetric' in type_names(cfg.get(field)) and find_spec('faster_coco_eval') is None:
            raise ValueError(
                f'{field} has FasterCocoMetric, which needs the package faster-coco-eval: install it with '
                '`pip install faster-coco-eval`, or use CocoMetric, which computes the same'
            )
