"""The training step of the classifiers: against the reference numbers, a literal loop, and each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from resformer_mm.checkpoints.conversion import to_project_name
from resformer_mm.engine import AutocastOptimWrapper, PartialCopy, train_by_turns
from resformer_mm.registry import MODELS

GOLDEN_RESOLUTIONS = (224, 160, 128)
GOLDEN_STEPS = {
    'cls-smooth-l1': dict(type='SmoothL1Consistency'),
    'cls-l2': dict(type='L2Consistency'),
    'cls-cosine': dict(type='resformer_mm.CosineConsistency'),
    'gap-smooth-l1': dict(type='SmoothL1Consistency'),
}
TINY = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
SIZES = (32, 24, 16)


def joint(model: nn.Module, data: dict, optim: OptimWrapper) -> dict[str, Tensor]:
    return model.train_step(data, optim)


STEPS = pytest.mark.parametrize('step', [joint, train_by_turns])


class Recording:
    """An optimiser wrapper that keeps the gradients of every optimiser step."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.gradients: list[list[Tensor]] = []

    def step(self, **kwargs) -> None:
        params = [p for group in self.optimizer.param_groups for p in group['params']]
        self.gradients.append([None if p.grad is None else p.grad.clone() for p in params])
        super().step(**kwargs)


class RecordingWrapper(Recording, OptimWrapper):
    """In float32."""


class RecordingAutocastWrapper(Recording, AutocastOptimWrapper):
    """In bfloat16."""


def build(seed: int = 0, backbone: dict | None = None, **kwargs) -> nn.Module:
    """A classifier of ten classes, in training mode; 16 wide with patches of 8 unless told otherwise."""
    torch.manual_seed(seed)
    options = dict(type='resformer_mm.ResFormer', arch=TINY, patch_size=8)
    backbone = {**options, **(backbone or {})}
    config = dict(
        type='resformer_mm.MultiResolutionClassifier',
        data_preprocessor=dict(type='resformer_mm.MultiResolutionDataPreprocessor', num_classes=10),
        backbone=backbone,
        head=dict(
            type='LinearClsHead',
            num_classes=10,
            in_channels=backbone['arch']['embed_dims'],
            loss=dict(type='CrossEntropyLoss', use_soft=True),
            init_cfg=None,
        ),
    )
    model = MODELS.build({**config, **kwargs}).train()
    for name, parameter in model.named_parameters():
        if 'local_position' in name:  # zero at the start, which would hide mistakes
            nn.init.normal_(parameter, std=0.2)
    return model


def samples(scores: Tensor) -> list[DataSample]:
    return [DataSample().set_gt_label(int(score.argmax())).set_gt_score(score) for score in scores]


def batch(seed: int = 0, sizes=SIZES, number: int = 4) -> dict:
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(number, 3, size, size, generator=generator) for size in sizes]
    scores = torch.softmax(2 * torch.randn(number, 10, generator=generator), dim=1)
    return dict(inputs=inputs, data_samples=samples(scores))


def scores_of(data: dict) -> Tensor:
    return torch.stack([sample.gt_score for sample in data['data_samples']])


def wrapper(model: nn.Module, kind=RecordingWrapper, lr: float = 0.1, **kwargs) -> OptimWrapper:
    return kind(torch.optim.SGD(model.parameters(), lr=lr), **kwargs)


def soft_cross_entropy(logits: Tensor, scores: Tensor) -> Tensor:
    return -(scores * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()


def assert_gradients_equal(actual: list[Tensor], expected: list[Tensor], rtol: float) -> None:
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected):
        torch.testing.assert_close(one, other, rtol=0, atol=rtol * float(other.abs().max()) + 1e-12)


# The reference numbers


def golden_data(golden: dict[str, Tensor]) -> dict:
    inputs = []
    for resolution in GOLDEN_RESOLUTIONS:
        draw = np.random.RandomState(2000 + resolution).standard_normal((4, 3, resolution, resolution))
        inputs.append(torch.from_numpy(draw.astype(np.float32)))
    return dict(inputs=inputs, data_samples=samples(golden['train/soft_labels']))


