"""Advice of error messages about models and pipelines, followed: the error is gone, and no other comes."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope
from small_models import MEAN, STD, classifier, save_checkpoint

from resformer_mm.apis import launch, load_model
from resformer_mm.checkpoints import CheckpointError
from resformer_mm.checkpoints.conversion import convert_file
from resformer_mm.checkpoints.reading import read_weights
from resformer_mm.config.resolutions import pipeline_at_resolution

KL = dict(type='resformer_mm.KLConsistency')
LENET = dict(type='LeNet5')


def quantized(value: torch.Tensor) -> torch.Tensor:
    return torch.quantize_per_tensor(value, 0.5, 0, torch.qint8)


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def build(changes: dict[str, Any]) -> torch.nn.Module:
    """Build a small classifier that trains on several resolutions, with changed fields of its config."""
    cfg = classifier()
    model = dict(
        deepcopy(cfg.model.to_dict()),
        type='resformer_mm.MultiResolutionClassifier',
        data_preprocessor=dict(type='resformer_mm.MultiResolutionDataPreprocessor', mean=MEAN, std=STD),
    )
    cfg.model = model
    cfg.merge_from_dict({f'model.{name}': value for name, value in changes.items()})
    return MODELS.build(cfg.model)


@pytest.mark.parametrize(
    ('wrong', 'message', 'advice'),
    [
        (
            dict(consistency_target='x'),
            r"choose from \('cls', 'gap', 'logits'\)",
            dict(consistency_target='gap'),
        ),
        (
            dict(consistency=dict(KL, target='logits')),
            "an argument of the model, model.consistency_target='logits'",
            dict(consistency=KL, consistency_target='logits'),
        ),
        (
            dict(consistency=KL, consistency_target='cls'),
            "set it to 'logits'",
            dict(consistency_target='logits'),
        ),
        (
            {
                'consistency_target': 'cls',
                'backbone.with_cls_token': False,
                'backbone.out_type': 'avg_featmap',
            },
            r"set model\.consistency_target='gap'",
            dict(consistency_target='gap'),
        ),
        (
            {'backbone': dict(LENET, _delete_=True)},
            r"set model\.consistency_target='gap', or",
            dict(consistency_target='gap'),
        ),
        (
            {'backbone': dict(LENET, _delete_=True)},
            r"'logits' with consistency=dict\(type='KLConsistency'\), or consistency=None",
            dict(consistency_target='logits', consistency=KL),
        ),
        (
            {'backbone': dict(LENET, _delete_=True)},
            'or consistency=None',
            dict(consistency=None),
        ),
        (
            {'backbone.window_size': 4},
            'give a positive window_size and the blocks that use it',
            {'backbone.window_size': 2, 'backbone.window_block_indices': (0,)},
        ),
        ({'backbone.window_size': 4}, 'or neither', {'backbone.window_size': 0}),
        (
            {'backbone.with_cls_token': False, 'consistency': None},
            "without a class token, set out_type='avg_featmap' for a classifier",
            {'backbone.out_type': 'avg_featmap'},
        ),
        (
            {'data_preprocessor.num_classes': 4},
            'remove the latter, or set both to the number of classes',
            {'data_preprocessor.num_classes': 7},
        ),
        ({'backbone.arch': 'huge'}, r"choose from \['tiny', 'small', 'base'\]", {'backbone.arch': 'tiny'}),
        (
            {'backbone.output_cls_token': True},
            r"needs out_type='featmap' and with_cls_token=True",
            {'backbone.out_type': 'featmap', 'backbone.with_cls_token': True},
        ),
    ],
)
def test_a_model(wrong: dict, message: str, advice: dict) -> None:
    with pytest.raises(ValueError, match=message):
        build(wrong)
    build({**wrong, **advice})


STEP = dict(type='RandomFlip', prob=0.5)


def test_copies_of_the_same_size() -> None:
    settings = dict(type='resformer_mm.MultiResolution', resolutions=[32, 16])
    with pytest.raises(
        ValueError, match=r"use e\.g\. dict\(type='RandomResizedCrop', scale='\{resolution\}'\)"
    ):
        TRANSFORMS.build(dict(settings, transforms=[STEP]))
    crop = dict(type='RandomResizedCrop', scale='{resolution}')
    transform = TRANSFORMS.build(dict(settings, transforms=[crop]))
    copies = transform(dict(img=np.zeros((40, 40, 3), np.uint8), img_shape=(40, 40)))['img']
    assert [copy.shape[:2] for copy in copies] == [(32, 32), (16, 16)]


def test_an_evaluation_without_a_size() -> None:
    load = dict(type='resformer_mm.LoadImage')
    with pytest.raises(
        ValueError, match=r'Use e\.g\. dict\(type="resformer_mm\.ResizeCenterCrop", resolution=224\)'
    ):
        pipeline_at_resolution([load, dict(type='PackInputs')], 32)
    steps = [
        dict(type='resformer_mm.ResizeCenterCrop', resolution=224),
        dict(type='Resize', scale=(2048, 512), keep_ratio=True),
    ]
    for step in steps:
        assert pipeline_at_resolution([load, step], 32)[1] != step


class Foreign:
    """An object of the training code that wrote a checkpoint, which is read by a call."""

    def __reduce__(self) -> tuple:
        return len, ('four',)


def test_a_refused_checkpoint(tmp_path) -> None:
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(model=dict(weight=torch.ones(2)), note=Foreign()), path)
    with pytest.raises(
        CheckpointError, match=r"save the weights alone: torch\.save\(\{'model': state_dict\}"
    ):
        read_weights(path)
    state_dict = torch.load(path, weights_only=False)['model']
    torch.save({'model': state_dict}, path)
    assert read_weights(path).state['weight'].tolist() == [1, 1]


def test_weights_in_an_entry_of_another_name(tmp_path) -> None:
    path, state = tmp_path / 'odd.pth', {'weight': torch.ones(2)}
    torch.save(dict(best=state, scores=[1]), path)
    with pytest.raises(CheckpointError, match=r"it has: 'best', 'scores'\. .*, torch\.save\(.*\[ENTRY\]"):
        read_weights(path)
    with pytest.raises(CheckpointError, match=r"the entry 'scores' does not hold weights\. .* name it"):
        read_weights(path, 'scores')
    assert read_weights(path, 'best').state['weight'].tolist() == [1, 1]
    torch.save({'state_dict': torch.load(path)['best']}, tmp_path / 'new.pth')
    assert read_weights(tmp_path / 'new.pth').state['weight'].tolist() == [1, 1]


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.'])
def test_weights_twice(prefix, tmp_path) -> None:
    torch.save({'weight': torch.ones(2), f'{prefix}weight': torch.ones(2)}, tmp_path / 'twice.pth')
    with pytest.raises(CheckpointError, match=f"equal without '{prefix}': it holds weights twice, save one"):
        read_weights(tmp_path / 'twice.pth')


def test_a_file_of_safetensors_without_its_package(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
    path = tmp_path / 'a.safetensors'
    path.touch()
    with pytest.raises(ImportError, match=r'a\.safetensors needs the package safetensors: pip install'):
        read_weights(path)


def test_a_vit_without_the_positions_of_a_resformer(tmp_path) -> None:
    """Testing it would be nonsense; training from it is not."""
    cfg = classifier()
    table = dict(type='LearnedPositionEmbedding', grid_size=4)
    cfg.model.backbone.update(global_position=table, local_position=None)
    save_checkpoint(cfg, tmp_path / 'own.pth')
    vit = tmp_path / 'vit.pth'
    torch.save(convert_file(tmp_path / 'own.pth', vit, reverse=True, num_heads=2)[1], vit)
    with pytest.raises(
        CheckpointError,
        match=r"lacks .*global_position.* nonsense: .* init_cfg=dict\(type='resformer_mm\.Pre",
    ):
        load_model(classifier(), vit, 'cpu')
    cfg = classifier()
    cfg.model.backbone.init_cfg = dict(type='resformer_mm.PretrainedResFormer', checkpoint=str(vit))
    model = load_model(cfg, device='cpu')
    model.init_weights()
    own = torch.load(tmp_path / 'own.pth')['state_dict']
    assert torch.equal(model.backbone.blocks[1].mlp.fc1.weight, own['backbone.blocks.1.mlp.fc1.weight'])


@pytest.mark.parametrize('make', [torch.Tensor.to_sparse, torch.Tensor.to_sparse_csr, quantized])
def test_tensors_that_are_not_plain(make: Callable[[torch.Tensor], torch.Tensor], tmp_path: Path) -> None:
    path, weight = tmp_path / 'a.pth', torch.eye(3)
    torch.save({'state_dict': {'weight': make(weight)}}, path)
    message = (
        r'a.pth holds tensors that are not plain \(torch._utils._rebuild.*tensor.to_dense\(\) or tensor.deq'
    )
    with pytest.raises(CheckpointError, match=message):
        read_weights(path)
    dense = make(weight).dequantize() if make is quantized else make(weight).to_dense()
    torch.save({'state_dict': {'weight': dense}}, path)
    assert torch.equal(read_weights(path).state['weight'], weight)


def test_an_archive_that_is_far_smaller_than_its_content(tmp_path: Path) -> None:
    plain, packed = tmp_path / 'plain.pth', tmp_path / 'packed.pth'
    torch.save({'state_dict': {'weight': torch.zeros(2**18)}}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, 'w', zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(CheckpointError, match='packed.pth is refused: its records are .* get it from its or'):
        read_weights(packed)
    assert len(read_weights(plain).state['weight']) == 2**18  # as it was at its origin


def test_the_timeout_of_the_connection() -> None:
    for value in (0, 'a minute'):
        cfg = Config(dict(env_cfg=dict(dist_cfg=dict(timeout=value))))
        with pytest.raises(ValueError, match=f'dist_cfg.timeout = {value!r} must be a positive number of se'):
            launch._settle_timeout(cfg)
    cfg.env_cfg.dist_cfg.timeout = 60
    assert launch._settle_timeout(cfg)['timeout'] == 60
