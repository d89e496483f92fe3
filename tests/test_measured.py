"""Measured values as numbers and as JSON."""

import json
import math

import numpy as np
import pytest
import torch

from resformer_mm.measured import as_number, for_json, is_number, mean


@pytest.mark.parametrize(
    'value', [2, 2.0, np.float32(2), np.float64(2), np.int64(2), np.array(2.0), torch.tensor(2)]
)
def test_numbers_of_every_type(value):
    number = as_number(value)
    assert number == 2 and type(number) in (int, float) and is_number(number)


@pytest.mark.parametrize('value', [True, np.bool_(True), 'text', [1.0], np.ones(2), None])
def test_what_is_not_a_number(value):
    assert not is_number(as_number(value))


def test_the_mean_leaves_out_nan():
    assert mean([1.0, math.nan, 3.0]) == 2 and math.isnan(mean([math.nan])) and math.isnan(mean([]))


def test_json_without_nan():
    value = {
        'a': np.float32(0.5),
        'b': [math.nan, math.inf, 1],
        'c': torch.tensor([1.0, math.nan]),
        'd': None,
    }
    text = json.dumps(for_json(value), allow_nan=False)
    assert json.loads(text) == {'a': 0.5, 'b': [None, None, 1], 'c': [1.0, None], 'd': None}
