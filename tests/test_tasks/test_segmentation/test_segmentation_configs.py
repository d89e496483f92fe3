"""The segmentation configs: published sizes, schedule, the rules of the optimiser, initial weights."""

from __future__ import annotations

import copy
from pathlib import Path

import mmcv
import mmseg
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmseg.apis import inference_model, init_model
from small_models import save_checkpoint
from torch import nn

from resformer_mm.apis import enter_scope, load_model, read_config
from resformer_mm.apis.inferencer import make_inferencer
from resformer_mm.checkpoints import CheckpointError, initialisation

FOLDER = Path(__file__).parents[3] / 'configs' / 'segmentation'
CONFIGS = sorted(path.name for path in FOLDER.glob('*ade20k*.py'))
SMALL = 'resformer-small_mr-224-160-128_upernet_8xb2-80k_ade20k-512x512.py'
NATIVE = 'resformer-small_mr-224-160-128_upernet_8xb2-80k_ade20k-native.py'
# Millions of parameters: as published to one decimal; the exact count where it is known.
PUBLISHED = {'resformer-small': 51.7, 'resformer-base': 119.8, 'deit-small': 52.1, 'deit-base': 120.6}


def read(name: str) -> Config:
    cfg = read_config(FOLDER / name)
    enter_scope(cfg)
    return cfg


@pytest.mark.parametrize('name', CONFIGS)
def test_published_number_of_parameters(name: str) -> None:
    with torch.device('meta'):  # counts need no memory
        model = load_model(read(name), device='meta')
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert round(millions, 1) == PUBLISHED[name.split('_')[0]]


@pytest.mark.parametrize('name', CONFIGS)
def test_recipe(name: str) -> None:
    cfg = read(name)
    iterations = 160000 if '160k' in name else 80000
    assert cfg.train_cfg.max_iters == iterations
    warm_up, decay = cfg.param_scheduler
    assert (warm_up.begin, warm_up.end, decay.begin, decay.end) == (0, 1500, 1500, iterations)
    assert (decay.type, decay.power, decay.eta_min) == ('PolyLR', 1.0, 0.0)
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.model.backbone.drop_path_rate == 0.1
    assert cfg.optim_wrapper.optimizer.type == 'AdamW'
    preprocessor = cfg.model.data_preprocessor
    assert tuple(preprocessor['size']) == (512, 512)
    assert preprocessor.test_cfg.size_divisor == cfg.model.backbone.get('patch_size', 16)
    assert preprocessor.get('resolutions', [512])[0] == cfg.crop == 512
    assert [t['type'] for t in cfg.train_pipeline[2:5]] == ['RandomResize', 'RandomCrop', 'RandomFlip']
    assert cfg.train_pipeline[2].ratio_range == (0.5, 2.0)


@pytest.mark.parametrize(('kind', 'size', 'iterations'), [('small', 's16', '80k'), ('base', 'b16', '160k')])
def test_all_but_backbone_and_loading_is_that_of_mmsegmentation(
    kind: str, size: str, iterations: str
) -> None:
    ours = read(f'deit-{kind}_upernet_8xb2-{iterations}_ade20k-512x512.py')
    folder = Path(mmseg.__file__).parent / '.mim' / 'configs' / 'vit'
    theirs = Config.fromfile(folder / f'vit_deit-{size}_upernet_8xb2-{iterations}_ade20k-512x512.py')
    for head in ('decode_head', 'auxiliary_head'):
        theirs.model[head].loss_decode.pop('use_sigmoid')  # False, the default
        assert ours.model[head] == theirs.model[head]
    assert ours.model.test_cfg == theirs.model.test_cfg
    for field in ('out_indices', 'drop_path_rate'):
        assert ours.model.backbone[field] == theirs.model.backbone[field]
    *steps, distortion, pack = ours.train_pipeline[2:]
    assert distortion.type == 'resformer_mm.PhotoMetricDistortion'  # the same pixels, faster
    assert [*steps, dict(distortion, type='PhotoMetricDistortion'), pack] == theirs.train_pipeline[2:]
    assert ours.test_pipeline[1] == theirs.test_pipeline[1]
    assert ours.tta_pipeline[1].transforms[:2] == theirs.tta_pipeline[1].transforms[:2]
    assert {**theirs.data_preprocessor, 'test_cfg': dict(size_divisor=16)} == ours.model.data_preprocessor
    assert ours.param_scheduler == theirs.param_scheduler
    assert ours.optim_wrapper.optimizer == theirs.optim_wrapper.optimizer
    assert ours.train_dataloader.batch_size == theirs.train_dataloader.batch_size


@pytest.mark.parametrize('name', [SMALL, 'deit-small_upernet_8xb2-80k_ade20k-512x512.py'])
def test_learning_rate_and_decay_of_every_parameter(name: str) -> None:
    cfg = read(name)
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
        group = found.pop(id(parameter))
        free = id(parameter) in norms or any(
            word in key for word in ('cls_token', 'global_position', 'local_position')
        )
        spared += free
        assert group['lr'] == 6e-5, key
        assert group['weight_decay'] == (0.0 if free else 0.01), key
        assert group['betas'] == (0.9, 0.999)
    assert not found and spared > 30


def small_model(init: dict | None, model: dict | None = None, **backbone) -> nn.Module:
    cfg = read(SMALL)
    cfg.model.update(model or {})
    cfg.model.backbone.update(
        arch=dict(embed_dims=24, num_layers=12, num_heads=2, feedforward_channels=48),
        init_cfg=init,
        **backbone,
    )
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        head.update(channels=8, in_channels=[24] * 4 if head is cfg.model.decode_head else 24)
    return load_model(cfg, device='cpu')


