"""The fit against a literal cascade, image by image, over every choice of thresholds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from resformer_mm.cascade import (
    CascadeRule,
    OutcomeMetric,
    Outcomes,
    apply_rule,
    choose,
    cross_fit,
    fit_frontier,
    load_outcomes,
    save_outcomes,
)


def make(samples: int = 24, resolutions: int = 3, seed: int = 0, decimals: int = 8) -> Outcomes:
    rng = np.random.default_rng(seed)
    confidence = rng.random((resolutions, samples)).round(decimals).astype(np.float32)
    sharper = np.linspace(0.6, 1.0, resolutions)[:, None]
    correct = rng.random((resolutions, samples)) < (0.2 + 0.8 * confidence) * sharper
    names = tuple(range(32, 32 * (resolutions + 1), 32))
    return Outcomes(names, confidence, correct, np.arange(1, resolutions + 1) ** 2.0)


def literal(outcomes: Outcomes, rows: tuple[int, ...], thresholds: tuple[float, ...]) -> tuple[float, float]:
    right, cost = 0, 0.0
    for sample in range(outcomes.num_samples):
        for stage, row in enumerate(rows):
            cost += outcomes.cost[row]
            last = stage == len(rows) - 1
            if last or outcomes.confidence[row, sample] >= np.float32(thresholds[stage]):
                right += int(outcomes.correct[row, sample])
                break
    return right / outcomes.num_samples, cost / outcomes.num_samples


@pytest.mark.parametrize('thresholds', [(0.2, 0.6), (0.0, 0.5), (1.1, 1.1), (0.9, 0.1)])
def test_applying_a_rule_is_the_literal_cascade(thresholds: tuple) -> None:
    outcomes = make(50)
    operation = apply_rule(CascadeRule([32, 64, 96], thresholds), outcomes)
    assert (operation.accuracy, operation.cost) == pytest.approx(literal(outcomes, (0, 1, 2), thresholds))
    assert operation.reached[0] == 1.0
    assert operation.cost == pytest.approx(np.dot(operation.reached, outcomes.cost))


@pytest.mark.parametrize('decimals', [8, 1])  # with one decimal, many samples are equally sure
def test_no_cascade_beats_the_front(decimals: int) -> None:
    outcomes = make(12, decimals=decimals)
    front = fit_frontier(outcomes)
    points = [(fit.operation.accuracy, fit.operation.cost) for fit in front]
    assert points == sorted(points) and len({accuracy for accuracy, _ in points}) == len(points)
    for fit, point in zip(front, points):
        rows = tuple(outcomes.resolutions.index(value) for value in fit.rule.resolutions)
        assert point == pytest.approx(literal(outcomes, rows, fit.rule.thresholds))
    for size in (1, 2, 3):
        for rows in itertools.combinations(range(3), size):
            choices = [np.unique(outcomes.confidence[row]) for row in rows[:-1]]
            for thresholds in itertools.product(*choices):
                accuracy, cost = literal(outcomes, rows, thresholds)
                assert any(a >= accuracy - 1e-9 and c <= cost + 1e-9 for a, c in points), (rows, thresholds)


def test_stages_are_limited() -> None:
    outcomes = make(60, resolutions=4)
    for stages in (1, 2, 3):
        assert max(len(fit.rule.resolutions) for fit in fit_frontier(outcomes, max_stages=stages)) <= stages


def test_choosing_by_target() -> None:
    front = fit_frontier(make(80))
    for fit in front:
        operation = fit.operation
        assert choose(front, target_cost=operation.cost) is fit
        assert choose(front, target_accuracy=operation.accuracy) is fit
    between = (front[0].operation.cost + front[1].operation.cost) / 2
    assert choose(front, target_cost=between) is front[0]
    with pytest.raises(ValueError, match='the cheapest costs 1'):
        choose(front, target_cost=0.5)
    with pytest.raises(ValueError, match='the best reaches'):
        choose(front, target_accuracy=1.01)
    with pytest.raises(ValueError, match='either'):
        choose(front)


def test_cross_fit_never_judges_by_the_samples_it_fitted() -> None:
    """Where confidence means nothing, the fit finds luck in its own half; unseen samples must not show it."""
    rng = np.random.default_rng(3)
    lucky, unseen = [], []
    for _ in range(20):
        confidence, correct = rng.random((3, 60)).astype(np.float32), rng.random((3, 60)) < 0.5
        outcomes = Outcomes((32, 64, 96), confidence, correct, np.array([1.0, 2.0, 3.0]))
        lucky.append(choose(fit_frontier(outcomes), target_cost=6.0).operation.accuracy)
        unseen.append(cross_fit(outcomes, [6.0])[0].accuracy)
    assert np.mean(lucky) > 0.6
    assert np.mean(unseen) == pytest.approx(0.5, abs=0.05)


def test_cross_fit_keeps_to_the_budget_where_halves_are_alike() -> None:
    once = make(200)
    outcomes = once.select(np.concatenate([np.arange(200)] * 20))
    for budget, operation in zip([1.0, 2.0, 5.0], cross_fit(outcomes, [1.0, 2.0, 5.0])):
        assert operation.cost == pytest.approx(budget, rel=0.1)
    assert cross_fit(outcomes, [0.9]) == [None]


def test_outcomes_survive_the_disk(tmp_path) -> None:
    outcomes = make()
    paths = {}
    for row, resolution in enumerate(outcomes.resolutions):
        paths[resolution] = tmp_path / 'model' / f'{resolution}.npz'
        save_outcomes(paths[resolution], outcomes.confidence[row], outcomes.correct[row])
    read = load_outcomes(paths, dict(zip(outcomes.resolutions, outcomes.cost)))
    assert read.resolutions == outcomes.resolutions
    np.testing.assert_array_equal(read.confidence, outcomes.confidence)
    np.testing.assert_array_equal(read.correct, outcomes.correct)
    save_outcomes(paths[32], outcomes.confidence[0][:-1], outcomes.correct[0][:-1])
    with pytest.raises(ValueError, match='not of the same samples'):
        load_outcomes(paths, dict(zip(outcomes.resolutions, outcomes.cost)))


def test_the_metric_collects_what_the_classifier_says() -> None:
    metric = OutcomeMetric('margin')
    metric.process(
        {}, [dict(pred_score=[0.5, 0.3, 0.2], gt_label=[0]), dict(pred_score=[0.1, 0.9, 0.0], gt_label=2)]
    )
    assert metric.evaluate(2) == {}
    confidence, correct = metric.outcomes
    assert confidence == pytest.approx([0.2, 0.8])
    assert correct.tolist() == [True, False]
    metric.process({}, [dict(pred_sem_seg=1)])
    metric.evaluate(1)
    assert metric.outcomes is None


def test_bad_outcomes() -> None:
    good = make()
    with pytest.raises(ValueError, match='low to high'):
        Outcomes((64, 32, 96), good.confidence, good.correct, good.cost)
    with pytest.raises(ValueError, match='one value for each'):
        Outcomes(good.resolutions, good.confidence, good.correct, good.cost[:2])
    with pytest.raises(ValueError, match=r'no outcomes at \[128\]'):
        apply_rule(CascadeRule([32, 128], [0.5]), good)
    with pytest.raises(ValueError, match='no samples'):
        fit_frontier(good.select(np.array([], dtype=int)))