def golden_model(state: dict[str, Tensor], name: str) -> nn.Module:
    arch = dict(embed_dims=48, num_layers=2, num_heads=3, feedforward_channels=192)
    model = build(
        backbone=dict(arch=arch, patch_size=16),
        consistency=GOLDEN_STEPS[name],
        consistency_target=name.partition('-')[0],
    )
    model.load_state_dict({to_project_name(name): value for name, value in state.items()})
    return model


@STEPS
@pytest.mark.parametrize('name', GOLDEN_STEPS)
def test_the_training_step_gives_the_reference_numbers(golden, official_state, name: str, step) -> None:
    model = golden_model(official_state, name)
    optim = wrapper(model)
    logged = step(model, golden_data(golden), optim)
    expected = {}
    for index, resolution in enumerate(GOLDEN_RESOLUTIONS):  # the logged terms contain 1/r
        expected[f'loss_cls_{resolution}'] = golden[f'train/{name}/ce'][index] / 3
        if index:
            expected[f'loss_consistency_{resolution}'] = golden[f'train/{name}/consistency'][index] / 3
    expected['loss'] = golden[f'train/{name}/total']
    assert set(logged) == set(expected)
    for term, value in expected.items():
        torch.testing.assert_close(logged[term].detach(), value, rtol=1e-5, atol=1e-6, msg=term)
    if name != 'cls-smooth-l1':  # the one whose gradients are stored
        return
    (gradients,) = optim.gradients
    by_name = dict(zip((name for name, _ in model.named_parameters()), gradients))
    stored = {to_project_name(key[11:]): golden[key] for key in golden if key.startswith('train/grad/')}
    assert set(stored) == set(by_name)
    for name, value in stored.items():
        error = (by_name[name] - value).abs().max()
        assert error <= 1e-4 * value.abs().max() + 1e-9, f'{name}: off by {error}'


# The named losses


def test_names_and_sum_of_the_losses() -> None:
    model, data = build(), batch()
    losses = model(**data, mode='loss')
    assert list(losses) == [
        'loss_cls_32',
        'loss_cls_24',
        'loss_consistency_24',
        'loss_cls_16',
        'loss_consistency_16',
    ]
    total, logged = model.parse_losses(losses)
    torch.testing.assert_close(total, sum(losses.values()))
    torch.testing.assert_close(logged['loss'], total)


@pytest.mark.parametrize('target', ['cls', 'gap', 'logits', None])
@pytest.mark.parametrize('out_type', ['cls_token', 'avg_featmap'])
def test_losses_equal_the_formula(target: str | None, out_type: str) -> None:
    configs = {
        'cls': dict(type='SmoothL1Consistency', loss_weight=0.7),
        'gap': dict(type='L2Consistency'),
        'logits': dict(type='KLConsistency', temperature=2.0, loss_weight=0.5),
        None: None,
    }
    model = build(
        backbone=dict(out_type=out_type),
        consistency=configs[target],
        consistency_target=target or 'cls',
    )
    data = batch()
    losses = model(**data, mode='loss')
    scores = scores_of(data)
    expected, previous = {}, None
    for image in data['inputs']:
        (tokens,), _ = model.backbone.forward_tokens(image)
        pooled = tokens[:, 1:].mean(dim=1)
        logits = model.head.fc(tokens[:, 0] if out_type == 'cls_token' else pooled)
        size = image.shape[-1]
        expected[f'loss_cls_{size}'] = soft_cross_entropy(logits, scores) / 3
        current = dict(cls=tokens[:, 0], gap=pooled, logits=logits).get(target)
        if previous is not None:
            if target == 'cls':
                mean, var = previous.mean(1, keepdim=True), previous.var(1, keepdim=True, correction=0)
                distance = current - (previous - mean) / (var + 1e-6).sqrt()
                small = distance.abs() < 1
                term = 0.7 * torch.where(small, 0.5 * distance**2, distance.abs() - 0.5).mean()
            elif target == 'gap':
                term = ((current - previous) ** 2).mean()
            else:
                p, q = torch.softmax(previous / 2, dim=1), torch.softmax(current / 2, dim=1)
                term = 0.5 * 2**2 * (p * torch.log(p / q)).sum(dim=1).mean()
            expected[f'loss_consistency_{size}'] = term / 3
        previous = current
    assert set(losses) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_without_consistency_there_is_no_such_term() -> None:
    assert set(build(consistency=None)(**batch(), mode='loss')) == {f'loss_cls_{size}' for size in SIZES}


