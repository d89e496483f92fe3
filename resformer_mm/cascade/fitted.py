"""Fitted cascades, compared with single resolutions, and their configs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from resformer_mm.compat.lazy_configs import finish_lazy_config, make_writable

from .fitting import Fit, Operation, choose, cross_fit, fit_frontier
from .outcomes import Outcomes


@dataclass(frozen=True)
class FittedCascade:
    """A cascade with its accuracy and cost.

    Attributes:
        fit: the cascade, with accuracy and cost on the samples it was fitted to.
        unseen: the same on samples that the cascade was not fitted to, see :func:`cross_fit`.
        outcomes: confidence and correctness of every sample at every resolution, with the costs.
    """

    fit: Fit
    unseen: Operation
    outcomes: Outcomes

    def singles(self) -> dict[int, Operation]:
        """Return accuracy and cost of each resolution alone."""
        accuracy = self.outcomes.correct.mean(axis=1)
        return {
            resolution: Operation(float(accuracy[row]), float(self.outcomes.cost[row]), (1.0,))
            for row, resolution in enumerate(self.outcomes.resolutions)
        }


def fit_cascade(
    outcomes: Outcomes,
    confidence: str,
    max_stages: int,
    target_accuracy: float | None = None,
    target_cost: float | None = None,
) -> FittedCascade:
    """Fit a cascade to a target accuracy (a fraction) or to a mean cost per sample.

    Raises:
        ValueError: no cascade meets the target, or not exactly one target is given.
    """
    front = fit_frontier(outcomes, confidence, max_stages)
    fit = choose(front, target_accuracy, target_cost)
    (unseen,) = cross_fit(
        outcomes, [max(fit.operation.cost, float(outcomes.cost.min()))], confidence, max_stages
    )
    assert unseen is not None  # the cheapest resolution alone is within the cost
    return FittedCascade(fit, unseen, outcomes)


def write_cascade_config(path: Path, config: str, checkpoint: str, fitted: FittedCascade, unit: str) -> None:
    """Write a config that adds the cascade to another config; ``unit`` is the unit of the cost.

    A pure-Python config cannot be the base of the file, so all of its settings are copied.

    Raises:
        FileNotFoundError: the folder of the file does not exist.
    """
    operation = fitted.fit.operation
    text = (
        f'"""{Path(config).name} with a cascade fitted to its validation split.\n\n'
        f'On this split, {Path(checkpoint).name} has accuracy {operation.accuracy:.4f} at a mean cost of '
        f'{operation.cost:.4g} {unit}.\n"""\n\n'
        f'{_inherited(config)}\n\n'
        f'cascade = {fitted.fit.rule.as_config()!r}\n'
    )
    path.write_text(text)


def _inherited(config: str) -> str:
    """Return the lines with which a string config takes over another config."""
    if Config._is_lazy_import(config):
        cfg = finish_lazy_config(Config.fromfile(config))
        make_writable(cfg)
        return cfg.pretty_text.strip()
    return f'_base_ = {str(Path(config).resolve())!r}'
