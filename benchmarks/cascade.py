"""What cascades save: confidences, temperatures, and small predictions as a prior of large ones.

    python benchmarks/cascade.py CONFIG CHECKPOINT --resolutions 16 24 32 48 64 96 --splits 5

The test images of the config are split into two halves at random, several times. Temperatures (one per
resolution, by the likelihood), the weight of the prior, resolutions and thresholds are all fitted to one
half and judged on the other, in both directions. A cascade has up to three resolutions. With a prior, the
prediction at a resolution is ``log p + w log p_before``, normalised, where ``p_before`` is the prediction
at the resolution before; w is one of 0.25, 0.5 and 1.

For each single resolution, two cascades are chosen on the half that is fitted to: the most accurate one of
at most its cost, and the cheapest one of at least its accuracy. On the other half, the first has
``points_gained`` over the most accurate single resolution of at most this cost. The second has ``saved``, a
percentage of the cost of the cheapest single resolution of at least this accuracy, and ``points_changed``
from its accuracy. Which single resolutions these are, is chosen on the first half, too. Means over all
halves, and standard errors, which take the halves of a split as independent of each other and the splits as
the same images.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from resformer_mm.analysis.calibration import fit_temperature
from resformer_mm.analysis.machine import describe_device
from resformer_mm.analysis.resolution_complexity import complexity_at
from resformer_mm.analysis.size_diagnosis import Scope, Subject
from resformer_mm.cascade import (
    CascadeRule,
    Operation,
    Outcomes,
    apply_rule,
    confidence_function,
    fit_frontier,
)
from resformer_mm.config.command_line import add_config_options
from resformer_mm.files import write_csv
from resformer_mm.text import table

CONFIDENCES = ('max_probability', 'margin', 'negative_entropy')
PRIORS = (0.25, 0.5, 1.0)
STAGES = 3
MEASURES = ('points_gained', 'saved', 'points_changed')


@dataclass(frozen=True)
class Predictions:
    """Logits of all images at all resolutions.

    Attributes:
        resolutions: in pixels, low to high.
        logits: ``(R, N, classes)``.
        labels: true classes, ``(N,)``.
        cost: GFLOPs of an image, ``(R,)``.
    """

    resolutions: tuple[int, ...]
    logits: Tensor
    labels: Tensor
    cost: np.ndarray

    def select(self, images: Tensor) -> Predictions:
        """Return the predictions of some images."""
        return Predictions(self.resolutions, self.logits[:, images], self.labels[images], self.cost)

    def temperatures(self) -> list[float]:
        """Return the temperature of each resolution."""
        return [fit_temperature(logits, self.labels) for logits in self.logits]

    def outcomes(
        self, rows: Sequence[int], confidence: str, temperatures: Sequence[float], prior: float
    ) -> Outcomes:
        """Return the outcomes of the cascade of some resolutions, given by their indices."""
        before: Tensor | None = None
        sure, right = [], []
        for row in rows:
            scores = (self.logits[row] / temperatures[row]).log_softmax(1)
            if before is not None and prior:
                scores = (scores + prior * before).log_softmax(1)
            before = scores
            sure.append(confidence_function(confidence)(scores.exp()).numpy())
            right.append((scores.argmax(1) == self.labels).numpy())
        chosen = tuple(self.resolutions[row] for row in rows)
        return Outcomes(chosen, np.stack(sure), np.stack(right), self.cost[list(rows)])


def chains(number: int) -> Iterator[tuple[int, ...]]:
    """Yield the indices of the resolutions of every cascade."""
    for stages in range(1, min(STAGES, number) + 1):
        yield from itertools.combinations(range(number), stages)


@dataclass(frozen=True)
class Candidate:
    """A cascade or a single resolution, with accuracy and cost on the images it was fitted to."""

    rows: tuple[int, ...]
    prior: float
    rule: CascadeRule
    accuracy: float
    cost: float

    def on(self, unseen: Predictions, temperatures: Sequence[float]) -> Operation:
        """Return accuracy and cost on other images."""
        return apply_rule(
            self.rule, unseen.outcomes(self.rows, self.rule.confidence, temperatures, self.prior)
        )


def candidates(
    fitted: Predictions, confidence: str, temperatures: Sequence[float], priors: Sequence[float]
) -> list[Candidate]:
    """Return the Pareto fronts of all cascades, and all single resolutions."""
    found = []
    for rows in chains(len(fitted.resolutions)):
        for prior in priors if len(rows) > 1 else (0.0,):
            outcomes = fitted.outcomes(rows, confidence, temperatures, prior)
            for fit in fit_frontier(outcomes, confidence, len(rows)):
                # A front also has shorter cascades, whose predictions would have another prior.
                if len(fit.rule.resolutions) == len(rows):
                    operation = fit.operation
                    found.append(Candidate(rows, prior, fit.rule, operation.accuracy, operation.cost))
    return found


def judge(
    fitted: Predictions, unseen: Predictions, confidence: str, is_scaled: bool, priors: Sequence[float]
) -> np.ndarray:
    """Return points gained, percentage saved and points changed at each resolution, ``(R, 3)``."""
    temperatures = fitted.temperatures() if is_scaled else [1.0] * len(fitted.resolutions)
    cascades = candidates(fitted, confidence, temperatures, priors)
    singles = [one for one in cascades if len(one.rows) == 1]
    results = []
    for single in singles:
        best, best_single = (
            max((one for one in group if one.cost <= single.cost), key=lambda one: (one.accuracy, -one.cost))
            for group in (cascades, singles)
        )
        gained = best.on(unseen, temperatures).accuracy - best_single.on(unseen, temperatures).accuracy
        cheapest, cheapest_single = (
            min(
                (one for one in group if one.accuracy >= single.accuracy),
                key=lambda one: (one.cost, -one.accuracy),
            )
            for group in (cascades, singles)
        )
        own, other = (one.on(unseen, temperatures) for one in (cheapest, cheapest_single))
        changed = own.accuracy - other.accuracy
        results.append((100 * gained, 100 * (1 - own.cost / other.cost), 100 * changed))
    return np.array(results)


def predict(args: argparse.Namespace) -> Predictions:
    """Return the predictions of all test images."""
    subject = Subject(args.config, args.checkpoint, args.cfg_options)
    resolutions = tuple(sorted(args.resolutions))
    parts: dict[int, list[Tensor]] = {side: [] for side in resolutions}
    indices = subject.select(None)
    with torch.no_grad():
        for images in subject.batches(indices, resolutions, Scope(resolutions), 'predictions, batches'):
            for side, batch in images.items():
                parts[side].append(subject.predict(subject.normalise(batch)))
    logits = torch.stack([torch.cat(parts[side]) for side in resolutions])
    cost = np.array([complexity_at(subject.model, (side, side)).flops / 1e9 for side in resolutions])
    return Predictions(resolutions, logits, subject.labels, cost)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--resolutions', nargs='+', type=int, default=[16, 24, 32, 48, 64, 96])
    parser.add_argument('--splits', type=int, default=5, help='random splits into halves (5)')
    parser.add_argument('--out', type=Path, default=Path('benchmarks/results/cascade_confidences.csv'))
    add_config_options(parser)
    return parser.parse_args()


def main() -> None:
    """Predict, fit, judge, print and write."""
    args = parse_args()
    predictions = predict(args)
    halves = [
        torch.randperm(len(predictions.labels), generator=torch.Generator().manual_seed(seed)).tensor_split(2)
        for seed in range(args.splits)
    ]
    pairs = [(predictions.select(a), predictions.select(b)) for x, y in halves for a, b in ((x, y), (y, x))]
    accuracy = 100 * (predictions.logits.argmax(2) == predictions.labels).double().mean(1)
    rows = []
    for confidence, is_scaled, priors in itertools.product(CONFIDENCES, (False, True), ((0.0,), PRIORS)):
        found = np.array([judge(*pair, confidence, is_scaled, priors) for pair in pairs])
        means = found.mean(0)
        errors = found.std(0, ddof=1) / 2**0.5
        for index, side in enumerate(predictions.resolutions):
            row: dict[str, object] = dict(
                confidence=confidence,
                temperature='per resolution' if is_scaled else 'none',
                prior='fitted' if len(priors) > 1 else 'none',
                resolution=side,
                accuracy=f'{accuracy[index]:.2f}',
                gflops=f'{predictions.cost[index]:.5f}',
            )
            for column, name in enumerate(MEASURES):
                row[name] = f'{means[index, column]:.2f}'
                row[f'{name}_error'] = f'{errors[index, column]:.2f}'
            rows.append(
                dict(
                    row,
                    halves=len(pairs),
                    images=len(predictions.labels),
                    machine=describe_device('cpu'),
                    torch=torch.__version__,
                )
            )
    write_csv(args.out, rows)
    shown = ('confidence', 'temperature', 'prior', 'resolution', 'accuracy', *MEASURES)
    print(table(shown, [[row[name] for name in shown] for row in rows]))
    print(f'\nWritten: {args.out}')


if __name__ == '__main__':
    main()