def test_no_gradient_reaches_a_teacher() -> None:
    """What the consistency terms give is the gradient of the smaller copies alone."""
    model = build()
    data = batch(sizes=(32, 24))
    data['inputs'][0].requires_grad_()
    losses = model(**data, mode='loss')
    (gradient,) = torch.autograd.grad(losses['loss_consistency_24'], data['inputs'][0], allow_unused=True)
    assert gradient is None or not gradient.any()


@STEPS
def test_one_tensor_is_one_resolution(step) -> None:
    data = batch(sizes=(24,))
    tensor = dict(data, inputs=data['inputs'][0])
    losses, from_tensor = (build()(**form, mode='loss') for form in (data, tensor))
    assert list(losses) == list(from_tensor) == ['loss_cls_24']
    assert torch.equal(losses['loss_cls_24'], from_tensor['loss_cls_24'])
    model = build()
    logits = model(data['inputs'][0], mode='tensor')
    torch.testing.assert_close(losses['loss_cls_24'], soft_cross_entropy(logits, scores_of(data)))
    assert 'loss' in step(model, tensor, wrapper(model))


def test_rectangular_batches_are_named_by_height_and_width() -> None:
    inputs = [torch.randn(2, 3, 32, 48), torch.randn(2, 3, 16, 24), torch.randn(2, 3, 16, 16)]
    losses = build()(inputs, batch(number=2)['data_samples'], mode='loss')
    names = [name.removeprefix('loss_cls_') for name in losses if 'cls' in name]
    assert names == ['32x48', '16x24', '16']


def test_the_accuracy_of_the_head_is_logged_by_resolution() -> None:
    head = dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=16,
        topk=(1,),
        cal_acc=True,
        loss=dict(type='CrossEntropyLoss'),
    )
    data = batch(sizes=(32, 16))
    for sample in data['data_samples']:
        del sample.gt_score
    losses = build(head=head)(**data, mode='loss')
    assert {'accuracy_top-1_32', 'accuracy_top-1_16'} < set(losses)
    total, _ = build(head=head).parse_losses(losses)
    torch.testing.assert_close(total, sum(value for name, value in losses.items() if 'loss' in name))


def test_separately_mixed_labels() -> None:
    model, data = build(consistency=None), batch()
    generator = torch.Generator().manual_seed(5)
    scores = torch.softmax(3 * torch.randn(3, 4, 10, generator=generator), dim=2)
    for number, sample in enumerate(data['data_samples']):
        sample.set_field(scores[:, number], 'gt_scores')
    losses = model(**data, mode='loss')
    for index, (size, image) in enumerate(zip(SIZES, data['inputs'])):
        expected = soft_cross_entropy(model(image, mode='tensor'), scores[index]) / 3
        torch.testing.assert_close(losses[f'loss_cls_{size}'], expected)


def test_a_neck_stands_between_backbone_and_head() -> None:
    neck = build(backbone=dict(out_type='featmap'), neck=dict(type='GlobalAveragePooling'))
    pooled = build(backbone=dict(out_type='avg_featmap'))
    data = batch()
    losses, expected = (model(**data, mode='loss') for model in (neck, pooled))
    assert list(losses) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, msg=name)


