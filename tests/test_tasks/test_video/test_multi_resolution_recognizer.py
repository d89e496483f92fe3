"""Training on several copies of each clip against its loss written out."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from resformer_mm.compat import prepare_mmaction
from resformer_mm.deployment import ExportError
from resformer_mm.deployment.model import DeployableModel
from resformer_mm.engine import AutocastOptimWrapper, train_by_turns

prepare_mmaction()
import mmaction.models  # noqa: E402, F401
from mmaction.structures import ActionDataSample  # noqa: E402

CLASSES = 4
SPATIAL = ((4, 32), (4, 24), (4, 16))  # frames, resolution
SPACE_TIME = ((8, 32), (4, 32), (4, 24), (4, 24))


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield


def build(
    kind: str = 'resformer_mm.MultiResolutionRecognizer', backbone: dict | None = None, **model
) -> nn.Module:
    torch.manual_seed(0)
    arch = dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48)
    config = dict(
        type=kind,
        data_preprocessor=dict(
            type='resformer_mm.MultiResolutionActionDataPreprocessor',
            mean=[100.0] * 3,
            std=[50.0] * 3,
        ),
        backbone=backbone or dict(type='resformer_mm.VideoResFormer', arch=arch, patch_size=8, num_frames=4),
        cls_head=dict(type='TimeSformerHead', num_classes=CLASSES, in_channels=24, average_clips='prob'),
    )
    config.update(model)
    built = MODELS.build(config).train()
    for name, parameter in built.named_parameters():
        if 'local_position' in name or 'temporal_' in name:  # zero at the start, which would hide mistakes
            nn.init.normal_(parameter, std=0.2)
    return built


def batch(shapes: Sequence[tuple[int, int]] = SPATIAL, size: int = 3, num_clips: int = 1) -> dict:
    generator = torch.Generator().manual_seed(1)
    inputs = [
        torch.randint(
            0, 256, (size, num_clips, 3, frames, side, side), generator=generator, dtype=torch.uint8
        )
        for frames, side in shapes
    ]
    samples = [ActionDataSample(metainfo=dict(filename=f'{i}.mp4')).set_gt_label(i) for i in range(size)]
    return dict(inputs=inputs, data_samples=samples)


def losses_of(model: nn.Module, data: dict) -> dict[str, Tensor]:
    return model(**model.data_preprocessor(copy.deepcopy(data), training=True), mode='loss')


def literal_terms(model: nn.Module, data: dict, names: Sequence[str], target: str) -> dict[str, Tensor]:
    labels = torch.cat([sample.gt_label for sample in data['data_samples']])
    terms, teacher, count = {}, None, len(names)
    for clips, name in zip(data['inputs'], names):
        clips = (clips[:, 0].float() - 100) / 50
        backbone = copy.copy(model.backbone)
        backbone.out_type = 'raw'
        tokens = backbone(clips)
        logits = model.cls_head.fc_cls(tokens[:, 0])
        terms[f'loss_cls_{name}'] = F.cross_entropy(logits, labels) / count
        compared = {'cls': tokens[:, 0], 'gap': tokens[:, 1:].mean(1), 'logits': logits}[target]
        if teacher is not None and target == 'logits':
            p, q = teacher.softmax(1), compared.softmax(1)
            terms[f'loss_consistency_{name}'] = (p * (p / q).log()).sum(1).mean() / count
        elif teacher is not None:
            deviation = teacher - teacher.mean(1, keepdim=True)
            white = deviation / (deviation.square().mean(1, keepdim=True) + 1e-6).sqrt()
            gap = (compared - white).abs()
            smooth = torch.where(gap < 1, 0.5 * gap**2, gap - 0.5)
            terms[f'loss_consistency_{name}'] = smooth.mean() / count
        teacher = compared.detach()
    return terms


@pytest.mark.parametrize(
    ('shapes', 'names', 'consistency', 'target'),
    [
        (SPATIAL, ['32', '24', '16'], dict(type='SmoothL1Consistency'), 'cls'),
        (SPATIAL, ['32', '24', '16'], dict(type='SmoothL1Consistency'), 'gap'),
        (SPATIAL, ['32', '24', '16'], dict(type='KLConsistency'), 'logits'),
        (SPACE_TIME, ['8x32', '4x32', '4x24', '4x24_2'], dict(type='SmoothL1Consistency'), 'cls'),
    ],
    ids=['cls', 'gap', 'logits', 'space and time'],
)
def test_the_loss_is_the_literal_one(shapes, names, consistency: dict, target: str) -> None:
    model, data = build(consistency=consistency, consistency_target=target), batch(shapes)
    other = copy.deepcopy(model)
    terms = literal_terms(other, data, names, target)
    losses = losses_of(model, data)
    total, logged = model.parse_losses(losses)
    assert {name for name in losses if 'loss' in name} == set(terms)
    for name, value in terms.items():
        torch.testing.assert_close(logged[name], value, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(total, sum(terms.values()), atol=1e-5, rtol=1e-5)
    total.backward()
    sum(terms.values()).backward()
    for (name, ours), literal in zip(model.named_parameters(), other.parameters()):
        torch.testing.assert_close(ours.grad, literal.grad, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize('shapes', [SPATIAL, SPACE_TIME], ids=['space', 'space and time'])
def test_turn_by_turn_steps_as_the_joint_model(shapes) -> None:
    results = []
    for step in (MODELS.get('resformer_mm.MultiResolutionRecognizer').train_step, train_by_turns):
        model = build()
        wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
        results.append((step(model, batch(shapes), wrapper), model.state_dict()))
    (joint, joint_state), (turns, turn_state) = results
    assert (
        set(joint) == set(turns) and len([name for name in joint if 'loss_' in name]) == 2 * len(shapes) - 1
    )
    for name in joint:
        torch.testing.assert_close(turns[name], joint[name], atol=1e-5, rtol=1e-5)
    for name, value in joint_state.items():
        torch.testing.assert_close(turn_state[name], value, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize(
    ('options', 'settings', 'shapes', 'num_clips'),
    [
        ({}, {}, SPATIAL, 2),
        (dict(consistency_target='gap'), dict(drop_path_rate=0.6), SPACE_TIME, 1),
        (
            dict(consistency=None),
            dict(drop_path_rate=0.6, drop_path=dict(type='SubsetDropPath')),
            SPACE_TIME,
            2,
        ),
        (
            dict(consistency=dict(type='KLConsistency'), consistency_target='logits'),
            dict(with_cp=True, drop_path_rate=0.6),
            SPATIAL,
            1,
        ),
    ],
    ids=['cls', 'gap', 'none', 'logits'],
)
@pytest.mark.parametrize('attention_type', ['divided_space_time', 'joint_space_time', 'space_only'])
@pytest.mark.parametrize('kind', [OptimWrapper, AutocastOptimWrapper])
def test_one_forward_gives_the_step_of_several(
    options: dict, settings: dict, shapes, num_clips: int, attention_type: str, kind: type
) -> None:
    results = []
    for one_forward in (True, False):
        arch = dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48)
        backbone = dict(type='resformer_mm.VideoResFormer', arch=arch, patch_size=8, num_frames=4)
        backbone |= dict(settings, attention_type=attention_type)
        model = build(backbone=backbone, one_forward=one_forward, **options)
        calls, gradients = [], {}
        model.backbone.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        for name, parameter in model.named_parameters():
            parameter.register_hook(lambda grad, name=name, kept=gradients: kept.update({name: grad.clone()}))
        torch.manual_seed(2)  # of stochastic depth
        optim = kind(torch.optim.SGD(model.parameters(), lr=0.1))
        logged = model.train_step(batch(shapes, num_clips=num_clips), optim)
        assert len(calls) == (1 if one_forward else len(shapes))
        results.append((logged, gradients))
    is_exact = kind is OptimWrapper
    (logged, gradients), (wanted, wanted_gradients) = results
    assert logged.keys() == wanted.keys() and gradients.keys() == wanted_gradients.keys()
    for name, value in wanted.items():
        if not is_exact and 'loss' not in name:
            continue  # rounding may change whether a class is right
        torch.testing.assert_close(logged[name], value, rtol=1e-5 if is_exact else 2e-2, atol=1e-5)
    for name, value in wanted_gradients.items():
        atol = (1e-4 if is_exact else 0.1) * float(value.abs().max()) + 1e-7
        torch.testing.assert_close(gradients[name], value, rtol=0, atol=atol, msg=name)


def test_one_forward_needs_a_backbone_that_packs() -> None:
    backbone = dict(type='C3D', out_dim=8192)
    with pytest.raises(ValueError, match='model.one_forward=True, but C3D takes its inputs one after'):
        build(backbone=backbone, one_forward=True, consistency=None)


def test_a_single_copy_is_the_plain_recognizer() -> None:
    theirs = build('Recognizer3D')
    model = build()
    single = batch(SPATIAL[:1])
    ours, _ = model.parse_losses(losses_of(model, single))
    expected, _ = theirs.parse_losses(losses_of(theirs, dict(single, inputs=list(single['inputs'][0]))))
    torch.testing.assert_close(ours, expected)


def test_several_clips_of_a_video_share_its_label() -> None:
    model, data = build(), batch(num_clips=2)
    apart = copy.deepcopy(data)
    apart['inputs'] = [clips.flatten(0, 1)[:, None] for clips in data['inputs']]
    apart['data_samples'] = [copy.deepcopy(s) for s in data['data_samples'] for _ in range(2)]
    together, expected = losses_of(model, data), losses_of(model, apart)
    for name, value in expected.items():
        torch.testing.assert_close(together[name], value)


def test_a_head_that_pools_takes_the_maps() -> None:
    model = build(consistency_target='gap')
    model.backbone.out_type = 'featmap'
    model.cls_head = MODELS.build(dict(type='I3DHead', num_classes=CLASSES, in_channels=24, dropout_ratio=0))
    losses = losses_of(model, batch())
    tokens = model.backbone.forward_tokens((batch()['inputs'][0][:, 0].float() - 100) / 50)[0][-1]
    logits = model.cls_head.fc_cls(tokens[:, 1:].mean(1))
    torch.testing.assert_close(3 * losses['loss_cls_32'], F.cross_entropy(logits, torch.arange(3)))


@MODELS.register_module()
class DoublingNeckForTest(nn.Module):
    """Doubles what it gets, and has a loss of its own."""

    def forward(self, feats: Tensor, data_samples: list) -> tuple[Tensor, dict[str, Tensor]]:
        return 2 * feats, dict(loss_neck=feats.square().mean())


def test_a_neck_stands_between_backbone_and_head() -> None:
    model, data = build(neck=dict(type='DoublingNeckForTest')), batch()
    losses = losses_of(model, data)
    feats = model.backbone((data['inputs'][1][:, 0].float() - 100) / 50)
    torch.testing.assert_close(3 * losses['loss_neck_24'], feats.square().mean())
    expected = F.cross_entropy(model.cls_head.fc_cls(2 * feats), torch.arange(3))
    torch.testing.assert_close(3 * losses['loss_cls_24'], expected)


def test_copies_may_come_stacked_or_as_lists_of_clips() -> None:
    model, data = build(), batch()
    loose = dict(data, inputs=[list(clips) for clips in data['inputs']])
    stacked, listed = losses_of(model, data), losses_of(model, loose)
    assert list(stacked) == list(listed)
    for name, value in stacked.items():
        torch.testing.assert_close(listed[name], value)


def test_evaluation_averages_clips_and_crops() -> None:
    model = build().eval()
    clips = torch.randint(0, 256, (2, 6, 3, 4, 21, 40), dtype=torch.uint8)
    samples = batch(size=2)['data_samples']
    with torch.no_grad():
        out = model.test_step(dict(inputs=list(clips), data_samples=samples))
        for video, sample in zip(clips, out):
            logits = model.cls_head(model.backbone((video.float() - 100) / 50))
            torch.testing.assert_close(sample.pred_score, logits.softmax(1).mean(0), atol=1e-5, rtol=1e-4)


def test_bfloat16_and_accumulation() -> None:
    model = build()
    wrapper = AutocastOptimWrapper(
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1), accumulative_counts=2
    )
    exactly, _ = model.parse_losses(losses_of(model, batch()))
    before = copy.deepcopy(model.state_dict())
    logged = model.train_step(batch(), wrapper)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.train_step(batch(), wrapper)
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(logged['loss'], exactly, atol=0.05, rtol=0.05)


def test_scores_of_bfloat16_can_become_arrays() -> None:
    model = build().eval()
    model.cls_head.average_clips = 'score'
    data = dict(inputs=[torch.zeros(1, 3, 4, 16, 16)], data_samples=batch(size=1)['data_samples'])
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        (sample,) = model.test_step(data)
    assert sample.pred_score.numpy().shape == (CLASSES,)


def test_a_recognizer_is_not_exported() -> None:
    with pytest.raises(ExportError, match='MultiResolutionRecognizer is not an image classifier'):
        DeployableModel(build())


@pytest.mark.slow
def test_bad_settings_and_batches() -> None:
    with pytest.raises(ValueError, match=r"consistency_target='cls' needs a backbone with `forward_pooled`"):
        build(backbone=dict(type='C3D'))
    with pytest.raises(ValueError, match='does not mix clips'):
        MODELS.build(
            dict(
                type='resformer_mm.MultiResolutionActionDataPreprocessor',
                blending=ConfigDict(type='MixupBlending', num_classes=3),
            )
        )
    with pytest.raises(ValueError, match="format_shape='NCHW', but clips are 'NCTHW'"):
        MODELS.build(dict(type='resformer_mm.MultiResolutionActionDataPreprocessor', format_shape='NCHW'))
    with pytest.raises(
        ValueError, match='cls_head.num_classes is 5, .* preprocessor has 4: remove the latter'
    ):
        build(
            data_preprocessor=dict(type='resformer_mm.MultiResolutionActionDataPreprocessor', num_classes=4),
            cls_head=dict(type='TimeSformerHead', num_classes=5, in_channels=24),
        )
    model, data = build(), batch()
    with pytest.raises(ValueError, match=r'\(B, num_clips, C, T, H, W\), got \(3, 8, 16, 16\).*FormatShape'):
        losses_of(model, dict(data, inputs=[torch.zeros(3, 8, 16, 16)] * 3))
    data['data_samples'][0].set_gt_label(-1)  # how mmaction's inference says that it does not know
    with pytest.raises(ValueError, match=r'label \[-1\] of 0.mp4'):
        losses_of(model, data)
    data = dict(data, inputs=list(data['inputs'][0]))
    assert len(model.eval().test_step(copy.deepcopy(data))) == 3
    model.cls_head.average_clips = None
    with pytest.raises(ValueError, match=r"of a video are \(1, 4\).*average_clips to 'prob'"):
        model.test_step(data)
    model, data = build(), batch()
    data['data_samples'][1].set_gt_label(CLASSES)
    with pytest.raises(ValueError, match=r'label \[4\] of 1.mp4 is outside the 4 classes.*cls_head'):
        losses_of(model, data)
    data = dict(batch(), inputs=[torch.zeros(1, 3, 4, 16, 16), torch.zeros(1, 3, 4, 16, 24)])
    with pytest.raises(ValueError, match='differ in size'):
        losses_of(model, data)
    # What mmaction's own data preprocessor makes of a list of copies.
    with pytest.raises(
        ValueError, match=r'got \(2, 3, 1, 3, 4, 16, 16\).*MultiResolutionActionDataPreprocessor'
    ):
        model(torch.zeros(2, 3, 1, 3, 4, 16, 16), batch()['data_samples'], mode='loss')
