"""Detectors: independence of the batch, training steps of every head, foreign configs, unusual batches."""

from __future__ import annotations

import copy
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest
import torch
from detection_models import FOLDER, MASK_RCNN, losses, read, samples, shrink, tiny
from mmengine.config import Config
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from resformer_mm.apis import load_model
from resformer_mm.checkpoints import CheckpointError

STEM = 'resformer-small_mr-224-160-128'
HEADS = {
    'Mask R-CNN': MASK_RCNN,
    'Cascade Mask R-CNN': f'{STEM}_cascade-mask-rcnn_8xb2-36e_coco.py',
    'RetinaNet': f'{STEM}_retinanet_8xb2-36e_coco.py',
    'FCOS': f'{STEM}_fcos_8xb2-36e_coco.py',
    'ViTDet': 'vitdet-small_mask-rcnn_8xb2-36e_coco.py',
    'Faster R-CNN': f'{STEM}_faster-rcnn_8xb2-36e_visdrone.py',
}
SIZES = [(50, 90), (70, 40)]  # mmdet pads them to 96 x 96


def features(model: nn.Module, batch: dict) -> list[Tensor]:
    """The pyramid as heads get it, caught on its way."""
    caught = []
    handle = model.neck.register_forward_hook(lambda _, args, output: caught.extend(output))
    with torch.no_grad():
        model.test_step(batch)
    handle.remove()
    return caught


def first(batch: dict) -> dict:
    return {key: value[:1] for key, value in batch.items()}


def test_the_pyramid_of_an_image_does_not_depend_on_its_batch_mates() -> None:
    batch = samples(SIZES, [0, 0])
    for kind, is_same in (('resformer_mm.MaskRCNN', True), ('mmdet.MaskRCNN', False)):
        cfg = shrink(read(MASK_RCNN))
        cfg.model.type = kind
        torch.manual_seed(0)
        model = load_model(cfg, device='cpu')
        together, alone = features(model, batch), features(model, first(batch))
        assert len(together) == 5
        for level, expected in zip(together, alone, strict=True):
            # mmdet pads an image that is alone to a multiple of 32.
            height, width = expected.shape[2:]
            assert level.is_contiguous()  # RoIAlign reads it as if it were
            close = torch.allclose(level[:1, :, :height, :width], expected, rtol=1e-5, atol=1e-5)
            assert close is is_same


def loosen(part: dict, most: int = 12) -> None:
    """Let all proposals, and detections of every score, pass, in place."""
    for key, value in part.items():
        if key == 'score_thr':
            part[key] = 0.0
        elif key in ('nms_pre', 'max_per_img'):
            part[key] = most
        elif key in ('rpn', 'rcnn'):
            loosen(value, 400 if key == 'rpn' else most)


@pytest.mark.slow
@pytest.mark.parametrize('name', [*list(HEADS.values())[:4], 'softmax'], ids=[*list(HEADS)[:4], 'softmax'])
def test_detections_do_not_depend_on_batch_mates(name: str) -> None:
    """Of an image that ends inside a patch and of one that fills its patches; boxes, scores and masks."""
    cfg = shrink(read(MASK_RCNN if name == 'softmax' else name))
    if name == 'softmax':  # a class of its own for the background
        cfg.model.rpn_head.loss_cls.use_sigmoid = False
    loosen(cfg.model.test_cfg)
    torch.manual_seed(0)
    model = copy.deepcopy(load_model(cfg, device='cpu')).double()  # weight averaging makes copies
    for key, parameter in model.named_parameters():
        if parameter.ndim > 1:  # the initialisation of heads would leave all scores alike
            nn.init.normal_(parameter, std=0.3 if 'position' in key else parameter[0].numel() ** -0.5)
    for size in ((50, 90), (96, 128)):
        batch = samples([size, (200, 230)], [0, 0])
        with torch.no_grad():
            together, alone = (model.test_step(data)[0].pred_instances for data in (batch, first(batch)))
        assert len(together) == len(alone) > 5
        for key in ('bboxes', 'scores', 'labels'):
            torch.testing.assert_close(together[key], alone[key], rtol=1e-6, atol=1e-6)
        if 'masks' in alone:
            assert torch.equal(together.masks, alone.masks)


@pytest.mark.parametrize('name', HEADS.values(), ids=HEADS)
def test_a_training_step_reaches_every_parameter_and_boxes_come_out(name: str) -> None:
    model = tiny(name).train()
    batch = samples(SIZES, [3, 2])
    loss, parts = losses(model, batch)
    assert loss.isfinite() and len(parts) >= 3
    loss.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        # A level of the pyramid may have no anchor in the sample; the backbone is behind all of them.
        assert parameter.grad.any() or not key.startswith('backbone'), key
    model.eval()
    with torch.no_grad():
        results = model.test_step(batch)
    assert [set(result.pred_instances.keys()) >= {'bboxes', 'scores', 'labels'} for result in results]


@pytest.mark.slow
@pytest.mark.parametrize('name', list(HEADS.values())[:4], ids=list(HEADS)[:4])
@pytest.mark.parametrize(
    ('num_boxes', 'num_ignored'),
    [([0, 0], 0), ([0, 0], 2), ([2, 0], 1)],
    ids=['no object in the batch', 'crowd alone', 'objects and crowd, none in one image'],
)
def test_odd_batches_have_finite_losses(name: str, num_boxes: list, num_ignored: int) -> None:
    model = tiny(name).train()
    loss, _ = losses(model, samples(SIZES, num_boxes, num_ignored))
    loss.backward()
    assert loss.isfinite()
    for key, parameter in model.named_parameters():
        # Distributed training waits for a gradient of every parameter.
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key


