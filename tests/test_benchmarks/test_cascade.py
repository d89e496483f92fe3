"""The benchmark of cascades: predictions with a prior, and judgement on images that nothing was fitted to."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cascade(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / 'benchmarks')
    monkeypatch.delitem(sys.modules, 'cascade', raising=False)
    return importlib.import_module('cascade')


def predictions(cascade: ModuleType, seed: int, quality: tuple[float, ...] = (1.0, 1.5, 2.0)) -> object:
    """Logits that know the label the better, the larger the image, and are the surer where they are right."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (400,), generator=generator)
    truth = F.one_hot(labels, 4) * torch.rand(400, 1, generator=generator)
    noise = torch.randn(len(quality), 400, 4, generator=generator)
    logits = torch.stack([3 * factor * truth + noise[row] for row, factor in enumerate(quality)])
    return cascade.Predictions((32, 64, 96), logits, labels, np.array([1.0, 4.0, 9.0]))


@pytest.mark.parametrize('prior', [0.0, 0.5])
def test_predictions_with_a_prior_are_those_written_out(cascade: ModuleType, prior: float) -> None:
    known = predictions(cascade, 0)
    found = known.outcomes((0, 2), 'max_probability', [2.0, 1.0, 0.5], prior)
    assert found.resolutions == (32, 96)
    assert found.cost.tolist() == [1, 9]
    for image in range(0, 400, 40):
        small = (known.logits[0, image] / 2).softmax(0)
        product = (known.logits[2, image] / 0.5).softmax(0) * small**prior
        large = product / product.sum()
        for row, scores in enumerate((small, large)):
            assert found.confidence[row, image] == pytest.approx(scores.max().item(), rel=1e-4)
            assert found.correct[row, image] == (scores.argmax() == known.labels[image])


def test_a_better_model_at_large_sizes_saves_operations(cascade: ModuleType) -> None:
    found = cascade.judge(predictions(cascade, 0), predictions(cascade, 1), 'margin', True, (0.0,))
    assert found.shape == (3, 3)
    gained, saved, changed = found[-1]  # compared with the largest size
    assert 20 < saved < 90
    assert abs(changed) < 5 and abs(gained) < 5
    assert found[0, 1] == 0  # nothing is cheaper than the smallest size


def test_nothing_is_fitted_to_the_other_images(cascade: ModuleType) -> None:
    fitted, unseen = predictions(cascade, 0), predictions(cascade, 1)
    # With labels that say the opposite, the accuracies of the same cascades change, but not their costs.
    wrong = cascade.Predictions(unseen.resolutions, unseen.logits, (unseen.labels + 1) % 4, unseen.cost)
    own = cascade.judge(fitted, unseen, 'max_probability', True, cascade.PRIORS)
    other = cascade.judge(fitted, wrong, 'max_probability', True, cascade.PRIORS)
    np.testing.assert_array_equal(own[:, 1], other[:, 1])
    assert not np.allclose(own[:, [0, 2]], other[:, [0, 2]])
