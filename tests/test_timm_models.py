"""ResFormer as a model of timm, compared with the backbone and with timm's own ViT."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from vit_states import ARCH

from resformer_mm import ResFormer
from resformer_mm.checkpoints import load_pretrained

timm = pytest.importorskip('timm')
timm_models = pytest.importorskip('resformer_mm.timm_models')

SIZES = [(64, 64), (48, 80), (70, 33), (16, 17)]
PARAMETERS = {'tiny': 5_689_192, 'small': 21_986_536, 'base': 86_431_720}  # those of the model zoo


def image(height: int, width: int, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def randomise(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for name, value in model.named_parameters():
        value.normal_(float(name.endswith('norm.weight')), 0.2, generator=generator)
    return model.eval()


@pytest.fixture(scope='module')
def pair() -> tuple[nn.Module, nn.Module]:
    """A ViT of timm, and a ResFormer with its table and weights."""
    sizes = dict(embed_dim=48, depth=2, num_heads=3, mlp_ratio=2, num_classes=5)
    vit = randomise(timm.models.VisionTransformer(32, 8, **sizes, dynamic_img_size=True))
    ours = timm_models.TimmResFormer(
        ARCH,
        8,
        num_classes=5,
        global_position=dict(type='LearnedPositionEmbedding', grid_size=4),
        local_position=None,
    )
    names = {'pos_embed': None, 'head.weight': 'head.fc.weight', 'head.bias': 'head.fc.bias'}
    state = {names.get(name, f'backbone.{name}'): value for name, value in vit.state_dict().items()}
    del state[None]
    state['backbone.global_position.cls_token_table'] = vit.pos_embed[:, :1]
    state['backbone.global_position.table'] = vit.pos_embed[:, 1:]
    ours.load_state_dict(state)
    return vit, ours.eval()


@pytest.mark.parametrize('arch', PARAMETERS)
def test_every_model_is_registered(arch: str) -> None:
    name = f'resformer_{arch}_patch16'
    assert name in timm.list_models('resformer*')
    with torch.device('meta'):
        model = timm.create_model(name)
        assert sum(value.numel() for value in model.parameters()) == PARAMETERS[arch]
        features = timm.create_model(name, features_only=True, out_indices=(2, 5, 8, 11))
    assert features.feature_info.channels() == [model.num_features] * 4
    assert features.feature_info.reduction() == [16] * 4


@pytest.mark.parametrize('out_indices', [(3, -1), (0, 5), 2])
def test_features_are_those_of_the_backbone(out_indices: tuple[int, ...] | int) -> None:
    net = timm.create_model('resformer_tiny_patch16', features_only=True, out_indices=out_indices, in_chans=4)
    randomise(net)
    indices = (10, 11) if out_indices == 2 else tuple(index % 12 for index in out_indices)
    backbone = ResFormer('tiny', in_channels=4, out_type='featmap', out_indices=indices, final_norm=False)
    left_over = backbone.load_state_dict(net.model.backbone.state_dict(), strict=False)
    assert not left_over.unexpected_keys  # blocks behind the last index are gone
    assert all(int(name.split('.')[1]) > max(indices) for name in left_over.missing_keys)
    info = net.feature_info
    assert info.module_name() == [f'backbone.blocks.{index}' for index in indices]
    for size in SIZES:
        with torch.no_grad():
            found, expected = net(image(*size, 4)), backbone.eval()(image(*size, 4))
        assert len(found) == len(indices)
        for one, two, channels, reduction in zip(found, expected, info.channels(), info.reduction()):
            assert torch.equal(one, two)
            assert one.shape == (2, channels, *(math.ceil(side / reduction) for side in size))


@torch.no_grad()
def test_interface_of_timm(pair: tuple[nn.Module, nn.Module]) -> None:
    """The same calls on both models give the same values."""

    def same(call: str, *args: object, **kwargs: object) -> None:
        theirs, mine = (getattr(model, call)(*args, **kwargs) for model in pair)
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)

    x = image(32, 32)  # tables of other sizes are resized in another way
    same('forward', x)
    same('forward_features', x)
    tokens = pair[0].forward_features(x)
    same('forward_head', tokens)
    same('forward_head', tokens, pre_logits=True)
    for indices in (None, 1, [0], [-1, 0], [-2]):
        for norm in (False, True):
            same('forward_intermediates', x, indices, norm=norm)
            same('forward_intermediates', x, indices, norm=norm, output_fmt='NLC', intermediates_only=True)
        same('forward_intermediates', x, indices, stop_early=True, intermediates_only=True)
        same('forward_intermediates', x, indices, return_prefix_tokens=True)
    for pool in ('avg', '', 'token'):
        for model in pair:
            model.reset_classifier(7, pool)
        pair[0].head.load_state_dict(pair[1].get_classifier().state_dict())
        same('forward', x)
        assert [model.num_classes for model in pair] == [7, 7]
    assert pair[1].num_features == pair[0].num_features and pair[1].get_classifier().out_features == 7
    for model in pair:
        model.reset_classifier(0)
    same('forward', x)


@torch.no_grad()
def test_pruned_for_features(pair: tuple[nn.Module, nn.Module]) -> None:
    from timm.models._features import FeatureGetterNet

    nets = [FeatureGetterNet(model, (0,), norm=True) for model in pair]
    theirs, mine = (net(image(32, 32)) for net in nets)
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    assert len(pair[1].backbone.blocks) == 1 and isinstance(pair[1].get_classifier(), nn.Identity)


@pytest.mark.parametrize('pool', ['token', 'avg', ''])
def test_settings(pool: str) -> None:
    model = timm.create_model(
        'resformer_tiny_patch16',
        num_classes=7,
        img_size=(96, 160),
        drop_rate=0.5,
        drop_path_rate=0.2,
        global_pool=pool,
        dynamic_img_size=True,
    )
    assert timm.data.resolve_model_data_config(model)['input_size'] == (3, 96, 160)
    assert model.head.drop.p == 0.5 and model.backbone.blocks[-1].drop_path.rate == 0.2
    randomise(model)
    x = image(40, 70)
    with torch.no_grad():
        torch.testing.assert_close(model(x), model.forward_head(model.forward_features(x)))
    assert model(x).shape == ((2, 7) if pool else (2, 1 + 3 * 5, 7))


def test_training() -> None:
    """Layer decay, groups without weight decay, and checkpointing with the same gradients."""
    from timm.optim import create_optimizer_v2

    model = randomise(timm_models.TimmResFormer(ARCH, 8, num_classes=5)).train()
    groups = create_optimizer_v2(model, 'adamw', lr=1, weight_decay=0.1, layer_decay=0.5).param_groups
    decay = {
        name: group['lr_scale']
        for name, value in model.named_parameters()
        for group in groups
        if any(value is parameter for parameter in group['params'])
    }
    assert decay['head.fc.weight'] == 1 and decay['backbone.blocks.1.mlp.fc1.weight'] == 0.5
    assert decay['backbone.blocks.0.attn.local_position.conv.weight'] == 0.25
    assert decay['backbone.cls_token'] == decay['backbone.global_position.conv.weight'] == 0.125
    assert model.no_weight_decay() == {'backbone.cls_token'}
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        assert model.grad_checkpointing is enable
        model.zero_grad()
        model(image(32, 40)).square().sum().backward()
        gradients.append([value.grad.clone() for value in model.parameters()])
    assert all(torch.equal(one, two) for one, two in zip(*gradients))


def test_weights(tmp_path: Path) -> None:
    """By timm's arguments and by the loader of this project, from a ViT of timm."""
    vit = timm.create_model('vit_tiny_patch16_224')
    torch.save(vit.state_dict(), tmp_path / 'vit.pth')
    file = dict(pretrained=True, pretrained_cfg_overlay=dict(file=str(tmp_path / 'vit.pth')))
    model = timm.create_model('resformer_tiny_patch16', **file)
    features = timm.create_model('resformer_tiny_patch16', features_only=True, out_indices=(3,), **file)
    loaded = timm.create_model('resformer_tiny_patch16', num_classes=0)
    report = load_pretrained(loaded, tmp_path / 'vit.pth')
    assert report.reasons['head.weight'] == 'left out, the model has no such head'
    assert torch.equal(model.head.fc.weight, vit.head.weight)
    for net in (model, features.model, loaded):
        assert torch.equal(net.backbone.blocks[3].attn.qkv.weight, vit.blocks[3].attn.qkv.weight)
    torch.save(model.state_dict(), tmp_path / 'ours.pth')
    again = timm.create_model('resformer_tiny_patch16', checkpoint_path=str(tmp_path / 'ours.pth'))
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters()))
    with pytest.raises(RuntimeError, match='No pretrained weights exist for resformer_tiny_patch16'):
        timm.create_model('resformer_tiny_patch16', pretrained=True)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(global_pool='map'), "global_pool='map' is unknown: choose from"),
        (dict(with_cls_token=False), "global_pool='token' needs with_cls_token=True: choose 'avg'"),
        (dict(dynamic_img_size=False), 'takes images of any size: leave dynamic_img_size'),
        (dict(drop_path_rate=1), 'drop_path_rate must be at least 0'),
    ],
)
def test_settings_that_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        timm_models.TimmResFormer(ARCH, 8, **settings)