@pytest.mark.slow
def test_checkpointing_gives_the_same_gradients() -> None:
    gradients = []
    for with_cp in (False, True):
        model = tiny(with_cp=with_cp, drop_path_rate=0.0).train()
        losses(model, samples(SIZES, [2, 1]))[0].backward()
        gradients.append([parameter.grad for parameter in model.backbone.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


@pytest.mark.slow
@pytest.mark.parametrize('name', list(HEADS.values())[:4], ids=list(HEADS)[:4])
def test_a_step_in_bfloat16(name: str) -> None:
    model, batch = tiny(name, drop_path_rate=0.0).train(), samples(SIZES, [2, 1])
    expected = losses(model, batch)[0].item()
    with torch.autocast('cpu', torch.bfloat16):
        loss, _ = losses(model, batch)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=0.02)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    model.eval()
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        results = model.test_step(batch)
    assert {result.pred_instances.bboxes.dtype for result in results} == {torch.float32}


class Operations(TorchDispatchMode):
    """Counts the operations that run while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.counts[function.overloadpacket._qualified_op_name] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    'name', [MASK_RCNN, HEADS['RetinaNet'], HEADS['FCOS']], ids=['Mask', 'Retina', 'FCOS']
)
@pytest.mark.parametrize('mode', ['loss', 'predict'])
def test_images_of_one_size_do_not_pay_for_padding(name: str, mode: str) -> None:
    """Backbone, pyramid and heads run the operations of a detector that knows nothing of padding."""
    model = tiny(name).train(mode == 'loss')

    def operations(sizes: list, with_padding: bool = True) -> Counter[str]:
        batch = model.data_preprocessor(samples(sizes, [2, 2]), training=mode == 'loss')
        torch.manual_seed(0)  # of the sampled boxes
        heads = model._heads
        model._heads = heads if with_padding else None
        with Operations() as found, torch.no_grad():
            model(**batch, mode=mode)
        model._heads = heads
        return found.counts

    same, different = [(96, 96)] * 2, [(96, 96), (50, 90)]
    masks = 'aten::masked_fill'
    operations(same)  # embeddings of a grid are kept
    assert operations(same) == operations(same, with_padding=False)
    assert operations(different)[masks] > operations(same)[masks]


def test_the_tensor_mode_needs_no_samples() -> None:
    model = tiny(HEADS['RetinaNet'])
    scores, boxes = model(torch.zeros(1, 3, 64, 96), mode='tensor')
    assert [tuple(score.shape[2:]) for score in scores] == [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]


def test_sizes_are_forgotten_after_an_error() -> None:
    model, batch = tiny(), samples(SIZES, [1, 1])
    data = model.data_preprocessor(batch, training=True)
    data['data_samples'][0].set_metainfo(dict(img_shape=(500, 500)))
    with pytest.raises(ValueError, match='img_shape of its data samples'):
        model(**data, mode='loss')
    assert model._sizes is None


def test_weights_that_are_nan_are_refused(tmp_path: Path) -> None:
    cfg = shrink(read(MASK_RCNN))
    state = load_model(cfg, device='cpu').state_dict()
    state['neck.levels.1.conv.weight'][0, 0, 0, 0] = torch.nan
    torch.save({'state_dict': state}, tmp_path / 'diverged.pth')
    with pytest.raises(CheckpointError, match='diverged.pth has weights .*NaN.: neck.levels.1.conv.weight'):
        load_model(cfg, tmp_path / 'diverged.pth', device='cpu')


def test_a_backbone_without_sizes_is_refused() -> None:
    cfg = shrink(read(MASK_RCNN))
    cfg.model.backbone = dict(type='ResNet', depth=18, out_indices=(2,))
    with pytest.raises(TypeError, match=r'resformer_mm.MaskRCNN needs a backbone.*ResNet.*mmdet\.MaskRCNN'):
        load_model(cfg, device='cpu')


def test_depths_for_layer_wise_decay() -> None:
    model = tiny()
    depths = {key: model.get_layer_depth(key) for key, _ in model.named_parameters()}
    assert {total for _, total in depths.values()} == {4}
    assert depths['backbone.patch_embed.proj.bias'][0] == 0
    assert depths['backbone.global_position.conv.weight'][0] == 0
    assert depths['backbone.blocks.1.attn.qkv.weight'][0] == 2
    assert depths['neck.levels.0.conv.weight'][0] == depths['rpn_head.rpn_cls.bias'][0] == 3


@pytest.mark.slow
def test_a_stock_config_of_mmdet_takes_the_backbone() -> None:
    """Two lines changed: the backbone, and the channels that the neck gets from it."""
    stock = (
        Path(import_module('mmdet').__file__).parent / '.mim/configs/mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
    )
    cfg = Config.fromfile(stock)
    cfg.model.backbone = dict(
        type='resformer_mm.ResFormer',
        arch=dict(embed_dims=24, num_layers=4, num_heads=2, feedforward_channels=48),
        out_type='featmap',
        out_indices=(0, 1, 2, 3),
    )
    cfg.model.neck.in_channels = [24] * 4
    model = load_model(cfg, device='cpu').train()
    # FPN halves nothing: its four maps have stride 16, and the fifth 32.
    loss, parts = losses(model, samples([(64, 96)], [1]))
    loss.backward()
    assert loss.isfinite() and 'loss_mask' in parts
    assert all(parameter.grad is not None for parameter in model.backbone.parameters())


def test_the_folder_has_a_config_for_every_head() -> None:
    assert all((FOLDER / name).is_file() for name in HEADS.values())
