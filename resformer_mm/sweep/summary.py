"""Summary of a sweep for tables, pictures and the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from resformer_mm.cascade import CascadeRule, Outcomes, choose, cross_fit, fit_frontier, load_outcomes

from .pareto import pareto_front
from .record import Point, SweepRecord, SweptModel, outcome_path

# Costs in the order of the page: field -> label of the axis.
COSTS = {
    'latency_ms': 'latency (ms per sample)',
    'gflops': 'GFLOPs per sample (multiply-adds)',
    'memory_mib': 'peak memory (MiB, without weights)',
}
# The peak memory of a cascade is that of its largest resolution.
CASCADE_COSTS = ('latency_ms', 'gflops')
NUM_CASCADES = 16
# Names of losses and errors in the libraries; for all other metrics, higher is better.
LOWER_IS_BETTER = ('*loss*', '*error*', '*abs_rel', '*sq_rel', '*rmse*', '*log10', '*silog', '*mae', '*mse')


@dataclass(frozen=True)
class Patches:
    """The patches of a model at a resolution, in a sweep over patch sizes.

    Attributes:
        of_model: name of the model without the patch size.
        size: patch size in pixels; None if it follows from a number of tokens.
        wanted: the number of tokens that it follows from, or None.
        tokens: patch tokens of an image or frame, on average.
    """

    of_model: str
    size: int | None
    wanted: int | None
    tokens: float

    @property
    def label(self) -> str:
        """Name of the column of a table by patch size."""
        return f'{self.wanted} tokens' if self.size is None else f'patch {self.size}'


@dataclass(frozen=True)
class Row:
    """Measurements of a model at a resolution.

    Attributes:
        model: name of the model.
        resolution: test resolution in pixels.
        trained: whether it was trained on this resolution.
        metrics: metrics of the evaluator.
        errors: standard errors of the metrics that are a fraction of correct samples.
        gflops: multiply-adds per sample, in 10^9.
        latency_ms: median time per sample.
        latency_low, latency_high: 10th and 90th percentile of the time per sample.
        memory_mib: peak memory without the weights, in MiB; NaN for exported files.
        file_mib: size of an exported file in MiB; NaN for checkpoints.
        parameters: number of parameters.
        patches: its patches, if the patch size is an axis of the sweep.
    """

    model: str
    resolution: int
    trained: bool
    metrics: dict[str, float]
    errors: dict[str, float]
    gflops: float
    latency_ms: float
    latency_low: float
    latency_high: float
    memory_mib: float
    file_mib: float
    parameters: int
    patches: Patches | None = None


@dataclass(frozen=True)
class CascadeRow:
    """A cascade of one model, fitted to a budget.

    Attributes:
        model: name of the model.
        metric: name of the metric.
        cost_name: name of the cost of the budget, one of :data:`CASCADE_COSTS`.
        value, cost: metric and mean cost on samples not used in the fit (cross-fitted on two halves).
        rule: resolutions and thresholds, fitted to all samples.
    """

    model: str
    metric: str
    cost_name: str
    value: float
    cost: float
    rule: CascadeRule


@dataclass(frozen=True)
class Summary:
    """Content of a report.

    Attributes:
        conditions: what the costs depend on.
        samples: model -> number of samples it was evaluated on.
        metrics: names of the metrics; the first is the main one.
        lower_is_better: the metrics of which lower values are better.
        rows: the measured points.
        cascades: the fitted cascades.
        notes: remarks on what is missing, and why.
    """

    conditions: dict
    samples: dict[str, int]
    metrics: list[str]
    lower_is_better: list[str]
    rows: list[Row]
    cascades: list[CascadeRow]
    notes: list[str]

    def front(self, metric: str, cost_name: str) -> list[int]:
        """Return the indices of the rows on the Pareto front, without those whose cost is not known."""
        known = [index for index, row in enumerate(self.rows) if not math.isnan(getattr(row, cost_name))]
        costs = [getattr(self.rows[index], cost_name) for index in known]
        values = [self.rows[index].metrics[metric] for index in known]
        return [known[index] for index in pareto_front(costs, values, metric in self.lower_is_better)]

    @property
    def has_exported(self) -> bool:
        """Whether there are exported files among the models."""
        return any(not math.isnan(row.file_mib) for row in self.rows)

    @property
    def has_patches(self) -> bool:
        """Whether the patch size is an axis of the sweep."""
        return any(row.patches is not None for row in self.rows)

    def as_json(self) -> dict:
        """Return the content as plain data for the page, with the Pareto fronts."""
        cascades = [{**asdict(row), 'rule': row.rule.as_config()} for row in self.cascades]
        fronts = {metric: {cost: self.front(metric, cost) for cost in COSTS} for metric in self.metrics}
        content = asdict(self)
        if not self.has_patches:
            for row in content['rows']:
                del row['patches']
        return {**content, 'cascades': cascades, 'costs': COSTS, 'fronts': fronts}


def summarise(
    record: SweepRecord, out_dir: Path, metric: str | None = None, lower_is_better: Sequence[str] = ()
) -> Summary:
    """Collect the points that are measured completely, and fit the cascades.

    Args:
        record: the measurements.
        out_dir: folder of the sweep, with the outcomes of every sample.
        metric: the main metric; by default the first of the evaluator.
        lower_is_better: names or shell patterns of metrics of which lower values are better, in addition to
            :data:`LOWER_IS_BETTER`.

    Raises:
        ValueError: there is no such metric.
    """
    names = record.metric_names()
    if metric is not None:
        if metric not in names:
            raise ValueError(f'--metric {metric}: not a metric of every model; choose from {names}')
        names.insert(0, names.pop(names.index(metric)))
    rows, cascades, notes = [], [], []
    for model in record.models:
        complete = {r: point for r, point in model.sorted_points() if model.is_complete(point)}
        unfinished = [r for r, _ in model.sorted_points() if r not in complete]
        if model.exported:
            notes.append(
                f'{model.name}: {model.exported} in {model.runtime}. GFLOPs are those of the checkpoint, and '
                'the peak memory is not measured'
            )
        if unfinished:
            notes.append(f'{model.name}: not measured completely at {unfinished}, which are left out')
        paths = {r: outcome_path(out_dir, model.name, r) for r in complete}
        paths = {r: path for r, path in paths.items() if path.is_file()}
        fraction = _fraction_metric(paths, complete, names)
        rows += [_row(model, r, point, names, fraction) for r, point in complete.items()]
        if fraction is None:
            notes.append(f'{model.name}: no cascade, since there are no class scores and labels to fit it to')
        elif len(paths) >= 2:
            cascades += _cascades(model, paths, complete, *fraction)
    samples = {model.name: model.samples for model in record.models}
    lower = _matching(names, lower_is_better)
    return Summary(record.conditions, samples, names, lower, rows, cascades, notes)


def _matching(names: list[str], patterns: Sequence[str]) -> list[str]:
    """Return the metrics of which lower values are better."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f'--lower-is-better {pattern}: no metric has this name; choose from {names}')
    patterns = (*LOWER_IS_BETTER, *patterns)
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _row(
    model: SweptModel, resolution: int, point: Point, names: list[str], fraction: tuple[str, float] | None
) -> Row:
    errors = {}
    if fraction is not None:
        name, scale = fraction
        part = point.metrics[name] / scale
        errors[name] = scale * math.sqrt(part * (1 - part) / model.samples)
    return Row(
        model=model.name,
        resolution=resolution,
        trained=resolution in model.trained_on,
        metrics={name: point.metrics[name] for name in names},
        errors=errors,
        gflops=point.gflops,
        latency_ms=point.latency_ms(),
        latency_low=point.latency_ms(0.1),
        latency_high=point.latency_ms(0.9),
        memory_mib=point.memory_mib,
        file_mib=model.file_mib,
        parameters=model.parameters,
        patches=_patches(model, point),
    )


