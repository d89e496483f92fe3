"""Similarity of features against the formulas on whole matrices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from resformer_mm.analysis.feature_similarity import (
    FeatureSimilarity,
    LinearCKA,
    features_of_blocks,
    resize_tokens,
)
from resformer_mm.models import ResFormer

ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=16)


def literal_cka(first: Tensor, second: Tensor) -> float:
    """HSIC of the Gram matrices, as Kornblith et al. define it."""
    samples = len(first)
    centring = torch.eye(samples, dtype=torch.float64) - 1 / samples
    gram = [centring @ (x.double() @ x.double().t()) @ centring for x in (first, second)]
    products = [(one * other).sum().item() for one in gram for other in gram]
    return products[1] / (products[0] * products[3]) ** 0.5


def collected(first: Tensor, second: Tensor, batch: int = 7) -> float:
    alignment = LinearCKA(first.shape[1])
    for one, other in zip(first.split(batch), second.split(batch)):
        alignment.update(one, other)
    return alignment.value()


def test_alignment_is_that_of_the_gram_matrices() -> None:
    torch.manual_seed(0)
    first = torch.randn(30, 6) + 3
    second = torch.tanh(first @ torch.randn(6, 6)) + torch.randn(30, 6) - 5
    expected = literal_cka(first, second)
    assert 0.1 < expected < 0.9
    assert collected(first, second) == pytest.approx(expected)


def test_alignment_ignores_rotation_scale_and_shift() -> None:
    torch.manual_seed(0)
    first = torch.randn(40, 5)
    rotation = torch.linalg.qr(torch.randn(5, 5)).Q
    assert collected(first, 3 * first @ rotation + 7) == pytest.approx(1)
    assert collected(first, torch.randn(40, 5)) < 0.5


def test_similarities_of_a_model() -> None:
    torch.manual_seed(0)
    backbone = ResFormer(ARCH, patch_size=4).eval()
    small, large = torch.randn(6, 3, 8, 8), torch.randn(6, 3, 16, 12)
    found = FeatureSimilarity(backbone)
    for one, other in zip(small.split(3), large.split(3)):
        found.update(features_of_blocks(backbone, one), features_of_blocks(backbone, other))
    results = {(one.block, one.part): one for one in found.results()}
    assert list(results) == [(0, 'class token'), (0, 'map'), (1, 'class token'), (1, 'map')]
    with torch.no_grad():  # of the last block, normalised: what the backbone returns
        (of_small,), (of_large,) = backbone(small), backbone(large)
    own = results[1, 'class token']
    same = [a @ b / (a.norm() * b.norm()) for a, b in zip(of_small, of_large)]
    assert own.cosine == pytest.approx(sum(same).item() / 6, abs=1e-5)
    # Within a batch of three, the features of each image and of the one before it.
    pairs = [(0, 2), (1, 0), (2, 1), (3, 5), (4, 3), (5, 4)]
    others = [torch.cosine_similarity(of_small[i], of_large[j], dim=0).item() for i, j in pairs]
    assert own.other_images == pytest.approx(sum(others) / 6, abs=1e-5)
    assert own.cka == pytest.approx(literal_cka(of_small, of_large), abs=1e-5)


def test_a_model_is_like_itself() -> None:
    torch.manual_seed(0)
    backbone = ResFormer(ARCH, patch_size=4, with_cls_token=False, out_type='avg_featmap').eval()
    features = features_of_blocks(backbone, torch.randn(4, 3, 8, 12))
    found = FeatureSimilarity(backbone)
    found.update(features, features)
    for one in found.results():
        assert (one.part, one.cosine, one.cka) == ('map', pytest.approx(1), pytest.approx(1))
        assert one.other_images < 0.999


def test_tokens_keep_their_places() -> None:
    rows = torch.arange(4.0)[:, None].expand(4, 6).reshape(1, 24, 1)
    assert resize_tokens(rows, (4, 6), (4, 6)) is rows
    smaller = resize_tokens(rows, (4, 6), (2, 3)).view(2, 3)
    torch.testing.assert_close(smaller, smaller[:, :1].expand(2, 3))  # columns are alike
    assert 0 < smaller[0, 0] < 1.5 < smaller[1, 0] < 3
    larger = resize_tokens(rows, (4, 6), (8, 6)).view(8, 6)[:, 0]
    assert larger.diff().min() >= 0 and (larger[0], larger[-1]) == (0, 3)
