"""Multi-resolution fine-tuning of a segmentor against its loss written out."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from torch import Tensor

from resformer_mm.datasets.label_resizing import labels_at
from resformer_mm.engine import AutocastOptimWrapper, enumerate_copies, train_by_turns
from resformer_mm.tasks.segmentation.model import MultiResolutionSegmentor

register_all_modules(init_default_scope=False)
CLASSES = 5


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def build(kind: str = 'resformer_mm.MultiResolutionSegmentor', resolutions=(64, 48, 32), **model):
    torch.manual_seed(0)
    head = dict(
        in_channels=24, channels=16, num_classes=CLASSES, norm_cfg=dict(type='BN'), dropout_ratio=0.0,
        align_corners=False, num_convs=1, concat_input=False,
    )  # fmt: skip
    config = dict(
        type=kind,
        data_preprocessor=dict(
            type='resformer_mm.MultiResolutionSegDataPreprocessor',
            resolutions=resolutions,
            mean=[100.0] * 3,
            std=[50.0] * 3,
            size=(64, 64),
        ),
        backbone=dict(
            type='resformer_mm.ResFormer',
            arch=dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48),
            patch_size=8,
            out_indices=(0, 1),
            out_type='featmap',
            final_norm=False,
        ),
        decode_head=dict(type='FCNHead', in_index=1, **head),
        auxiliary_head=dict(
            type='FCNHead', in_index=0, loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4), **head
        ),
        test_cfg=ConfigDict(mode='whole'),
    )
    return MODELS.build({**config, **model}).train()


def batch(height: int = 64, width: int = 64, size: int = 3) -> dict:
    generator = torch.Generator().manual_seed(1)
    inputs, samples = [], []
    for _ in range(size):
        inputs.append(torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8))
        labels = torch.randint(0, CLASSES, (1, height // 8, width // 8), generator=generator)
        labels = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)
        labels[:, :3] = 255
        metainfo = dict(img_shape=(height, width), ori_shape=(height, width))
        samples.append(SegDataSample(metainfo=metainfo, gt_sem_seg=PixelData(data=labels)))
    return dict(inputs=inputs, data_samples=samples)


def literal_loss(model, data: dict) -> tuple[Tensor, dict[str, Tensor]]:
    images = (torch.stack(data['inputs']).float() - 100) / 50
    labels = torch.stack([sample.gt_sem_seg.data[0] for sample in data['data_samples']])
    terms, teacher = {}, None
    for resolution in (64, 48, 32):
        image, target = images, labels
        if resolution != 64:
            size = (resolution, resolution)
            image = F.interpolate(images, size, mode='bilinear', align_corners=False, antialias=True)
            centre = ((torch.arange(resolution) + 0.5) * 64 / resolution).floor().long()
            target = labels[:, centre][:, :, centre]
        feats = model.backbone(image)
        for name, head, weight in (('decode', model.decode_head, 1.0), ('aux', model.auxiliary_head, 0.4)):
            logits = head.conv_seg(head.convs(feats[head.in_index]))
            full = F.interpolate(logits, (resolution, resolution), mode='bilinear', align_corners=False)
            losses = F.cross_entropy(full, target, ignore_index=255, reduction='none')
            terms[f'{name}.loss_ce_{resolution}'] = weight * losses.mean() / 3
            if name == 'decode':
                student = logits
        if teacher is not None:
            larger = F.interpolate(student, teacher.shape[-2:], mode='bilinear', align_corners=False)
            p, q = teacher.softmax(1), larger.softmax(1)
            divergence = (p * (p.log() - q.log())).sum(1).mean()
            terms[f'loss_consistency_{resolution}'] = divergence / 3
        teacher = student.detach()
    return sum(terms.values()), terms


def test_the_loss_is_the_literal_one() -> None:
    model, data = build(), batch()
    frozen = copy.deepcopy(model)
    expected, terms = literal_loss(model, data)
    prepared = frozen.data_preprocessor(copy.deepcopy(data), training=True)
    losses = frozen(**prepared, mode='loss')
    total, logged = frozen.parse_losses(losses)
    torch.testing.assert_close(total, expected, atol=1e-5, rtol=1e-5)
    assert {name for name in losses if 'loss' in name} == set(terms)
    for name, value in terms.items():
        torch.testing.assert_close(logged[name], value, atol=1e-5, rtol=1e-5)
    expected.backward()
    total.backward()
    for (name, ours), literal in zip(frozen.named_parameters(), model.parameters()):
        torch.testing.assert_close(ours.grad, literal.grad, atol=1e-5, rtol=1e-4, msg=name)


def test_turn_by_turn_steps_as_the_joint_model() -> None:
    results = []
    for step in (MultiResolutionSegmentor.train_step, train_by_turns):
        model = build()
        wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
        logged = step(model, copy.deepcopy(batch()), wrapper)
        results.append((logged, model.state_dict()))
    (joint, joint_state), (turns, turn_state) = results
    assert set(joint) == set(turns)
    for name in joint:
        torch.testing.assert_close(turns[name], joint[name], atol=1e-5, rtol=1e-5)
    for name, value in joint_state.items():
        torch.testing.assert_close(turn_state[name], value, atol=1e-5, rtol=1e-4, msg=name)


NECK = dict(type='MultiLevelNeck', in_channels=[24, 24], out_channels=24, scales=[2, 1])
DROPS = dict(drop_path_rate=0.6, with_cp=True)


@pytest.mark.parametrize(
    ('model', 'backbone'),
    [
        ({}, {}),
        (dict(consistency=dict(type='L2Consistency'), consistency_target='featmap'), DROPS),
        (dict(consistency=None, neck=NECK), dict(DROPS, drop_path=dict(type='SubsetDropPath'))),
        (dict(resolutions=(64, 40)), dict(window_size=3, window_block_indices=(0,), with_cls_token=False)),
    ],
)
@pytest.mark.parametrize('kind', [OptimWrapper, AutocastOptimWrapper])
def test_one_forward_gives_the_step_of_several(model: dict, backbone: dict, kind: type) -> None:
    """Also with crops that are padded to one size."""
    results = []
    for one_forward in (True, False):
        built = build(**model, one_forward=one_forward)
        built.backbone = MODELS.build(
            dict(
                type='resformer_mm.ResFormer',
                arch=dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48),
                patch_size=8,
                out_indices=(0, 1),
                out_type='featmap',
                **backbone,
            )
        )
        for name, parameter in built.backbone.named_parameters():
            if 'local_position' in name:  # zero at the start, which would hide mistakes
                torch.nn.init.normal_(parameter, std=0.2)
        calls, gradients = [], {}
        built.backbone.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        for name, parameter in built.named_parameters():
            parameter.register_hook(lambda grad, name=name, kept=gradients: kept.update({name: grad.clone()}))
        data = batch()
        data['inputs'][0] = data['inputs'][0][:, :40, :64]
        labels = data['data_samples'][0].gt_sem_seg.data[:, :40]
        data['data_samples'][0].gt_sem_seg = PixelData(data=labels)
        torch.manual_seed(2)  # of stochastic depth
        logged = built.train_step(data, kind(torch.optim.SGD(built.parameters(), lr=0.1)))
        assert len(calls) == (1 if one_forward else len(built.data_preprocessor.resolutions))
        results.append((logged, gradients, built.state_dict()))
    is_exact = kind is OptimWrapper
    (logged, gradients, state), (wanted, wanted_gradients, wanted_state) = results
    assert logged.keys() == wanted.keys() and gradients.keys() == wanted_gradients.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(logged[name], value, rtol=1e-5 if is_exact else 2e-2, atol=1e-5)
    for name, value in wanted_gradients.items():
        atol = (1e-4 if is_exact else 0.1) * float(value.abs().max()) + 1e-7
        torch.testing.assert_close(gradients[name], value, rtol=0, atol=atol, msg=name)
    if is_exact:
        for name, value in wanted_state.items():  # statistics of batch norms among them
            torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-5, msg=name)


class ShiftedSegmentor(MultiResolutionSegmentor):
    """A segmentor that makes its own features."""

    def extract_feat(self, inputs: Tensor) -> list[Tensor]:
        return [1 + feats for feats in super().extract_feat(inputs)]


def test_a_model_with_its_own_features_takes_one_resolution_at_a_time() -> None:
    with pytest.raises(ValueError, match='model.one_forward=True, but ResNet takes its inputs one after'):
        build(backbone=dict(type='ResNet', depth=18, out_indices=(2, 3)), one_forward=True)
    with pytest.raises(ValueError, match='model.one_forward=True, but'):
        build(ShiftedSegmentor, one_forward=True)


def test_without_consistency_and_at_one_resolution() -> None:
    losses = build(consistency=None).forward(
        **build(consistency=None).data_preprocessor(batch(), training=True), mode='loss'
    )
    assert not [name for name in losses if 'consistency' in name]
    single = build(resolutions=(64,))
    plain = build('EncoderDecoder', resolutions=(64,))
    data = single.data_preprocessor(batch(), training=True)
    ours, _ = single.parse_losses(single(**data, mode='loss'))
    theirs, _ = plain.parse_losses(plain(data['inputs'][0], data['data_samples'], mode='loss'))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(('height', 'width'), [(64, 128), (128, 64)])
def test_rectangular_crops_keep_their_proportion(height: int, width: int) -> None:
    model = build(resolutions=(64, 32))
    model.data_preprocessor.size = (height, width)
    data = model.data_preprocessor(batch(height, width), training=True)
    sizes = [(height, width), (height // 2, width // 2)]
    assert [tuple(copy.shape[-2:]) for copy in data['inputs']] == sizes
    losses = model(**data, mode='loss')
    assert f'loss_consistency_{height // 2}x{width // 2}' in losses
    assert f'decode.loss_ce_{height}x{width}' in losses


def test_in_bfloat16_predictions_are_compared_in_float32() -> None:
    model, captured = build(resolutions=(64, 48)), []
    data = model.data_preprocessor(batch(), training=True)
    model.decode_head.register_forward_hook(lambda head, args, logits: captured.append(logits.detach()))
    with torch.autocast('cpu', torch.bfloat16):
        losses = model(**data, mode='loss')
        _, (teacher,) = model.copy_loss(next(enumerate_copies(data['inputs'])), data['data_samples'])
    assert not teacher.values.requires_grad  # nor does it keep the activations of its resolution
    teacher, student = (logits.float() for logits in captured[:2])
    assert captured[0].dtype == torch.bfloat16
    student = F.interpolate(student, (8, 8), mode='bilinear').log_softmax(1)
    divergence = F.kl_div(student, teacher.softmax(1), reduction='none').sum(1).mean()
    torch.testing.assert_close(losses['loss_consistency_48'], divergence / 2, rtol=1e-4, atol=1e-7)
    model.parse_losses(losses)[0].backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_padding_is_not_compared() -> None:
    model = build(resolutions=(64, 32), consistency=dict(type='L2Consistency'))
    data = batch()
    for index, (height, width) in ((0, (40, 24)), (2, (64, 50))):
        sample = data['data_samples'][index]
        data['inputs'][index] = data['inputs'][index][:, :height, :width]
        sample.gt_sem_seg = PixelData(data=sample.gt_sem_seg.data[:, :height, :width])
    prepared = model.data_preprocessor(data, training=True)
    with torch.no_grad():
        teacher, student = (model.decode_head(model.backbone(copy)) for copy in prepared['inputs'])
        student = F.interpolate(student, (8, 8), mode='bilinear')
        found = model(**prepared, mode='loss')['loss_consistency_32']
    # Cells of 8 x 8 pixels: 5 rows of 3, all, and all rows of 7, of which the last shows two columns.
    squares = (student - teacher).square().sum(1)
    total = squares[0, :5, :3].sum() + squares[1].sum() + squares[2, :, :7].sum()
    expected = total / ((15 + 64 + 56) * CLASSES) / 2
    torch.testing.assert_close(found, expected)
    assert abs(squares.mean() / CLASSES / 2 - expected) > 1e-3 * expected


@pytest.mark.parametrize(('height', 'width'), [(37, 53), (5, 61), (16, 24)])
def test_maps_are_cut_where_the_patch_does_not_divide_the_image(height: int, width: int) -> None:
    model = build().eval()
    model.data_preprocessor.test_cfg = dict(size_divisor=8)
    data = batch(64, 64, size=1)
    image = data['inputs'][0][:, :height, :width]
    metainfo = dict(img_shape=(height, width), ori_shape=(height, width))
    prepared = model.data_preprocessor(
        dict(inputs=[image], data_samples=[SegDataSample(metainfo=metainfo)]), training=False
    )
    padded = F.pad((image.float() - 100) / 50, (0, -width % 8, 0, -height % 8))[None]
    with torch.no_grad():
        (sample,) = model(**prepared, mode='predict')
        logits = model.decode_head(model.backbone(padded))
    logits = F.interpolate(logits, padded.shape[-2:], mode='bilinear')[0, :, :height, :width]
    torch.testing.assert_close(sample.seg_logits.data, logits, atol=1e-5, rtol=1e-4)
    assert sample.pred_sem_seg.data.shape == (1, height, width)


def test_evaluation_is_untouched() -> None:
    model = build().eval()
    data = dict(batch(37, 53, size=1))
    prepared = model.data_preprocessor(data, training=False)
    assert tuple(prepared['inputs'].shape) == (1, 3, 37, 53)
    with torch.no_grad():
        (sample,) = model(**prepared, mode='predict')
    assert tuple(sample.pred_sem_seg.data.shape) == (1, 37, 53)


def test_the_last_map_of_features_may_be_compared() -> None:
    model = build(resolutions=(64, 32), consistency=dict(type='L2Consistency'), consistency_target='featmap')
    data = model.data_preprocessor(batch(), training=True)
    losses = model(**data, mode='loss')
    teacher, student = (model.backbone(copy)[-1] for copy in data['inputs'])
    student = F.interpolate(student, teacher.shape[-2:], mode='bilinear', align_corners=False)
    torch.testing.assert_close(losses['loss_consistency_32'], ((student - teacher) ** 2).mean() / 2)
    model.parse_losses(losses)[0].backward()
    with pytest.raises(ValueError, match='KLConsistency compares class probabilities'):
        build(consistency_target='featmap')


def test_labels_are_taken_from_the_centre() -> None:
    labels = torch.arange(12).reshape(1, 3, 4)
    sample = SegDataSample(gt_sem_seg=PixelData(data=labels))
    assert labels_at(sample, (3, 4)) is sample
    assert labels_at(sample, (1, 2)).gt_sem_seg.data.tolist() == [[[5, 7]]]
    assert labels_at(sample, (1, 2)).gt_sem_seg.data.dtype == labels.dtype


def test_a_head_with_a_loss_of_another_kind_is_refused() -> None:
    pytest.importorskip('mmcv.ops', reason='PointHead needs the operators of mmcv')
    points = dict(type='PointHead', in_channels=[24], in_index=[1], channels=16, num_classes=CLASSES)
    with pytest.raises(ValueError, match="decode_head.type='PointHead' overrides the loss"):
        build(decode_head=points)


def test_settings_and_batches_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="model.consistency_target='cls' is unknown"):
        build(consistency=dict(type='SmoothL1Consistency'), consistency_target='cls')
    with pytest.raises(ValueError, match=r'high to low'):
        build(resolutions=(32, 64))
    preprocessor = dict(type='resformer_mm.MultiResolutionSegDataPreprocessor', resolutions=(64, 32))
    for sizes in (dict(), dict(size=(64, 64), size_divisor=32)):
        with pytest.raises(ValueError, match=r'model.data_preprocessor.size=.*give exactly one'):
            build(data_preprocessor={**preprocessor, **sizes})
    build(data_preprocessor={**preprocessor, 'size_divisor': 32})
    model, data = build(), batch()
    del data['data_samples'][0].gt_sem_seg
    with pytest.raises(ValueError, match='has no label map after the training pipeline'):
        model.data_preprocessor(data, training=True)
    binary = dict(type='FCNHead', in_channels=24, in_index=1, channels=16, num_classes=2, out_channels=1)
    binary |= dict(threshold=0.3, loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True))
    with pytest.raises(ValueError, match='which are all 1 if model.decode_head.out_channels is 1'):
        build(decode_head=binary)
    build(decode_head=binary, consistency=dict(type='L2Consistency'))
    model, data = build(), batch()
    model.decode_head.forward = lambda feats: (feats[0], feats[1])
    model.decode_head.loss_by_feat = lambda logits, samples: {}
    with pytest.raises(TypeError, match="decode_head.type='FCNHead' gives 2 outputs in training"):
        model(**model.data_preprocessor(data, training=True), mode='loss')
    model = build(resolutions=(96, 64))
    with pytest.raises(ValueError, match=r'64 x 64 pixels.*starts with 96'):
        model.data_preprocessor(batch(), training=True)
    model, data = build(), batch()
    data['data_samples'][1].gt_sem_seg = PixelData(data=torch.zeros(1, 64, 60, dtype=torch.long))
    with pytest.raises(ValueError, match=r'64 x 64 pixels after.*label map has 64 x 60'):
        model.data_preprocessor(data, training=True)