def test_a_backbone_without_tokens_takes_logits_or_nothing() -> None:
    plain = dict(backbone=dict(type='LeNet5'), head=dict(type='ClsHead'))
    build_plain = dict(type='resformer_mm.MultiResolutionClassifier', **plain)
    with pytest.raises(ValueError, match=r"consistency_target='cls'.*LeNet5.*KLConsistency"):
        MODELS.build(build_plain)
    for settings in (
        dict(consistency=None),
        dict(consistency=dict(type='KLConsistency'), consistency_target='logits'),
    ):
        assert MODELS.build(dict(build_plain, **settings)) is not None


def test_a_backbone_of_maps_is_compared_by_their_mean() -> None:
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='resformer_mm.MultiResolutionClassifier',
            data_preprocessor=dict(type='resformer_mm.MultiResolutionDataPreprocessor', num_classes=10),
            backbone=dict(
                type='ResNet_CIFAR', depth=18, stem_channels=4, base_channels=4, out_indices=(1, 3)
            ),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(
                type='LinearClsHead',
                num_classes=10,
                in_channels=32,
                loss=dict(type='CrossEntropyLoss', use_soft=True),
            ),
            consistency=dict(type='CosineConsistency', loss_weight=0.5),
            consistency_target='gap',
        )
    ).eval()  # batch norms do not change
    data = batch()
    losses = model(**data, mode='loss')
    previous = None
    for image in data['inputs']:
        last = model.backbone(image)[-1]
        pooled = last.sum(dim=(2, 3)) / last[0, 0].numel()
        if previous is not None:
            cosine = (pooled * previous).sum(dim=1) / (pooled.norm(dim=1) * previous.norm(dim=1))
            term = losses[f'loss_consistency_{image.shape[-1]}']
            torch.testing.assert_close(term, 0.5 * (1 - cosine).mean() / 3)
        previous = pooled
    model.zero_grad()
    losses['loss_consistency_16'].backward()
    assert model.backbone.conv1.weight.grad.abs().sum() > 0


def test_a_mean_needs_a_map() -> None:
    arch = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)
    model = MODELS.build(
        dict(
            type='resformer_mm.MultiResolutionClassifier',
            data_preprocessor=dict(type='resformer_mm.MultiResolutionDataPreprocessor', num_classes=10),
            backbone=dict(type='VisionTransformer', arch=arch, img_size=32, patch_size=8),
            head=dict(type='LinearClsHead', num_classes=10, in_channels=16),
            consistency=dict(type='L2Consistency'),
            consistency_target='gap',
        )
    )
    with pytest.raises(ValueError, match=r"'gap' needs a map.*VisionTransformer returns \(4, 16\)"):
        model(**batch(sizes=(32,)), mode='loss')


def test_what_is_compared_must_fit_the_loss() -> None:
    with pytest.raises(ValueError, match=r"consistency_target='pixels' is unknown: choose from.*'gap'"):
        build(consistency_target='pixels')
    with pytest.raises(ValueError, match="KLConsistency compares class probabilities.*set it to 'logits'"):
        build(consistency=dict(type='KLConsistency'))
    with pytest.raises(ValueError, match="with_cls_token is False: set model.consistency_target='gap'"):
        build(backbone=dict(with_cls_token=False, out_type='avg_featmap'))
    with pytest.raises(ValueError, match="argument of the model, model.consistency_target='gap'"):
        build(consistency=dict(type='L2Consistency', target='gap'))


def test_evaluation_is_that_of_mmpretrain() -> None:
    model = build().eval()
    data = batch(sizes=(40,))
    predictions = model.val_step(dict(inputs=data['inputs'][0], data_samples=data['data_samples']))
    with torch.no_grad():
        logits = model.head.fc(model.backbone(data['inputs'][0])[-1])
    for sample, logit in zip(predictions, logits):
        torch.testing.assert_close(sample.pred_score, torch.softmax(logit, dim=0))
        assert sample.pred_label.item() == logit.argmax().item()


