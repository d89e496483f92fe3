"""Gradients of an accumulation that another number of processes continues."""

import torch

from resformer_mm.resuming.exact_resume import _mean_gradients


def test_gradients_of_other_processes_are_averaged():
    first, second = torch.tensor([1.0, 2.0]), torch.tensor([3.0, -2.0])
    unused = torch.tensor([5.0])
    states = [{'gradients': {'a': first, 'b': unused}}, {'gradients': {'a': second}}]
    mean = _mean_gradients(states)
    assert mean['a'].tolist() == [2.0, 0.0]
    assert mean['b'].tolist() == [2.5]  # the other process adds nothing to it
    third = torch.tensor([0.1, 1e-30])
    assert torch.equal(_mean_gradients([{'gradients': {'a': third}}])['a'], third)
    assert _mean_gradients([{'gradients': {}}] * 2) == {}
