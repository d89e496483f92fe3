import math

import pytest
import torch

from resformer_mm.cascade import CascadeRule, confidence_function

SCORES = torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('max_probability', [0.7, 0.4, 1 / 3, 1.0]),
        ('margin', [0.5, 0.05, 0.0, 1.0]),
        (
            'negative_entropy',
            [1 + sum(p * math.log(p, 3) for p in row if p) for row in SCORES.tolist()],
        ),
    ],
)
def test_confidences(name: str, expected: list[float]) -> None:
    torch.testing.assert_close(confidence_function(name)(SCORES), torch.tensor(expected))


def test_a_rule_keeps_the_sure_and_all_at_the_last_resolution() -> None:
    rule = CascadeRule([32, 64, 96], [0.5, 0.9])
    assert rule.is_sure(0, SCORES).tolist() == [True, False, False, True]
    assert rule.is_sure(1, SCORES).tolist() == [False, False, False, True]
    assert rule.is_sure(2, SCORES).tolist() == [True] * 4
    assert CascadeRule(**rule.as_config()) == rule


def test_a_threshold_that_is_met_exactly_suffices() -> None:
    assert CascadeRule([32, 64], [0.75]).is_sure(0, torch.tensor([[0.75, 0.25]])).tolist() == [True]


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (([64, 32], [0.5]), 'cascade.resolutions must be listed low to high'),
        (([32, 64], []), 'cascade.thresholds needs one value fewer'),
        (([32, 32], [0.5]), 'names a resolution twice'),
        (([], []), 'is empty'),
        (([32, 0.5], [0.5]), 'positive integers'),
    ],
)
def test_bad_rules(arguments: tuple, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        CascadeRule(*arguments)


def test_unknown_confidence() -> None:
    with pytest.raises(ValueError, match=r"cascade\.confidence='luck'.*'margin', 'max_probability'"):
        CascadeRule([32, 64], [0.5], confidence='luck')