@STEPS
@pytest.mark.parametrize(
    'backbone',
    [
        dict(),
        dict(global_position=dict(type='GlobalPositionEmbedding', conv=False)),
        dict(global_position=dict(type='LearnedPositionEmbedding', grid_size=4), local_position=None),
        dict(global_position=None),
        dict(out_type='avg_featmap'),
        dict(with_cp=True),
    ],
    ids=str,
)
def test_every_parameter_receives_a_gradient(step, backbone: dict) -> None:
    model = build(backbone=backbone)
    optim = wrapper(model)
    step(model, batch(), optim)
    for (name, _), gradient in zip(model.named_parameters(), optim.gradients[0]):
        assert gradient is not None, name
        # What the last block adds to the patch tokens alone does not reach the class token.
        reaches = 'blocks.1.attn.local_position' not in name or backbone.get('out_type') == 'avg_featmap'
        assert (gradient.abs().max() > 0) == reaches, name


# One backward pass per resolution


def train(step, number: int, optim=RecordingWrapper, max_counts: int | None = None, **kwargs):
    """Return the wrapper, the logs and the final parameters of a short training."""
    model = build()
    optim = wrapper(model, optim, **kwargs)
    if max_counts is not None:
        optim.initialize_count_status(model, 0, max_counts)
    logs, num_steps = [], []
    for index in range(number):
        logs.append(step(model, batch(index), optim))
        num_steps.append(len(optim.gradients))
    return optim, logs, num_steps, [parameter.detach() for parameter in model.parameters()]


def test_turns_give_the_gradients_of_the_joint_step() -> None:
    whole, turns = train(joint, 3), train(train_by_turns, 3)
    assert whole[2] == turns[2] == [1, 2, 3]
    assert_gradients_equal(turns[0].gradients[0], whole[0].gradients[0], 1e-6)
    for actual, expected in zip(turns[1], whole[1]):
        assert set(actual) == set(expected)
        for name, value in expected.items():
            torch.testing.assert_close(actual[name], value, rtol=1e-5, atol=1e-6, msg=name)
    for actual, expected in zip(turns[3], whole[3]):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(('max_counts', 'expected'), [(None, [0, 1, 1, 2, 2]), (5, [0, 1, 1, 2, 3])])
def test_turns_accumulate_gradients_as_the_joint_step_does(max_counts, expected: list[int]) -> None:
    whole, turns = (
        train(step, 5, accumulative_counts=2, max_counts=max_counts) for step in (joint, train_by_turns)
    )
    assert whole[2] == turns[2] == expected
    assert_gradients_equal(turns[0].gradients[0], whole[0].gradients[0], 1e-6)
    for actual, wanted in zip(turns[3], whole[3]):
        torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-6)
    single = [train(train_by_turns, 1, lr=0)[0].gradients[0]]
    model = build()
    optim = wrapper(model, lr=0)
    for index in range(2):
        train_by_turns(model, batch(index), optim)
    mean = [(first + second) / 2 for first, second in zip(*optim.gradients)]
    assert_gradients_equal(turns[0].gradients[0], mean, 1e-5)
    assert_gradients_equal(single[0], optim.gradients[0], 1e-6)


def test_turns_in_mixed_precision() -> None:
    whole, turns = (train(step, 2, RecordingAutocastWrapper) for step in (joint, train_by_turns))
    assert whole[2] == turns[2] == [1, 2]
    # The joint step adds up the gradients of a weight in bfloat16 (8 bits), the turns in float32.
    assert_gradients_equal(turns[0].gradients[0], whole[0].gradients[0], 2e-2)
    assert all(parameter.dtype == torch.float32 for parameter in turns[3])


