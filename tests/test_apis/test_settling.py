"""Settings that are settled before a runner is built."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.optim import AmpOptimWrapper
from torch import nn
from torch.utils.data import DataLoader

from resformer_mm.apis import launch, settling
from resformer_mm.engine import AutocastOptimWrapper, precision
from resformer_mm.registry import OPTIM_WRAPPERS


def test_without_workers_a_loader_can_be_built():
    settings = dict(num_workers=0, persistent_workers=True, prefetch_factor=4, timeout=5, batch_size=2)
    with_workers = dict(num_workers=1, persistent_workers=True)
    cfg = Config(dict(train_dataloader=settings, val_dataloader=with_workers, test_dataloader=None))
    with pytest.raises(ValueError, match='num_workers'):
        DataLoader([1], **settings)
    settling.settle_loaders(cfg)
    assert len(DataLoader([1, 2], **cfg.train_dataloader)) == 1
    assert cfg.val_dataloader == with_workers


@pytest.mark.parametrize(('native', 'expected'), [(True, True), (False, False)])
def test_evaluation_in_mixed_precision(monkeypatch, native, expected):
    monkeypatch.setattr(precision, 'has_native_bfloat16', lambda: native)
    monkeypatch.setattr(precision, 'product_ratio', lambda kind: 0.3)
    cfg = Config(dict(val_cfg=dict(fp16=True), test_cfg=None))
    settling.settle_precision(cfg)
    assert cfg.val_cfg.fp16 is expected


@pytest.mark.parametrize('kind', ['AmpOptimWrapper', 'mmengine.AmpOptimWrapper', AmpOptimWrapper])
def test_mixed_precision_for_gpus_is_that_of_a_cpu(kind):
    settings = dict(type=kind, loss_scale='dynamic', dtype='float16', accumulative_counts=2)
    optimizer = dict(type='SGD', lr=0.1)
    cfg = Config(dict(optim_wrapper=dict(**settings, optimizer=optimizer)))
    settling.settle_precision(cfg)
    built = OPTIM_WRAPPERS.build(
        {**cfg.optim_wrapper, 'optimizer': torch.optim.SGD(nn.Linear(1, 1).parameters(), 0.1)}
    )
    assert type(built) is AutocastOptimWrapper and built._accumulative_counts == 2
    for other in ('OptimWrapper', AutocastOptimWrapper, None):
        cfg = Config(dict(optim_wrapper=dict(type=other, optimizer=optimizer)))
        settling.settle_precision(cfg)
        assert cfg.optim_wrapper.type is other or cfg.optim_wrapper.type == other


@pytest.mark.parametrize(
    ('fields', 'expected'),
    [
        (dict(), 'float32'),
        (dict(test_cfg=dict(fp16=True)), 'bfloat16'),
        (dict(test_cfg=dict(fp16=True), inference_dtype='float16'), 'float16'),
        (dict(inference_dtype='bfloat16'), 'bfloat16'),
        (dict(inference_dtype=None), 'float32'),
    ],
)
def test_the_type_of_a_test(fields, expected):
    cfg = Config({'test_cfg': dict(), **fields})
    assert settling.take_inference_dtype(cfg) == expected and 'fp16' not in cfg.test_cfg
    with pytest.raises(ValueError, match="inference_dtype='int8' is not a type of inference: choose from"):
        settling.take_inference_dtype(Config(dict(test_cfg=dict(), inference_dtype='int8')))


@pytest.mark.parametrize(
    ('value', 'expected'),
    [
        (None, None),
        (False, None),
        (True, {}),
        (dict(backend='eager'), dict(backend='eager')),
        (dict(disable=True, mode='default'), None),  # as in the configs of this package
        (dict(disable=False), dict(disable=False)),
    ],
)
def test_the_field_compile(value, expected):
    cfg = Config(dict(compile=value))
    assert settling.take_compilation(cfg) == expected and 'compile' not in cfg
    with pytest.raises(ValueError, match=r"compile='yes': give True, False or a dict"):
        settling.take_compilation(Config(dict(compile='yes')))


class Backbone(nn.Linear):
    """Not a class of PyTorch, which its compiler would leave alone."""

    def forward(self, inputs):
        return super().forward(inputs) + 1


def test_the_backbone_is_compiled_and_its_copies_and_names_are_not():
    seen = []

    def backend(graph, inputs):
        seen.append(len(inputs))
        return graph.forward

    model = nn.ModuleDict(dict(backbone=Backbone(3, 2)))
    names = list(model.state_dict())
    settling.compile_backbone(model, dict(backend=backend))
    inputs = torch.randn(4, 3)
    torch.testing.assert_close(
        model['backbone'](inputs), inputs @ model['backbone'].weight.T + model['backbone'].bias + 1
    )
    assert seen and list(model.state_dict()) == names
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin['backbone'].weight.zero_()
    torch.testing.assert_close(twin['backbone'](inputs), twin['backbone'].bias.expand(4, 2) + 1)
    with pytest.raises(ValueError, match='compile: Linear has no backbone'):
        settling.compile_backbone(nn.Linear(1, 1), {})


def test_hooks_are_left_out_as_mmengine_leaves_out_its_own():
    hooks = dict(logger=None, invalid_loss=None, skipped_images=None, timer=dict(type='IterTimerHook'))
    cfg = Config(dict(default_hooks=hooks))
    assert launch._take_left_out(cfg) == {'logger', 'invalid_loss', 'skipped_images'}
    assert dict(cfg.default_hooks) == dict(logger=None, timer=dict(type='IterTimerHook'))
    assert launch._take_left_out(Config()) == set()


@pytest.mark.parametrize('kind', ['CheckpointHook', CheckpointHook, 'mmengine.hooks.CheckpointHook', None])
def test_checkpoints_are_saved_by_the_hook_of_this_package(kind):
    settings = dict(type=kind, interval=7) if kind else None
    cfg = Config(dict(default_hooks=dict(checkpoint=settings)) if kind else {})
    settling.settle_checkpoints(cfg)
    interval = 7 if kind else 1
    assert cfg.default_hooks.checkpoint == dict(type='resformer_mm.ExactCheckpointHook', interval=interval)


@pytest.mark.parametrize('settings', [None, dict(type='EMAHook')])
def test_other_checkpoint_hooks_stay(settings):
    cfg = Config(dict(default_hooks=dict(checkpoint=settings)))
    settling.settle_checkpoints(cfg)
    assert cfg.default_hooks.checkpoint == settings