def _patches(model: SweptModel, point: Point) -> Patches | None:
    if not model.patches or point.tokens is None:
        return None
    return Patches(model.of_model, model.patches.get('patch_size'), model.patches.get('tokens'), point.tokens)


def _fraction_metric(
    paths: dict[int, Path], points: dict[int, Point], names: list[str]
) -> tuple[str, float] | None:
    """Return the metric that is the fraction of correct samples, and its value if all are correct."""
    if not paths:
        return None
    outcomes = load_outcomes(paths, dict.fromkeys(paths, 0.0))
    right = outcomes.correct.mean(axis=1)
    for name in names:
        values = np.array([points[resolution].metrics[name] for resolution in outcomes.resolutions])
        for scale in (1.0, 100.0):
            if np.allclose(values, scale * right, rtol=0, atol=1e-3 * scale):
                return name, scale
    return None


def _cascades(
    model: SweptModel, paths: dict[int, Path], points: dict[int, Point], metric: str, scale: float
) -> list[CascadeRow]:
    result = []
    for cost_name in CASCADE_COSTS:
        cost = {r: points[r].gflops if cost_name == 'gflops' else points[r].latency_ms() for r in paths}
        outcomes: Outcomes = load_outcomes(paths, cost)
        front = fit_frontier(outcomes)
        number = min(NUM_CASCADES, len(front))
        chosen = np.linspace(0, len(front) - 1, number).round().astype(int)
        budgets = [front[index].operation.cost for index in chosen]
        for budget, operation in zip(budgets, cross_fit(outcomes, budgets)):
            rule = choose(front, target_cost=budget).rule
            if operation is None or len(rule.resolutions) == 1:
                continue
            value = scale * operation.accuracy
            result.append(CascadeRow(model.name, metric, cost_name, value, operation.cost, rule))
    return result