@STEPS
@pytest.mark.parametrize(
    ('optim', 'dtype'), [(RecordingWrapper, torch.float32), (RecordingAutocastWrapper, torch.bfloat16)]
)
def test_precision_of_the_forward_pass(step, optim, dtype: torch.dtype) -> None:
    model = build()
    seen = []
    model.head.fc.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    step(model, batch(), wrapper(model, optim))
    assert seen == [dtype] * 3


def test_turns_free_one_resolution_before_the_next() -> None:
    """No graph of a larger copy is alive while a smaller one is computed."""
    model = build()
    order = []
    model.head.register_forward_hook(lambda *args: order.append('forward'))
    model.head.fc.weight.register_hook(lambda grad: order.append('backward'))
    train_by_turns(model, batch(), wrapper(model))
    assert order == ['forward', 'backward'] * 3


def test_turns_need_a_model_of_several_copies() -> None:
    plain = MODELS.build(
        dict(type='mmpretrain.ImageClassifier', backbone=dict(type='LeNet5'), head=dict(type='ClsHead'))
    )
    with pytest.raises(TypeError, match='train_cfg.type: .*MultiResolutionClassifier, not ImageClassifier'):
        train_by_turns(plain, batch(), wrapper(plain))


# A refactoring leaves the seeded losses as they are


@STEPS
def test_three_seeded_steps_equal_a_plain_loop(step) -> None:
    """Mixing, label smoothing, stochastic depth, the chain of teachers, clipping and AdamW: all in one."""
    options = dict(
        backbone=dict(drop_path_rate=0.3),
        data_preprocessor=dict(
            type='resformer_mm.MultiResolutionDataPreprocessor',
            num_classes=10,
            mean=[120.0, 110.0, 100.0],
            std=[60.0, 50.0, 40.0],
            to_rgb=True,
            mix=dict(mixup_alpha=0.8, cutmix_alpha=0),
        ),
        head=dict(
            type='LinearClsHead',
            num_classes=10,
            in_channels=16,
            loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        ),
    )
    generator = torch.Generator().manual_seed(7)
    steps = []
    for _ in range(3):
        pictures = [
            torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8, generator=generator)
            for size in SIZES
        ]
        steps.append((pictures, torch.randint(10, (4,), generator=generator)))

    model = build(**options)
    optim = OptimWrapper(
        torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.05), clip_grad=dict(max_norm=1.0)
    )
    torch.manual_seed(1)
    np.random.seed(1)
    losses = []
    for pictures, labels in steps:
        data = [DataSample().set_gt_label(int(label)) for label in labels]
        losses.append(step(model, dict(inputs=pictures, data_samples=data), optim)['loss'].item())

    model = build(**options)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.05)
    mean, std = torch.tensor([120.0, 110.0, 100.0]), torch.tensor([60.0, 50.0, 40.0])
    torch.manual_seed(1)
    np.random.seed(1)
    expected = []
    for pictures, labels in steps:
        np.random.rand()
        lam = np.random.beta(0.8, 0.8)
        one_hot = torch.eye(10)[labels]
        target = (lam * one_hot + (1 - lam) * one_hot.flip(0)) * 0.9 + 0.1 / 10
        total, teacher = 0, None
        for picture in pictures:
            image = (picture[:, [2, 1, 0]].float() - mean[:, None, None]) / std[:, None, None]
            image = lam * image + (1 - lam) * image.flip(0)
            (tokens,), _ = model.backbone.forward_tokens(image)
            cls = tokens[:, 0]
            total = total + soft_cross_entropy(model.head.fc(cls), target) / 3
            if teacher is not None:
                total = total + F.smooth_l1_loss(cls, F.layer_norm(teacher, (16,), eps=1e-6)) / 3
            teacher = cls.detach()
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        expected.append(total.item())
    assert losses == pytest.approx(expected, rel=1e-5)
    assert len({round(loss, 3) for loss in losses}) == 3


# One forward pass for all resolutions


