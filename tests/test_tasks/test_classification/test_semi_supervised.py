"""The semi-supervised training step against a literal one, its teacher, and what it refuses."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.utils.data import Dataset

from resformer_mm.engine import PartialCopy, train_by_turns
from resformer_mm.registry import MODELS

TINY = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
SIZES, LABELLED, NUMBER = (32, 24, 16), 3, 7


def build(seed: int = 0, **kwargs) -> nn.Module:
    torch.manual_seed(seed)
    config = dict(
        type='resformer_mm.SemiSupervisedClassifier',
        data_preprocessor=dict(type='resformer_mm.PartlyLabelledDataPreprocessor', num_classes=10),
        backbone=dict(type='resformer_mm.ResFormer', arch=TINY, patch_size=8),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=16, init_cfg=None),
        unlabelled=dict(type='PseudoLabelConsistency', temperature=0.5, threshold=0.81),
    )
    return MODELS.build({**config, **kwargs}).train()


def with_teacher(model: nn.Module) -> nn.Module:
    teacher = build(seed=1).eval()
    with torch.no_grad():
        teacher.head.fc.weight.mul_(3)  # so that some predictions count and others do not
    model.set_teacher(teacher)
    return model


def batch(seed: int = 0, number: int = NUMBER, labelled: int = LABELLED) -> dict:
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(number, 3, size, size, generator=generator) for size in SIZES]
    samples = [DataSample() for _ in range(number)]
    for label, sample in enumerate(samples[:labelled]):
        sample.set_gt_label(label)
    return dict(inputs=inputs, data_samples=samples)


def literal_losses(model: nn.Module, teacher: nn.Module, inputs: list[Tensor]) -> dict[str, Tensor]:
    losses, before, target = {}, None, None
    labels = torch.arange(LABELLED)
    for size, images in zip(SIZES, inputs):
        (token,) = model.backbone(images)
        scores = model.head.fc(token)
        losses[f'loss_cls_{size}'] = F.cross_entropy(scores[:LABELLED], labels) / 3
        if before is None:
            with torch.no_grad():
                taught = teacher.head.fc(teacher.backbone(images[LABELLED:])[0])
            target = torch.softmax(taught / 0.5, dim=1)
            counts = (torch.softmax(taught, dim=1).max(dim=1).values >= 0.81).float()
            losses[f'confident_{size}'] = counts.mean()
        else:
            loss = F.smooth_l1_loss(token, F.layer_norm(before, (16,), eps=1e-6))
            losses[f'loss_consistency_{size}'] = loss / 3
        entropy = -(target * torch.log_softmax(scores[LABELLED:], dim=1)).sum(dim=1)
        losses[f'loss_unlabelled_{size}'] = (entropy * counts).mean() / 3
        before = token.detach()
    return losses


@pytest.mark.parametrize('one_forward', [True, False])
def test_the_losses_are_those_of_a_literal_step(one_forward: bool) -> None:
    model = with_teacher(build(one_forward=one_forward))
    data = batch()
    losses = model.loss(data['inputs'], data['data_samples'])
    expected = literal_losses(model, model._teacher[0], data['inputs'])
    assert 0 < float(expected['confident_32']) < 1
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, msg=name)


def test_turn_by_turn_training_takes_the_same_step() -> None:
    states = []
    for step in (lambda model, data, optim: model.train_step(data, optim), train_by_turns):
        model = with_teacher(build())
        step(model, batch(), OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0)))
        states.append(model.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_where_all_images_have_labels_the_losses_are_supervised() -> None:
    """No teacher is needed then."""
    model, data = build(), batch(labelled=NUMBER)
    losses = model.loss(data['inputs'], data['data_samples'])
    expected = super(type(model), type(model)).label_losses
    scores = model.head.fc(model.backbone(data['inputs'][0])[0])
    terms = expected(model, scores, data['inputs'][0], data['data_samples'], 0)
    torch.testing.assert_close(losses['loss_cls_32'], terms['loss_cls'] / 3)
    assert not any('unlabelled' in name for name in losses)


def test_the_teacher_is_not_a_part_of_the_model() -> None:
    model = build()
    names = set(model.state_dict())
    with_teacher(model)
    assert set(model.state_dict()) == names and len(list(model.modules())) == len(list(build().modules()))


def test_labelled_images_must_come_first() -> None:
    model, data = with_teacher(build()), batch()
    with pytest.raises(
        ValueError, match='3 of the 7 samples of a batch have labels, and they must be the first'
    ):
        model.data_preprocessor(dict(data, data_samples=data['data_samples'][::-1]), training=True)
    with pytest.raises(ValueError, match='0 of the 7 samples'):
        model.loss(data['inputs'], batch(labelled=0)['data_samples'])


def test_without_a_teacher() -> None:
    data = batch()
    with pytest.raises(ValueError, match='no teacher for its unlabelled images: set custom_hooks'):
        build().loss(data['inputs'], data['data_samples'])


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match='SmoothL1Consistency does not compare class scores'):
        build(unlabelled=dict(type='SmoothL1Consistency'))
    with pytest.raises(ValueError, match='set its type to resformer_mm.PartlyLabelledDataPreprocessor'):
        build(data_preprocessor=dict(type='resformer_mm.MultiResolutionDataPreprocessor', num_classes=10))
    mix = dict(mixup_alpha=1.0)
    with pytest.raises(ValueError, match='mix would mix images with and without labels'):
        build(data_preprocessor=dict(type='resformer_mm.PartlyLabelledDataPreprocessor', mix=mix))


def test_another_loss_of_class_scores() -> None:
    model = with_teacher(build(unlabelled=dict(type='KLConsistency')))
    data = batch()
    losses = model.loss(data['inputs'], data['data_samples'])
    assert losses['loss_unlabelled_16'] > 0 and 'confident_32' not in losses


def test_the_preprocessor_normalises_all_images_and_checks_labels() -> None:
    preprocessor = build().data_preprocessor
    data = batch()
    data['inputs'] = [images.mul(50).byte() for images in data['inputs']]
    found = preprocessor(copy.deepcopy(data), training=True)
    assert [images.shape for images in found['inputs']] == [images.shape for images in data['inputs']]
    assert [sample.get('gt_label') for sample in found['data_samples']][LABELLED:] == [None] * 4
    data['data_samples'][1].set_gt_label(11)
    with pytest.raises(ValueError, match='11'):
        preprocessor(data, training=True)


class Batches(Dataset):
    """Samples of one batch, in order."""

    def __len__(self) -> int:
        return 2 * NUMBER

    def __getitem__(self, index: int) -> dict:
        data = batch(seed=index // NUMBER)
        number = index % NUMBER
        return dict(
            inputs=[images[number] for images in data['inputs']], data_samples=data['data_samples'][number]
        )


class Recorder(Hook):
    """Remembers a weight after every step."""

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self.found: list[Tensor] = []

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        self.found.append(runner.model.head.fc.bias.detach().clone())


def run(model: nn.Module, folder: Path, hooks: list) -> None:
    loader = dict(
        batch_size=NUMBER,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=Batches(),
        collate_fn=dict(type='resformer_mm.multi_resolution_collate'),
    )
    runner = Runner(
        model=model,
        work_dir=str(folder),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.5)),
        custom_hooks=hooks,
        log_level='ERROR',
        default_scope='mmpretrain',
        experiment_name=folder.name,
    )
    runner.train()


def test_the_hook_makes_the_average_the_teacher(tmp_path: Path) -> None:
    """The average is that of the definition, and what checkpoints hold as the model."""
    model, recorder = build(), Recorder()
    run(model, tmp_path, [recorder, dict(type='resformer_mm.TeacherHook', momentum=0.25)])
    (teacher,) = model._teacher
    assert not any(module.training for module in teacher.modules())
    assert len(recorder.found) == 4 and not recorder.found[0].equal(recorder.found[-1])
    average = recorder.found[0]
    for bias in recorder.found[1:]:
        average = 0.75 * average + 0.25 * bias
    torch.testing.assert_close(teacher.head.fc.bias, average)
    saved = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)
    torch.testing.assert_close(saved['state_dict']['head.fc.bias'], average)
    torch.testing.assert_close(saved['ema_state_dict']['module.head.fc.bias'], recorder.found[-1])


def test_the_hook_needs_a_model_that_takes_a_teacher(tmp_path: Path) -> None:
    config = dict(
        type='resformer_mm.MultiResolutionClassifier',
        data_preprocessor=dict(type='resformer_mm.MultiResolutionDataPreprocessor', num_classes=10),
    )
    settings = dict(type='resformer_mm.ResFormer', arch=TINY, patch_size=8)
    head = dict(type='LinearClsHead', num_classes=10, in_channels=16, init_cfg=None)
    model = MODELS.build(dict(config, backbone=settings, head=head))
    with pytest.raises(ValueError, match='TeacherHook needs a model that takes a teacher, and Multi'):
        run(model, tmp_path, [dict(type='resformer_mm.TeacherHook')])


def test_copies_of_a_part_of_the_images_are_refused() -> None:
    part = PartialCopy(torch.zeros(2, 3, 32, 32), (1, 2))
    data = dict(inputs=[part, torch.zeros(4, 3, 16, 16)], data_samples=[DataSample().set_gt_label(0)] * 4)
    with pytest.raises(ValueError, match='gives some resolutions to a part of the images'):
        build().data_preprocessor(data, training=True)
