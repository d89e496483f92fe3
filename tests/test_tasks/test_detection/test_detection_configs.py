"""The detection configs: published sizes, recipe, the rules of the optimiser, initial weights, pipelines."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from detection_models import FOLDER, MASK_RCNN, read, samples, shrink
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from PIL import Image
from torch import nn

from resformer_mm.apis import load_model
from resformer_mm.checkpoints import initialisation
from resformer_mm.libraries import TASKS, import_name
from resformer_mm.models import LearnedPositionEmbedding
from resformer_mm.tasks.detection import evaluators

CONFIGS = sorted(path.name for path in FOLDER.glob('*coco*.py'))
LSJ = 'resformer-base_mr-224-160-128_mask-rcnn-lsj_8xb8-100e_coco-1024x1024.py'
RETINANET = 'resformer-small_mr-224-160-128_retinanet_8xb2-36e_coco.py'
# Millions of parameters. Published for ResFormer to one decimal, here as the structure gives it to two.
PARAMETERS = {
    ('resformer-small', 'mask-rcnn'): 45.57,
    ('resformer-base', 'mask-rcnn'): 115.34,
    ('resformer-base', 'mask-rcnn-lsj'): 115.34,
    ('vitdet-small', 'mask-rcnn'): 45.64,
    ('vitdet-base', 'mask-rcnn'): 115.47,
    ('resformer-small', 'cascade-mask-rcnn'): 81.13,
    ('resformer-small', 'retinanet'): 30.72,
    ('resformer-small', 'fcos'): 29.18,
}


def parts(name: str) -> tuple[str, str]:
    """Return model and detector from the name of a config."""
    words = name.split('_')
    return words[0], next(word for word in words if word in {kind for _, kind in PARAMETERS})


def test_there_are_configs() -> None:
    assert {parts(name) for name in CONFIGS} == set(PARAMETERS)


@pytest.mark.parametrize('name', CONFIGS)
def test_number_of_parameters(name: str) -> None:
    with torch.device('meta'):  # counts need no memory
        model = load_model(read(name), device='meta')
    assert (
        round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == PARAMETERS[parts(name)]
    )


def test_the_structure_written_out() -> None:
    """Every part of the small and the base model by its own arithmetic."""
    for name, width in ((MASK_RCNN, 384), (MASK_RCNN.replace('small', 'base'), 768)):
        with torch.device('meta'):
            model = load_model(read(name), device='meta')
        conv, norm = 9 * 256 * 256, 2 * 256
        head_dim = 64
        block = 12 * width**2 + 13 * width + 9 * head_dim + head_dim  # attention, MLP, two norms, LPE
        expected = {
            'backbone': 16 * 16 * 3 * width + width + 9 * width + width + 12 * block,
            'neck': 3 * 4 * width**2 + 2 * width + 2 * width + 4 * (256 * width + norm + conv + norm),
            'rpn_head': 2 * (conv + 256) + (256 + 1) * 3 * (1 + 4),
            'roi_head': 4 * (conv + norm)
            + (7 * 7 * 256 + 1) * 1024
            + (1024 + 1) * (81 + 4 * 80)
            + 4 * (conv + norm)
            + (4 * 256 * 256 + 256)
            + (256 + 1) * 80,
        }
        actual = {
            key: sum(parameter.numel() for parameter in getattr(model, key).parameters()) for key in expected
        }
        assert actual == expected


@pytest.mark.parametrize('name', CONFIGS)
def test_backbone_and_pyramid(name: str) -> None:
    with torch.device('meta'):
        model = load_model(read(name), device='meta')
    backbone = model.backbone
    kinds = [type(block.attn).__name__ for block in backbone.blocks]
    assert [index for index, kind in enumerate(kinds) if kind == 'Attention'] == [2, 5, 8, 11]
    assert {block.attn.window_size for block in backbone.blocks if hasattr(block.attn, 'window_size')} == {14}
    assert backbone.cls_token is None and backbone.norm is None
    assert backbone.blocks[-1].drop_path.rate == pytest.approx(0.1)
    is_baseline = name.startswith('vitdet')
    assert isinstance(backbone.global_position, LearnedPositionEmbedding) is is_baseline
    assert (backbone.blocks[0].attn.local_position is None) is is_baseline
    head = model.rpn_head if hasattr(model, 'rpn_head') else model.bbox_head
    maps = model.neck((torch.zeros(1, backbone.embed_dims, 64, 64, device='meta'),))
    assert [1024 // level.shape[2] for level in maps] == [size[0] for size in head.prior_generator.strides]


@pytest.mark.parametrize('name', CONFIGS)
def test_recipe(name: str) -> None:
    cfg = read(name)
    warm_up, steps = cfg.param_scheduler
    total_batch = 8 * cfg.train_dataloader.batch_size
    assert cfg.auto_scale_lr.base_batch_size == total_batch == (64 if name == LSJ else 16)
    assert (warm_up.type, warm_up.begin, warm_up.by_epoch) == ('LinearLR', 0, False)
    assert (steps.type, steps.gamma) == ('MultiStepLR', 0.1)
    if name == LSJ:  # ViTDet's numbers, as its authors configure them
        assert cfg.train_cfg.max_iters == 184375 and steps.milestones == [163889, 177546]
        assert warm_up.end == 250 and not steps.by_epoch
    else:
        assert cfg.train_cfg.max_epochs == steps.end == 36 and steps.milestones == [27, 33]
    assert cfg.default_hooks.invalid_loss == dict(type='resformer_mm.InvalidLossHook')
    assert cfg.default_hooks.num_classes.type == 'resformer_mm.CheckNumClassesHook'
    metric = cfg.test_evaluator.metric
    assert metric == ('bbox' if parts(name)[1] in ('retinanet', 'fcos') else ['bbox', 'segm'])


@pytest.mark.parametrize('name', [MASK_RCNN, 'vitdet-small_mask-rcnn_8xb2-36e_coco.py', LSJ])
def test_learning_rate_and_decay_of_every_parameter(name: str) -> None:
    """Twelve narrow blocks: rates fall by 0.7 a block, down to 0.7 ** 13 for the patch embedding."""
    arch = dict(embed_dims=24, num_layers=12, num_heads=2, feedforward_channels=48)
    cfg = shrink(read(name), arch)
    model = load_model(cfg, device='cpu')
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    found = {id(parameter): group for group in groups for parameter in group['params']}
    norms = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, (nn.LayerNorm, nn.modules.batchnorm._BatchNorm))
        for parameter in module.parameters()
    }
    spared = 0
    for key, parameter in model.named_parameters():
        words = key.split('.')
        if words[0] != 'backbone':
            power = 0
        elif words[1] == 'blocks':
            power = 12 - int(words[2])
        else:
            power = 13
        free = id(parameter) in norms or words[-1] == 'bias' or 'position' in key
        spared += free
        group = found.pop(id(parameter))
        assert group['lr'] == pytest.approx(1e-4 * 0.7**power), key
        assert group['weight_decay'] == (0.0 if free else 0.1 if name == LSJ else 0.05), key
        assert group['betas'] == (0.9, 0.999)
    assert not found and spared > 60


def test_the_backbone_starts_from_a_classifier(tmp_path: Path, monkeypatch) -> None:
    cfg = shrink(read(MASK_RCNN))
    donor = load_model(shrink(read(MASK_RCNN), with_cls_token=True, window_size=0, window_block_indices=()))
    state = {f'backbone.{key}': torch.randn_like(value) for key, value in donor.backbone.state_dict().items()}
    state |= {'backbone.norm.weight': torch.ones(24), 'backbone.norm.bias': torch.zeros(24)}
    state |= {'head.fc.weight': torch.randn(10, 24), 'head.fc.bias': torch.randn(10)}
    torch.save({'state_dict': state}, tmp_path / 'classifier.pth')
    cfg.model.backbone.init_cfg = dict(
        type='resformer_mm.PretrainedResFormer', checkpoint=str(tmp_path / 'classifier.pth')
    )
    told = []
    monkeypatch.setattr(initialisation, 'print_log', lambda text, **kwargs: told.append(text))
    model = load_model(cfg, device='cpu')
    model.init_weights()
    for key, value in model.backbone.state_dict().items():
        torch.testing.assert_close(value, state[f'backbone.{key}'], msg=key)
    told = '\n'.join(told)
    assert 'backbone.cls_token (1, 1, 24): left out, the model has no class token' in told
    assert 'backbone.norm.weight (24,): left out, the model has no final norm' in told
    assert 'head.fc.weight (10, 24): left out, the model has no such head' in told


# ------------------------------------------------------------------------------------ pipelines


@pytest.fixture(scope='module')
def image(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A file of 300 x 420 pixels and what a data set says of it: three objects, one of them crowd."""
    path = tmp_path_factory.mktemp('image') / 'image.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 420, 3), dtype=np.uint8)).save(path)

    def instance(left: int, top: int, side: int, crowd: bool) -> dict:
        right, bottom = left + side, top + side
        mask = [[left, top, right, top, right, bottom, left, bottom]]
        return dict(bbox=[left, top, right, bottom], bbox_label=2, mask=mask, ignore_flag=int(crowd))

    instances = [instance(20, 30, 200, False), instance(200, 100, 150, False), instance(10, 10, 60, True)]
    return dict(img_path=str(path), img_id=7, height=300, width=420, instances=instances)


