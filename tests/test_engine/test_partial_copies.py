"""Copies of a part of a batch: Equation 3 image by image, and who teaches whom."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from resformer_mm.engine import MultiResolutionObjective, PartialCopy, train_by_turns

NUMBER = 6
# By copy, largest first: the images that have it.
PARTS = {
    'nested': [(2, 3), (1, 2, 3, 4), None],
    'one each': [(0, 5), (1, 4), (2, 3)],
    'one of two, and a small one': [(0, 2, 3, 5), (1, 4), None],
    'gaps': [(0, 1, 3), (1, 2), (0, 2, 3, 4)],
    'a large one for all': [None, (1, 4), (0, 1, 4, 5)],
}


class ToyModel(MultiResolutionObjective, BaseModel):
    """A linear model of the mean over positions, with the square as its loss."""

    consistency_targets = ('score',)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 2)
        self.set_consistency(dict(type='L2Consistency', loss_weight=0.5), 'score')

    def supervise(self, inputs: Tensor, data_samples: list, index: int) -> tuple[dict[str, Tensor], Tensor]:
        score = self.linear(inputs.mean((2, 3)))
        return {'loss_square': F.mse_loss(score, torch.stack(data_samples))}, score

    def forward(self, inputs, data_samples=None, mode: str = 'tensor', **kwargs):
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        return super().forward(inputs, data_samples, mode, **kwargs)


def batch(parts: list) -> dict:
    generator = torch.Generator().manual_seed(0)
    inputs = []
    for size, rows in zip((8, 6, 4), parts):
        images = torch.randn(NUMBER, 3, size, size, generator=generator)
        inputs.append(images if rows is None else PartialCopy(images[list(rows)], rows))
    return dict(inputs=inputs, data_samples=list(torch.randn(NUMBER, 2, generator=generator)))


def literal_terms(model: ToyModel, data: dict) -> dict[str, Tensor]:
    """Equation 3, image by image: the mean over the images of a copy, and over those with a larger one."""
    terms: dict[str, Tensor] = {}
    latest: dict[int, Tensor] = {}
    for one in data['inputs']:
        images, rows = one if isinstance(one, PartialCopy) else (one, range(NUMBER))
        squares, agreements, given = [], [], {}
        for image, row in zip(images, rows):
            score = model.linear(image.mean((1, 2)))
            squares.append(((score - data['data_samples'][row]) ** 2).mean())
            if row in latest:
                agreements.append(0.5 * ((score - latest[row]) ** 2).mean())
            given[row] = score.detach()
        latest.update(given)
        name = images.shape[-1]
        terms[f'loss_square_{name}'] = sum(squares) / len(squares) / 3
        if agreements:
            terms[f'loss_consistency_{name}'] = sum(agreements) / len(agreements) / 3
    return terms


@pytest.mark.parametrize('parts', PARTS.values(), ids=PARTS)
def test_losses_and_gradients_are_those_of_the_images_one_by_one(parts: list) -> None:
    model, data = ToyModel(), batch(parts)
    losses, expected = model(**data, mode='loss'), literal_terms(model, data)
    assert set(losses) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, msg=name)
    weight = model.linear.weight
    (actual,) = torch.autograd.grad(sum(losses.values()), weight)
    torch.testing.assert_close(actual, torch.autograd.grad(sum(expected.values()), weight)[0])


@pytest.mark.parametrize('parts', PARTS.values(), ids=PARTS)
def test_turn_by_turn(parts: list) -> None:
    """The weights after a step are those of the joint step."""
    weights = []
    for step in (lambda model, data, optim: model.train_step(data, optim), train_by_turns):
        model = ToyModel()
        step(model, batch(parts), OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)))
        weights.append(model.linear.weight.detach())
    torch.testing.assert_close(*weights)
    assert not torch.equal(weights[0], ToyModel().linear.weight)


def test_the_expectation_over_parts_is_the_whole_copy() -> None:
    """Each pair of images has the large copy once: the mean of the steps is the step with all."""
    model, losses = ToyModel(), []
    for rows in ((0, 5), (1, 4), (2, 3)):
        losses.append(model(**batch([rows, None, None]), mode='loss'))
    whole = model(**batch([None, None, None]), mode='loss')
    for name in ('loss_square_8', 'loss_consistency_6'):
        torch.testing.assert_close(sum(one[name] for one in losses) / 3, whole[name])
