"""``class_weight`` of mmsegmentation's cross-entropy with ignored pixels, against PyTorch's weighted mean."""

import pytest
import torch
from torch.nn import functional

pytest.importorskip('mmseg')

from resformer_mm.compat.class_weight import mend_class_weight
from resformer_mm.libraries import import_library


@pytest.mark.parametrize('avg_non_ignore', [False, True])
@pytest.mark.parametrize('ignored', [0, 7, 20])
def test_the_loss_is_the_mean_weighted_by_class(avg_non_ignore, ignored):
    import_library('mmseg', 'the test')
    from mmseg.models.losses import CrossEntropyLoss

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=generator, requires_grad=True)
    labels = torch.randint(3, (2, 4, 5), generator=generator)
    labels.view(-1)[:ignored] = 255
    weights = [0.2, 1.0, 3.0]
    loss = CrossEntropyLoss(class_weight=weights, avg_non_ignore=avg_non_ignore)(
        logits, labels, ignore_index=255
    )
    expected = functional.cross_entropy(logits, labels, torch.tensor(weights), ignore_index=255)
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
    torch.testing.assert_close(gradient, *torch.autograd.grad(expected, logits))


def test_other_arguments_are_passed_on():
    import_library('mmseg', 'the test')
    from mmseg.models.losses import cross_entropy

    logits, labels = torch.zeros(1, 2, 1, 2), torch.tensor([[[1, 255]]])
    given = cross_entropy(logits, labels, None, torch.ones(2), avg_factor=4.0, ignore_index=255)
    assert given.item() == pytest.approx(functional.cross_entropy(logits[..., 0], labels[..., 0]).item() / 4)
    each = cross_entropy(logits, labels, None, torch.ones(2), 'none', ignore_index=255)
    assert each.shape == labels.shape and each[0, 0, 1] == 0


def test_it_is_done_once():
    import_library('mmseg', 'the test')
    assert not mend_class_weight()