@pytest.mark.parametrize('kind', [RecordingWrapper, RecordingAutocastWrapper])
@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(backbone=dict(drop_path_rate=0.5, with_cp=True)),
        dict(consistency_target='gap'),
        dict(consistency=None),
        dict(consistency=dict(type='KLConsistency'), consistency_target='logits'),
    ],
)
def test_one_forward_gives_the_losses_and_gradients_of_several(options: dict, kind: type) -> None:
    results = []
    for one_forward in (True, False):
        model = build(one_forward=one_forward, **options)
        calls = []
        model.backbone.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        optim = wrapper(model, kind)
        torch.manual_seed(1)  # of stochastic depth
        results.append((model.train_step(batch(), optim), optim.gradients))
        assert len(calls) == (1 if one_forward else len(SIZES))
    (logged, gradients), (expected, expected_gradients) = results
    is_float32 = kind is RecordingWrapper
    assert logged.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(logged[name], value, rtol=1e-5 if is_float32 else 1e-2, atol=1e-6)
    assert_gradients_equal(gradients[0], expected_gradients[0], rtol=1e-4 if is_float32 else 5e-2)


# Copies of a part of the images


@STEPS
@pytest.mark.parametrize('one_forward', [True, False])
@pytest.mark.parametrize('target', ['cls', 'gap', 'logits'])
def test_a_part_of_the_images_at_a_resolution(step, one_forward: bool, target: str) -> None:
    """A copy of some images has their labels and teachers: the loss of two models of one image each."""
    consistency = dict(type='KLConsistency' if target == 'logits' else 'L2Consistency')
    model = build(one_forward=one_forward, consistency=consistency, consistency_target=target)
    data = batch()
    rows = [(1, 2), (0, 3), None]
    parts = [x if own is None else PartialCopy(x[list(own)], own) for x, own in zip(data['inputs'], rows)]
    logged = step(model, dict(data, inputs=parts), wrapper(model))
    model = build(one_forward=one_forward, consistency=consistency, consistency_target=target)
    pairs = []
    for sizes, own in (((32, 16), rows[0]), ((24, 16), rows[1])):  # each image has two copies
        chosen = [data['inputs'][SIZES.index(size)][list(own)] for size in sizes]
        pairs.append(model.loss(chosen, [data['data_samples'][row] for row in own]))
    expected = {  # terms of two copies are halves, those of three thirds
        'loss_cls_32': pairs[0]['loss_cls_32'] * 2 / 3,
        'loss_cls_24': pairs[1]['loss_cls_24'] * 2 / 3,
        'loss_cls_16': (pairs[0]['loss_cls_16'] + pairs[1]['loss_cls_16']) / 3,
        'loss_consistency_16': (pairs[0]['loss_consistency_16'] + pairs[1]['loss_consistency_16']) / 3,
    }
    assert set(logged) == {*expected, 'loss'}
    for name, value in expected.items():
        torch.testing.assert_close(logged[name].detach(), value.detach(), rtol=1e-5, atol=1e-6, msg=name)


def test_separately_mixed_labels_of_a_part() -> None:
    """Every copy has the labels that its own images were mixed with."""
    model, data = build(consistency=None), batch()
    mixed = torch.softmax(torch.randn(4, len(SIZES), 10), dim=2)
    for sample, scores in zip(data['data_samples'], mixed):
        sample.set_field(scores, 'gt_scores')
    part = PartialCopy(data['inputs'][0][1:3], (1, 2))
    losses = model.loss([part, *data['inputs'][1:]], data['data_samples'])
    logits = model.head((model.backbone(part.inputs)[-1],))
    torch.testing.assert_close(losses['loss_cls_32'], soft_cross_entropy(logits, mixed[1:3, 0]) / 3)


def test_one_forward_needs_a_backbone_that_packs() -> None:
    with pytest.raises(ValueError, match='one_forward=True, but ResNet takes its inputs one after the other'):
        MODELS.build(
            dict(
                type='resformer_mm.MultiResolutionClassifier',
                backbone=dict(type='ResNet', depth=18),
                one_forward=True,
            )
        )