def through(pipeline: list[dict], image: dict) -> dict:
    from mmdet.registry import TRANSFORMS

    results = dict(image)
    for step in pipeline:
        results = TRANSFORMS.build(step)(results)
    return results


@pytest.mark.parametrize('name', [MASK_RCNN, LSJ])
def test_pipelines(name: str, image: dict) -> None:
    cfg = read(name)
    sides = set()
    for seed in range(8):
        np.random.seed(seed)
        packed = through(cfg.train_dataloader.dataset.pipeline, image)
        height, width = packed['inputs'].shape[1:]
        sample = packed['data_samples']
        assert sample.img_shape == (height, width)
        assert len(sample.gt_instances) == len(sample.gt_instances.masks) <= 2
        assert len(sample.ignored_instances) <= 1
        assert max(height, width) <= (1024 if name == LSJ else 1333)
        sides.add(min(height, width))
    if name == MASK_RCNN:
        assert all(480 <= side <= 800 for side in sides) and len(sides) > 3
    packed = through(cfg.test_dataloader.dataset.pipeline, image)
    assert tuple(packed['inputs'].shape) == ((3, 731, 1024) if name == LSJ else (3, 800, 1120))
    assert packed['data_samples'].ori_shape == (300, 420)


def test_large_scale_jitter_pads_to_the_size_and_the_model_knows() -> None:
    cfg = shrink(read(LSJ))
    cfg.model.data_preprocessor.batch_augments[0].size = (128, 128)
    model = load_model(cfg, device='cpu').train()
    data = model.data_preprocessor(samples([(40, 100)], [1]), training=True)
    assert data['inputs'].shape[2:] == (128, 128)
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    model(**data, mode='loss')
    assert seen == [dict(sizes=[(40, 100)])]


