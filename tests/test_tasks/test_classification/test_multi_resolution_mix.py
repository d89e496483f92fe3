"""Mixup and CutMix over several resolutions against literal formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from resformer_mm.tasks.classification.mix import MultiResolutionMix

SEEDS = range(8)
SIZES = [(64, 64), (48, 48), (32, 32)]
NUM_CLASSES = 7


def batches(sizes=SIZES, batch: int = 4) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)
    copies = [torch.randn(batch, 3, *size, generator=generator) for size in sizes]
    scores = torch.softmax(torch.randn(batch, NUM_CLASSES, generator=generator), dim=1)
    return copies, scores


def mix(seed: int, copies: list[Tensor], scores: Tensor, **kwargs) -> tuple[list[Tensor], list[Tensor]]:
    np.random.seed(seed)
    return MultiResolutionMix(**kwargs)(copies, scores)


def partner(batch: int, index: int) -> int:
    """The batch in reversed order."""
    return batch - 1 - index


def changed_box(image: Tensor, original: Tensor) -> tuple[int, int, int, int]:
    """Rows and columns ``top, bottom, left, right`` of the pixels that differ; zeros if none does."""
    rows, columns = torch.nonzero((image != original).any(dim=0), as_tuple=True)
    if not len(rows):
        return 0, 0, 0, 0
    return int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1


@pytest.mark.parametrize('seed', SEEDS)
@pytest.mark.parametrize('alpha', [0.2, 0.8])
@pytest.mark.parametrize('batch', [2, 4, 5])
def test_mixup_is_the_formula_at_every_resolution(seed: int, alpha: float, batch: int) -> None:
    copies, scores = batches(batch=batch)
    mixed, labels = mix(seed, copies, scores, mixup_alpha=alpha, cutmix_alpha=0)
    np.random.seed(seed)
    np.random.rand()  # whether to mix at all
    lam = np.random.beta(alpha, alpha)
    assert len(mixed) == len(copies) and len(labels) == 1
    for index in range(batch):
        other = partner(batch, index)
        for copy, image in zip(copies, mixed):
            torch.testing.assert_close(image[index], lam * copy[index] + (1 - lam) * copy[other])
        torch.testing.assert_close(labels[0][index], lam * scores[index] + (1 - lam) * scores[other])


@pytest.mark.parametrize('seed', SEEDS)
@pytest.mark.parametrize('batch', [2, 4])
@pytest.mark.parametrize(
    'sizes', [SIZES, [(224, 224), (160, 160), (128, 128)], [(48, 64), (24, 32)]], ids=str
)
def test_cutmix_scales_the_box_of_the_largest(seed: int, batch: int, sizes) -> None:
    copies, scores = batches(sizes, batch)
    mixed, labels = mix(seed, copies, scores, mixup_alpha=0, cutmix_alpha=1.0)
    height, width = sizes[0]
    top, bottom, left, right = changed_box(mixed[0][0], copies[0][0])
    lam = 1 - (bottom - top) * (right - left) / (height * width)
    for copy, image, (rows, columns) in zip(copies, mixed, sizes):
        box = [round(edge * rows / height) for edge in (top, bottom)]
        box += [round(edge * columns / width) for edge in (left, right)]
        for index in range(batch):
            expected = copy[index].clone()
            inside = (slice(None), slice(box[0], box[1]), slice(box[2], box[3]))
            expected[inside] = copy[partner(batch, index)][inside]
            assert torch.equal(image[index], expected)
    assert len(labels) == 1
    for index in range(batch):
        expected = lam * scores[index] + (1 - lam) * scores[partner(batch, index)]
        torch.testing.assert_close(labels[0][index], expected)


def test_cutmix_boxes_have_the_area_of_the_drawn_lambda() -> None:
    """Before it is cut off at the border, the box covers 1 - lambda of the image."""
    copies, scores = batches([(200, 200)], 2)
    covered = 0
    for seed in range(30):
        mixed, _ = mix(seed, copies, scores, mixup_alpha=0, cutmix_alpha=1.0)
        np.random.seed(seed)
        np.random.rand()
        side = int(200 * np.sqrt(1 - np.random.beta(1.0, 1.0)))
        top, bottom, left, right = changed_box(mixed[0][0], copies[0][0])
        assert bottom - top <= side and right - left <= side
        if 0 < top and bottom < 200 and 0 < left and right < 200:
            assert bottom - top == right - left == side // 2 * 2
            covered += 1
    assert covered > 3


def test_the_middle_image_of_an_odd_batch_is_its_own_partner() -> None:
    copies, scores = batches(batch=5)
    for kwargs in (dict(mixup_alpha=0.8, cutmix_alpha=0), dict(mixup_alpha=0, cutmix_alpha=1.0)):
        mixed, labels = mix(3, copies, scores, **kwargs)
        for copy, image in zip(copies, mixed):
            torch.testing.assert_close(image[2], copy[2])
            assert not torch.allclose(image[0], copy[0])
        torch.testing.assert_close(labels[0][2], scores[2])


def was_cutmix(mixed: Tensor, original: Tensor) -> bool:
    """CutMix keeps or replaces every pixel; mixup changes all."""
    other = original.flip(0)
    return bool(((mixed == original) | (mixed == other)).all())


def test_one_draw_of_the_kind_for_all_resolutions() -> None:
    copies, scores = batches()
    kinds = []
    for seed in range(40):
        mixed, labels = mix(seed, copies, scores)
        kind = {was_cutmix(image, copy) for image, copy in zip(mixed, copies)}
        assert len(kind) == 1 and len(labels) == 1
        kinds.append(kind.pop())
    assert 10 <= sum(kinds) <= 30  # both, about as often


@pytest.mark.parametrize(('switch_prob', 'expected'), [(0.0, False), (1.0, True)])
def test_switch_prob(switch_prob: float, expected: bool) -> None:
    copies, scores = batches()
    for seed in SEEDS:
        mixed, _ = mix(seed, copies, scores, switch_prob=switch_prob)
        assert was_cutmix(mixed[0], copies[0]) is expected


def test_separate_draws_mix_every_resolution_on_its_own() -> None:
    copies, scores = batches()
    mixed, labels = mix(0, copies, scores, shared=False, cutmix_alpha=0)
    assert len(labels) == len(copies)
    np.random.seed(0)
    lams = []
    for copy, image, label in zip(copies, mixed, labels):
        np.random.rand()
        lam = np.random.beta(0.8, 0.8)
        torch.testing.assert_close(image, lam * copy + (1 - lam) * copy.flip(0))
        torch.testing.assert_close(label, lam * scores + (1 - lam) * scores.flip(0))
        lams.append(lam)
    assert len(set(lams)) == len(copies)

    boxes = set()
    mixed, labels = mix(1, copies, scores, shared=False, mixup_alpha=0)
    for copy, image, label, (height, width) in zip(copies, mixed, labels, SIZES):
        top, bottom, left, right = changed_box(image[0], copy[0])
        lam = 1 - (bottom - top) * (right - left) / (height * width)
        torch.testing.assert_close(label, lam * scores + (1 - lam) * scores.flip(0))
        boxes.add((top / height, bottom / height, left / width, right / width))
    assert len(boxes) == len(copies)


def test_probability_of_mixing() -> None:
    copies, scores = batches()
    for shared in (True, False):
        mixed, labels = mix(0, copies, scores, prob=0.0, shared=shared)
        assert all(torch.equal(image, copy) for image, copy in zip(mixed, copies))
        assert all(torch.equal(label, scores) for label in labels)
    changed = [not torch.equal(mix(seed, copies, scores, prob=0.5)[0][0], copies[0]) for seed in range(40)]
    assert 10 <= sum(changed) <= 30


@pytest.mark.parametrize('kwargs', [dict(mixup_alpha=0), dict(cutmix_alpha=0), dict(shared=False)], ids=str)
def test_inputs_stay_as_they_are(kwargs: dict) -> None:
    copies, scores = batches()
    kept = [copy.clone() for copy in copies], scores.clone()
    mix(2, copies, scores, **kwargs)
    assert all(torch.equal(copy, old) for copy, old in zip(copies, kept[0]))
    assert torch.equal(scores, kept[1])


def test_labels_stay_distributions() -> None:
    copies, scores = batches()
    for seed in SEEDS:
        for label in mix(seed, copies, scores, shared=seed % 2 == 0)[1]:
            torch.testing.assert_close(label.sum(dim=1), torch.ones(4))


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(mixup_alpha=-0.1), 'mixup_alpha=-0.1'),
        (dict(cutmix_alpha=-1), 'cutmix_alpha=-1'),
        (dict(mixup_alpha=0, cutmix_alpha=0), 'mix=None'),
        (dict(prob=1.5), 'prob=1.5'),
        (dict(switch_prob=-0.5), 'switch_prob=-0.5'),
    ],
    ids=str,
)
def test_bad_arguments(kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiResolutionMix(**kwargs)
