"""Data preprocessor of classification, compared with literal formulas, and its error messages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from resformer_mm.engine import PartialCopy
from resformer_mm.registry import MODELS
from resformer_mm.tasks.classification.preprocessor import MultiResolutionDataPreprocessor

MEAN = [123.675, 116.28, 103.53]  # RGB
STD = [58.395, 57.12, 57.375]
SIZES = (32, 24, 16)


def preprocessor(**kwargs) -> MultiResolutionDataPreprocessor:
    options = dict(mean=MEAN, std=STD, to_rgb=True, num_classes=5)
    return MODELS.build(dict(type='resformer_mm.MultiResolutionDataPreprocessor', **{**options, **kwargs}))


def images(size: int, batch: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(size)
    return torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, generator=generator)


def samples(labels=(0, 3, 4, 1)) -> list[DataSample]:
    return [
        DataSample(metainfo=dict(img_path=f'pictures/{number}.jpg')).set_gt_label(label)
        for number, label in enumerate(labels)
    ]


def normalised(batch: Tensor) -> Tensor:
    """Channel by channel, from blue-green-red to normalised red-green-blue."""
    batch = batch.double()
    out = [(batch[:, 2 - channel] - MEAN[channel]) / STD[channel] for channel in range(3)]
    return torch.stack(out, dim=1).float()


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('sizes', [SIZES, SIZES[:1]], ids=str)
def test_every_resolution_is_normalised(training: bool, sizes: tuple[int, ...]) -> None:
    batch = [images(size) for size in sizes]
    kept = [image.clone() for image in batch]
    out = preprocessor()(dict(inputs=batch, data_samples=samples()), training=training)
    assert isinstance(out['inputs'], list) and len(out['inputs']) == len(sizes)
    for image, source, old in zip(out['inputs'], batch, kept):
        assert image.dtype == torch.float32 and torch.equal(source, old)
        torch.testing.assert_close(image, normalised(source), rtol=0, atol=1e-5)
    assert [sample.gt_label.tolist() for sample in out['data_samples']] == [[0], [3], [4], [1]]


@pytest.mark.parametrize('stacked', [True, False])
def test_one_resolution_stays_one_tensor(stacked: bool) -> None:
    batch = images(20)
    inputs = batch if stacked else list(batch)
    out = preprocessor()(dict(inputs=inputs, data_samples=samples()))
    torch.testing.assert_close(out['inputs'], normalised(batch), rtol=0, atol=1e-5)
    assert torch.equal(preprocessor()(dict(inputs=inputs))['inputs'], out['inputs'])  # without labels


def test_pseudo_collated_resolutions_are_stacked() -> None:
    batches = [images(size) for size in SIZES]
    samples_of_a_loader = [
        {'inputs': list(copies), 'data_samples': sample} for *copies, sample in zip(*batches, samples())
    ]
    data = pseudo_collate(samples_of_a_loader)
    assert not isinstance(data['inputs'][0], Tensor)
    out = preprocessor(num_classes=5)(data, training=True)
    expected = preprocessor(num_classes=5)({'inputs': batches, 'data_samples': samples()}, training=True)
    for got, wanted in zip(out['inputs'], expected['inputs'], strict=True):
        assert torch.equal(got, wanted)


def test_colours_stay_where_they_are_without_to_rgb() -> None:
    batch = images(16)
    out = preprocessor(to_rgb=False)(dict(inputs=[batch], data_samples=samples()))['inputs'][0]
    expected = (batch.float() - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(out, expected)
    plain = preprocessor(mean=None, std=None)(dict(inputs=[batch], data_samples=samples()))['inputs'][0]
    assert torch.equal(plain, batch.flip(1).float())


@pytest.mark.parametrize('label', [-1, 5, 1000])
@pytest.mark.parametrize('training', [True, False])
def test_a_label_outside_the_classes_is_named_with_its_image(label: int, training: bool) -> None:
    data = dict(inputs=[images(16)], data_samples=samples((0, 1, label, 2)))
    with pytest.raises(
        ValueError, match=rf'label \[{label}\] of pictures/2.jpg .* 5 classes 0\.\.4.*num_classes'
    ):
        preprocessor()(data, training=training)


def test_labels_are_not_checked_without_a_number_of_classes() -> None:
    out = preprocessor(num_classes=None)(dict(inputs=[images(16)], data_samples=samples((0, 1, 1000, 2))))
    assert out['data_samples'][2].gt_label.tolist() == [1000]


def test_images_that_disagree_in_size_are_refused() -> None:
    data = dict(inputs=[*images(16, 2), *images(20, 2)], data_samples=samples())
    with pytest.raises(ValueError, match=r'differ in size .*\(3, 16, 16\), \(3, 20, 20\).*ResizeCenterCrop'):
        preprocessor()(data)


def test_mixing_needs_the_number_of_classes() -> None:
    mixing = preprocessor(mix=dict(), num_classes=None)
    with pytest.raises(ValueError, match='data_preprocessor.num_classes'):
        mixing(dict(inputs=[images(16)], data_samples=samples()), training=True)


def classifier(num_classes: int | None = None, head: dict | None = None) -> nn.Module:
    return MODELS.build(
        dict(
            type='resformer_mm.MultiResolutionClassifier',
            data_preprocessor=dict(
                type='resformer_mm.MultiResolutionDataPreprocessor', num_classes=num_classes, mix=dict()
            ),
            backbone=dict(
                type='resformer_mm.ResFormer',
                arch=dict(embed_dims=24, num_layers=1, num_heads=2, feedforward_channels=24),
            ),
            head=head or dict(type='LinearClsHead', num_classes=5, in_channels=24),
        )
    )


@pytest.mark.parametrize('num_classes', [None, 5])
def test_the_number_of_classes_is_that_of_the_head(num_classes: int | None) -> None:
    """It is said once, and both the check of the labels and the mixing of soft labels know it."""
    model = classifier(num_classes)
    data = dict(inputs=[images(16)], data_samples=samples((0, 1, 4, 2)))
    scores = [sample.gt_score for sample in model.data_preprocessor(data, training=True)['data_samples']]
    assert {tuple(score.shape) for score in scores} == {(5,)}
    with pytest.raises(ValueError, match=r'label \[5\] .* outside the 5 classes.*model.head.num_classes'):
        model.data_preprocessor(dict(inputs=[images(16)], data_samples=samples((0, 1, 5, 2))))


def test_two_numbers_of_classes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match='model.head.num_classes is 5, but .* data preprocessor has 4'):
        classifier(4)


def test_a_head_without_a_number_of_classes_leaves_that_of_the_data_preprocessor() -> None:
    assert classifier(4, head=dict(type='ClsHead')).data_preprocessor.num_classes == 4


def test_batch_augments_are_refused() -> None:
    with pytest.raises(ValueError, match='mix=dict'):
        preprocessor(batch_augments=dict(augments=[dict(type='Mixup', alpha=0.8)]))
    model = dict(
        type='resformer_mm.MultiResolutionClassifier',
        data_preprocessor=dict(type='resformer_mm.MultiResolutionDataPreprocessor', num_classes=5),
        backbone=dict(
            type='resformer_mm.ResFormer',
            arch=dict(embed_dims=24, num_layers=1, num_heads=2, feedforward_channels=24),
        ),
        train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8)]),
    )
    with pytest.raises(ValueError, match='mix=dict'):
        MODELS.build(model)


def test_evaluation_never_mixes() -> None:
    batch = [images(size) for size in SIZES]
    out = preprocessor(mix=dict())(dict(inputs=batch, data_samples=samples()), training=False)
    for image, source in zip(out['inputs'], batch):
        torch.testing.assert_close(image, normalised(source), rtol=0, atol=1e-5)
    one_hot = torch.eye(5)[[0, 3, 4, 1]]
    for sample, expected in zip(out['data_samples'], one_hot):
        assert torch.equal(sample.gt_score.float(), expected)


def test_shared_mixing() -> None:
    """Images and one-hot labels are mixed after normalisation, with one lambda."""
    batch = [images(size) for size in SIZES]
    np.random.seed(0)
    mix = dict(mixup_alpha=0.8, cutmix_alpha=0)
    out = preprocessor(mix=mix)(dict(inputs=batch, data_samples=samples()), training=True)
    np.random.seed(0)
    np.random.rand()
    lam = np.random.beta(0.8, 0.8)
    for image, source in zip(out['inputs'], batch):
        clean = normalised(source)
        torch.testing.assert_close(image, lam * clean + (1 - lam) * clean.flip(0), rtol=0, atol=1e-5)
    one_hot = torch.eye(5)[[0, 3, 4, 1]]
    expected = lam * one_hot + (1 - lam) * one_hot.flip(0)
    for sample, score in zip(out['data_samples'], expected):
        torch.testing.assert_close(sample.gt_score, score)
        assert sample.gt_score.dtype == torch.float32 and 'gt_scores' not in sample


def test_separate_mixing_keeps_one_label_per_resolution() -> None:
    batch = [images(size) for size in SIZES]
    np.random.seed(0)
    mix = dict(mixup_alpha=0.8, cutmix_alpha=0, shared=False)
    out = preprocessor(mix=mix)(dict(inputs=batch, data_samples=samples()), training=True)
    np.random.seed(0)
    one_hot = torch.eye(5)[[0, 3, 4, 1]]
    for index, source in enumerate(batch):
        np.random.rand()
        lam = np.random.beta(0.8, 0.8)
        clean = normalised(source)
        mixed = lam * clean + (1 - lam) * clean.flip(0)
        torch.testing.assert_close(out['inputs'][index], mixed, rtol=0, atol=1e-5)
        scores = torch.stack([sample.gt_scores[index] for sample in out['data_samples']])
        torch.testing.assert_close(scores, lam * one_hot + (1 - lam) * one_hot.flip(0))


def test_soft_labels_of_the_data_set_are_mixed_as_they_are() -> None:
    soft = torch.softmax(torch.randn(4, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    labelled = [sample.set_gt_score(score) for sample, score in zip(samples(), soft)]
    np.random.seed(0)
    mix = dict(mixup_alpha=0.8, cutmix_alpha=0)
    out = preprocessor(mix=mix)(dict(inputs=[images(16)], data_samples=labelled), training=True)
    np.random.seed(0)
    np.random.rand()
    lam = np.random.beta(0.8, 0.8)
    scores = torch.stack([sample.gt_score for sample in out['data_samples']])
    torch.testing.assert_close(scores, lam * soft + (1 - lam) * soft.flip(0))


# Copies of a part of the images


def parts() -> list[Tensor | PartialCopy]:
    """The middle images at the largest size, the outer ones at the next, all at the smallest."""
    large, middle, small = (images(size) for size in SIZES)
    return [PartialCopy(large[1:3], (1, 2)), PartialCopy(middle[[0, 3]], (0, 3)), small]


@pytest.mark.parametrize('mix', [None, dict(mixup_alpha=0.8, cutmix_alpha=0), dict(mixup_alpha=0)])
def test_a_part_is_what_it_is_in_the_whole(mix: dict | None) -> None:
    """The rows of a copy of all images, mixed with the same partners; and the same labels."""
    outputs = []
    for inputs in ([images(size) for size in SIZES], parts()):
        np.random.seed(1)
        data = preprocessor(mix=mix)(dict(inputs=inputs, data_samples=samples()), training=True)
        outputs.append(data)
    whole, part = outputs
    for image, copy in zip(whole['inputs'], part['inputs'], strict=True):
        if isinstance(copy, PartialCopy):
            assert torch.equal(copy.inputs, image[list(copy.rows)])
        else:
            assert torch.equal(copy, image)
    assert [getattr(copy, 'rows', None) for copy in part['inputs']] == [(1, 2), (0, 3), None]
    if mix is not None:
        for one, other in zip(whole['data_samples'], part['data_samples']):
            assert torch.equal(one.gt_score, other.gt_score)


def test_parts_that_are_mixed_separately() -> None:
    np.random.seed(0)
    mix = dict(mixup_alpha=0.8, cutmix_alpha=0, shared=False)
    out = preprocessor(mix=mix)(dict(inputs=parts(), data_samples=samples()), training=True)
    np.random.seed(0)
    one_hot = torch.eye(5)[[0, 3, 4, 1]]
    for index, (copy, rows) in enumerate(zip(out['inputs'], ([1, 2], [0, 3], [0, 1, 2, 3]))):
        np.random.rand()
        lam = np.random.beta(0.8, 0.8)
        clean = normalised(images(SIZES[index]))[rows]
        mixed = lam * clean + (1 - lam) * clean.flip(0)
        torch.testing.assert_close(getattr(copy, 'inputs', copy), mixed, rtol=0, atol=1e-5)
        scores = torch.stack([out['data_samples'][row].gt_scores[index] for row in rows])
        own = one_hot[rows]
        torch.testing.assert_close(scores, lam * own + (1 - lam) * own.flip(0))


def test_parts_that_cannot_be_mixed_or_augmented_are_refused() -> None:
    large, _, small = (images(size) for size in SIZES)
    inputs = [PartialCopy(large[:2], (0, 1)), small]
    with pytest.raises(ValueError, match=r'mixes image i of 4 with image 3 - i, .* images \[0, 1\] alone'):
        preprocessor(mix=dict())(dict(inputs=inputs, data_samples=samples()), training=True)
    jitter = dict(color_jitter=dict(brightness=0.4), shared=True)
    with pytest.raises(ValueError, match=r'augment\.shared=True needs every image at every resolution'):
        preprocessor(augment=jitter)(dict(inputs=parts(), data_samples=samples()), training=True)
    out = preprocessor(augment=dict(jitter, shared=False))(
        dict(inputs=parts(), data_samples=samples()), training=True
    )
    assert out['inputs'][0].inputs.shape == (2, 3, 32, 32)