@pytest.mark.slow
def test_the_functions_of_mmdet_take_the_configs(image: dict) -> None:
    from mmdet.apis import inference_detector, init_detector

    model = init_detector(shrink(read(MASK_RCNN)), device='cpu')
    assert 'pred_instances' in inference_detector(model, image['img_path'])
    assert type(model.data_preprocessor).__name__ == 'DetDataPreprocessor'


def test_boxes_of_several_views_are_merged(image: dict) -> None:
    """What tools/test.py --tta runs, for a detector without masks."""
    from mmengine.registry import MODELS

    cfg = shrink(read(RETINANET))
    for resize in cfg.tta_pipeline[1].transforms[0]:
        resize.scale = tuple(side // 10 for side in resize.scale)
    views = through(cfg.tta_pipeline, image)
    assert len(views['inputs']) == 6
    model = MODELS.build(dict(**cfg.tta_model, module=load_model(cfg, device='cpu')))
    model.module.test_cfg.score_thr = 0.0
    batch = {key: [[value] for value in values] for key, values in views.items()}
    with torch.no_grad():
        (result,) = model.test_step(batch)
    boxes = result.pred_instances.bboxes
    assert 0 < len(boxes) <= 100
    assert boxes[:, 0::2].max() <= 420 and boxes[:, 1::2].max() <= 300 and boxes.min() >= 0


def test_a_metric_whose_package_is_missing(monkeypatch) -> None:
    settle = import_name(TASKS['detection'].settle)
    cfg = Config(dict(val_evaluator=[dict(type='CocoMetric'), dict(type='mmdet.FasterCocoMetric')]))
    for is_missing in (True, False):
        found = None if is_missing else object()
        monkeypatch.setattr(evaluators, 'find_spec', lambda name, found=found: found)
        expected = pytest.raises(ValueError, match='val_evaluator has FasterCocoMetric.*pip install faster')
        with expected if is_missing else nullcontext():
            settle(cfg)
    monkeypatch.setattr(evaluators, 'find_spec', lambda name: None)
    settle(Config(dict(val_evaluator=None, test_evaluator=dict(type='CocoMetric'))))


def test_configs_of_one_family_share_what_they_name(tmp_path: Path) -> None:
    assert read(MASK_RCNN).model.neck.in_channels == 384
    cfg = Config.fromfile(FOLDER / MASK_RCNN)
    strides = cfg.model.rpn_head.anchor_generator.strides
    assert cfg.model.roi_head.bbox_roi_extractor.featmap_strides == strides[:4] == [4, 8, 16, 32]