def test_the_backbone_starts_from_a_classifier(tmp_path, monkeypatch) -> None:
    torch.manual_seed(0)
    donor = small_model(None)
    state = {
        f'backbone.{name}': torch.randn_like(value) for name, value in donor.backbone.state_dict().items()
    }
    state |= {'backbone.norm.weight': torch.ones(24), 'backbone.norm.bias': torch.zeros(24)}
    state |= {'head.fc.weight': torch.randn(10, 24), 'head.fc.bias': torch.randn(10)}
    torch.save({'state_dict': state}, tmp_path / 'classifier.pth')
    init = dict(type='resformer_mm.PretrainedResFormer', checkpoint=str(tmp_path / 'classifier.pth'))
    told = []
    monkeypatch.setattr(initialisation, 'print_log', lambda text, **kwargs: told.append(text))
    model = small_model(init)
    before = copy.deepcopy(model.decode_head.state_dict())
    model.init_weights()
    for name, value in model.backbone.state_dict().items():
        torch.testing.assert_close(value, state[f'backbone.{name}'], msg=name)
    assert any(not torch.equal(value, before[key]) for key, value in model.decode_head.state_dict().items())
    told = '\n'.join(told)
    assert 'classifier.pth' in told and f'matched: {len(donor.backbone.state_dict())}' in told
    assert 'head.fc.weight (10, 24): left out, the model has no such head' in told
    assert 'backbone.norm.weight (24,): left out, the model has no final norm' in told


def test_the_field_pretrained_of_the_model(tmp_path) -> None:
    donor = small_model(None, with_cls_token=False)
    state = {f'backbone.{name}': value for name, value in donor.backbone.state_dict().items()}
    path = str(tmp_path / 'detector.pth')
    torch.save({'state_dict': state}, path)
    model = small_model(None, model=dict(pretrained=path))
    with pytest.raises(CheckpointError, match=r'lacks backbone.cls_token: .*allow_missing=True'):
        model.init_weights()
    init = dict(type='resformer_mm.PretrainedResFormer', checkpoint=path)
    with pytest.raises(ValueError, match='model.pretrained.* and init_cfg both say'):
        small_model(init, model=dict(pretrained=path))
    allowing = small_model(dict(**init, allow_missing=True))
    without_token = small_model(None, model=dict(pretrained=path), with_cls_token=False)
    for model in (allowing, without_token):
        model.init_weights()
        for name, value in donor.backbone.state_dict().items():
            torch.testing.assert_close(model.backbone.state_dict()[name], value, msg=name)


def test_a_classifier_that_does_not_fit_stops_the_training(tmp_path) -> None:
    init = dict(type='resformer_mm.PretrainedResFormer', checkpoint=str(tmp_path / 'absent.pth'))
    with pytest.raises(CheckpointError, match=r'absent\.pth does not exist'):
        small_model(init).init_weights()
    wide = {
        f'backbone.{name}': value
        for name, value in small_model(None, patch_size=8).backbone.state_dict().items()
    }
    torch.save({'state_dict': wide}, tmp_path / 'absent.pth')
    with pytest.raises(CheckpointError, match='patch_embed.proj.weight has shape'):
        small_model(init).init_weights()


@pytest.mark.parametrize('name', [SMALL, 'resformer-mini_upernet_1xb8-900_mini.py'])
def test_every_run_checks_the_number_of_classes(name: str) -> None:
    assert read(name).default_hooks.num_classes.type == 'resformer_mm.CheckNumClassesHook'


def test_windows_leave_four_blocks_global() -> None:
    cfg = read('resformer-base_mr-224-160-128_upernet-window-16_8xb2-160k_ade20k-512x512.py')
    with torch.device('meta'):
        backbone = load_model(cfg, device='meta').backbone
    kinds = [type(block.attn).__name__ for block in backbone.blocks]
    assert [index for index, kind in enumerate(kinds) if kind == 'Attention'] == [2, 5, 8, 11]
    assert backbone.cls_token is None


def test_the_native_config_resizes_nothing() -> None:
    kinds = [step['type'] for step in read(NATIVE).test_dataloader.dataset.pipeline]
    assert kinds == ['resformer_mm.LoadImage', 'resformer_mm.LoadSegMap', 'PackSegInputs']
    assert read(NATIVE).train_dataloader == read(SMALL).train_dataloader


@pytest.mark.filterwarnings('ignore::UserWarning')
def test_mmsegmentations_own_functions_predict_the_same(tmp_path) -> None:
    path = FOLDER / 'resformer-mini_upernet_1xb8-900_mini.py'
    cfg = read_config(path, {'model.backbone.init_cfg': None})
    classes = [f'class {label}' for label in range(cfg.num_classes)]
    checkpoint = save_checkpoint(cfg, tmp_path / 'w.pth', classes=classes, palette=[[0, 0, 0]] * len(classes))
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    picture = str(tmp_path / 'picture.png')
    mmcv.imwrite(mmcv.imresize(pixels, (145, 90)), picture)
    ours = make_inferencer(cfg, checkpoint, 'cpu')(picture)['predictions'][0]['seg_map']
    theirs = inference_model(init_model(path, str(checkpoint), 'cpu'), picture)
    assert len(np.unique(ours)) > 2
    assert np.array_equal(theirs.pred_sem_seg.data[0], ours)
