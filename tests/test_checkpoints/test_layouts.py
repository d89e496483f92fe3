"""Checkpoints of plain ViTs of other libraries: converted, or named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from vit_states import ARCH, NAMES, dino_v3, renamed, timm_state

from resformer_mm.checkpoints import (
    CheckpointError,
    Conversion,
    convert_weights,
    load_pretrained,
    read_weights,
)
from resformer_mm.models import ResFormer

# Layout in the report, and the parts of the kind of checkpoint that are left out.
LIBRARY = {'DINO': 'timm', 'MoCo': 'timm', 'mmseg': 'mmpretrain or mmseg', 'Hugging Face 5': 'Hugging Face'}
LIBRARY['timm in Lightning'] = 'timm'
WITHOUT_HEAD = ('DINO', 'MoCo', 'mmseg')


def save(path: Path, state: dict, key: str = '') -> Path:
    torch.save({key: state} if key else state, path)
    return path


def convert(path: Path, state: dict, position: str | None = None) -> Conversion:
    return convert_weights(read_weights(save(path / 'other.pth', state)), position, 3)


@pytest.mark.parametrize('layout', NAMES)
def test_names_of_other_libraries(layout: str, tmp_path: Path) -> None:
    expected = convert(tmp_path, timm_state(), 'learned').state
    key = 'teacher' if layout == 'DINO' else 'state_dict'
    state = {f'module.{name}': value for name, value in renamed(layout).items()}
    weights = read_weights(save(tmp_path / 'other.pth', state, key))
    found = convert_weights(weights, 'learned', 3)
    found.report.check()
    assert found.report.layout == LIBRARY.get(layout, layout)
    if layout in WITHOUT_HEAD:
        expected = {name: value for name, value in expected.items() if not name.startswith('head.')}
    assert set(found.state) == set(expected)
    assert all(torch.equal(value, expected[name]) for name, value in found.state.items())
    report = load_pretrained(ResFormer(arch=ARCH), tmp_path / 'other.pth')
    assert report.layout == found.report.layout and not report.unexplained_missing


# Name of timm -> (shape, why it is left out).
PARTS = {
    'decoder_blocks.0.attn.qkv.weight': ((4, 4), 'another part'),  # MAE
    'mask_token': ((1, 1, 48), 'another part'),
    'pre_logits.fc.weight': ((48, 48), 'another part'),
    'fc_norm.weight': ((48,), 'normalises the mean of the patches'),
    'fc_norm.bias': ((48,), 'normalises the mean of the patches'),
}


@pytest.mark.parametrize(
    'names', [['decoder_blocks.0.attn.qkv.weight', 'mask_token'], [*PARTS][2:3], [*PARTS][3:]]
)
def test_parts_that_are_left_out(names: list[str], tmp_path: Path) -> None:
    """With them goes a head that reads them."""
    state = timm_state() | {name: torch.ones(PARTS[name][0]) for name in names}
    report = convert(tmp_path, state).report
    report.check()
    assert all(PARTS[name][1] in report.reasons[name] for name in names)
    assert ('head.weight' in report.unexpected) == (names[0] in ('pre_logits.fc.weight', 'fc_norm.weight'))


@pytest.mark.parametrize('missing', ['head', 'norm', 'cls_token', 'head width'])
def test_what_a_vit_may_lack(missing: str, tmp_path: Path) -> None:
    state = timm_state()
    if missing == 'head width':  # DINOv2 also reads the mean of the patches
        state['head.weight'] = torch.ones(5, 96)
    else:
        state = {name: value for name, value in state.items() if not name.startswith(missing)}
    found = convert(tmp_path, state)
    found.report.check()
    assert found.architecture.with_cls_token == (missing != 'cls_token')
    assert found.architecture.num_classes == (0 if 'head' in missing else 5)
    report = load_pretrained(ResFormer(arch=ARCH), tmp_path / 'other.pth')
    fresh = {name.split('.')[1] for name in report.missing if 'position' not in name}
    assert fresh == ({missing} if missing in ('norm', 'cls_token') else set())
    assert all(report.reasons[name] for name in report.missing)


@pytest.mark.parametrize(
    'names', [('patch_embed.proj.bias',), ('blocks.0.attn.qkv.bias', 'blocks.1.attn.qkv.bias')]
)
def test_biases_that_a_vit_lacks_are_zero(names: tuple[str, ...], tmp_path: Path) -> None:
    state = {name: value for name, value in timm_state().items() if name not in names}
    found = convert(tmp_path, state)
    found.report.check()
    assert all(not found.state[f'backbone.{name}'].any() for name in names)
    assert any('no bias' in note for note in found.report.notes)
    del state['blocks.1.norm1.bias']  # of a layer that has one elsewhere
    with pytest.raises(CheckpointError, match='lacks backbone.blocks.1.norm1.bias'):
        convert(tmp_path, state).report.check()


def test_half_weights_with_layer_scale(tmp_path: Path) -> None:
    """A product that leaves the range of 16 bits is kept in 32."""
    state = {name: value.half() for name, value in timm_state().items()}
    scale = state['blocks.1.gamma_2'] = torch.full((48,), 1e-5).half()  # the name in the code of DeiT III
    weight = convert(tmp_path, state).state['backbone.blocks.1.mlp.fc2.weight']
    torch.testing.assert_close(weight, scale.float()[:, None] * state['blocks.1.mlp.fc2.weight'].float())
    assert weight.dtype == torch.float32


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
@pytest.mark.parametrize('library', ['Meta', 'timm', 'Hugging Face'])
def test_registers_and_rotary_positions_are_named(library: str, prefix: str, tmp_path: Path) -> None:
    """They are left out of a DINOv3; all else is taken, without the biases of the keys."""
    state = {prefix + name: value for name, value in dino_v3(library).items()}
    found = convert(tmp_path, state)
    found.report.check()
    expected = convert_weights(read_weights(save(tmp_path / 'vit.pth', timm_state())), None, 3).state
    for index in (0, 1):
        expected[f'backbone.blocks.{index}.attn.qkv.bias'][48:96] = 0
    expected = {name: value for name, value in expected.items() if not name.startswith('head.')}
    assert set(found.state) == set(expected)
    assert all(torch.equal(value, expected[name]) for name, value in found.state.items())
    reasons = found.report.reasons
    [registers] = [
        reason for name, reason in reasons.items() if name.endswith(('_token', '_tokens')) and '4' in reason
    ]
    assert registers.startswith('4 register tokens, which this ResFormer does not have (num_registers): the')
    report = load_pretrained(ResFormer(arch=ARCH), tmp_path / 'other.pth')
    assert 'the file has no position table: the features differ' in report.summary()
    assert ('rotary positions, which this ResFormer does not have' in report.summary()) == (library == 'Meta')


def test_registers_of_dino_v2(tmp_path: Path) -> None:
    """The table of a DINOv2 is of 37 x 37 patches, and stays so."""
    state = timm_state() | {'pos_embed': torch.randn(1, 1370, 48), 'register_tokens': torch.ones(1, 4, 48)}
    found = convert(tmp_path, state, 'learned')
    assert found.architecture.global_position == dict(type='LearnedPositionEmbedding', grid_size=37)
    assert found.report.unexpected == {'register_tokens': (1, 4, 48)}
    state['pos_embed'] = state['pos_embed'][:, 1:]  # as timm has it
    assert convert(tmp_path, state, 'learned').architecture.global_position['with_cls_token'] is False


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('blocks.1.attn.qkv.bias', 'blocks.1.attn.qkv.bias_mask without its bias'),
        ('blocks.0.attn.v_bias', 'blocks.0.attn.q_bias without that of the values'),
    ],
)
def test_halves_of_biases(name: str, message: str, tmp_path: Path) -> None:
    state = dino_v3('Meta' if 'qkv' in name else 'timm')
    del state[name]
    with pytest.raises(CheckpointError, match=f'other.pth has {message}: use a complete file'):
        convert(tmp_path, state)


@pytest.mark.parametrize(
    ('layout', 'change', 'message'),
    [
        (
            'Hugging Face',
            {'vit.encoder.layer.1.attention.attention.key.weight': None},
            'query.weight without its keys',
        ),
        ('MoCo', {'momentum_encoder.blocks.0.attn.qkv.weight': (1,)}, None),
        ('DINO', {'student.blocks.0.attn.qkv.weight': (144, 48)}, None),
        (
            'timm in Lightning',
            {'other.blocks.0.attn.qkv.weight': (1,)},
            "several ViTs, at 'model.', 'other.'",
        ),
        (
            'timm in Lightning',
            {'model.blocks.0.ls1.gamma': (7,)},
            r'ls1.gamma \(7,\) does not fit model.*proj',
        ),
        (
            'timm in Lightning',
            {'model.blocks.7.ls1.gamma': (48,)},
            'blocks.7.ls1.gamma, but not the weight of the proj',
        ),
        (
            'timm in Lightning',
            {'model.head.fc.bias': (5,)},
            'both model.head.bias and model.head.fc.bias are',
        ),
        (
            'Hugging Face',
            {'vit.embeddings.distillation_token': (1, 1, 48)},
            'distilled DeiT .vit.embeddings.dist',
        ),
    ],
    ids=str,
)
def test_what_contradicts_itself(layout: str, change: dict, message: str | None, tmp_path: Path) -> None:
    state = renamed(layout)
    for name, shape in change.items():
        if shape is None:
            del state[name]
        else:
            state[name] = torch.ones(shape)
    if message is None:  # the names say which ViT is meant
        convert(tmp_path, state).report.check()
        return
    with pytest.raises(CheckpointError, match=f'other.pth.*{message}'):
        convert(tmp_path, state)


@pytest.mark.parametrize('form', ['load', 'convert'])
@pytest.mark.parametrize(
    ('name', 'kind'),
    [
        ('blocks.0.attn.relative_position_bias_table', 'a BEiT'),
        ('blocks.0.attn.rel_pos_h', 'relative positions'),
        ('blocks.0.attn.q_norm.weight', 'normalises queries'),
        ('blocks.0.mlp.w12.weight', 'gated MLPs'),
        ('rope.freqs_cos', 'an EVA-02'),
        ('norm_pre.weight', 'CLIP'),
        ('attn_pool.latent', 'SigLIP'),
        ('patch_embed.backbone.conv.weight', 'convolutional stem'),
    ],
)
def test_vits_that_are_not_plain_are_named(name: str, kind: str, form: str, tmp_path: Path) -> None:
    path = save(tmp_path / 'other.pth', {**timm_state(), name: torch.ones(3)})
    with pytest.raises(
        CheckpointError, match=f'other.pth is .*{kind}.*not a plain ViT.* no place for {name}'
    ):
        load_pretrained(ResFormer(arch=ARCH), path) if form == 'load' else convert_weights(read_weights(path))


@pytest.mark.parametrize('form', ['load', 'convert'])
@pytest.mark.parametrize('prefix', ['', 'backbone.'])
@pytest.mark.parametrize(
    ('name', 'kind'),
    [
        ('stages.0.blocks.0.attn.w_msa.relative_position_bias_table', 'a Swin'),
        ('layers.0.blocks.0.attn.cpb_mlp.0.weight', 'a Swin'),
        ('layer1.0.conv1.weight', 'a ResNet'),
        ('downsample_layers.0.0.weight', 'a ConvNeXt'),
        ('layers.0.token_mix.layers.0.0.weight', 'an MLP-Mixer'),
        ('stages.0.0.attn.sr.weight', 'several stages'),
        ('conv1.bn.running_mean', 'a convolutional network'),
        ('visual.transformer.resblocks.0.attn.in_proj_weight', 'CLIP'),
    ],
)
def test_other_models_are_named(name: str, kind: str, prefix: str, form: str, tmp_path: Path) -> None:
    path = save(
        tmp_path / 'other.pth',
        {prefix + name: torch.ones(3), f'{prefix}patch_embed.projection.bias': torch.ones(3)},
    )
    with pytest.raises(CheckpointError, match=f'other.pth is .*{kind}.*not a plain ViT'):
        load_pretrained(ResFormer(arch=ARCH), path) if form == 'load' else convert_weights(read_weights(path))


@pytest.mark.parametrize(
    ('shapes', 'kind'),
    [
        ({'blocks.1.attn.qkv.weight': (288, 96)}, 'several widths .48, 96'),
        ({'blocks.0.mlp.fc2.weight': (48, 48)}, 'gated MLPs'),
    ],
)
def test_shapes_show_the_kind(shapes: dict, kind: str, tmp_path: Path) -> None:
    state = timm_state() | {name: torch.ones(shape) for name, shape in shapes.items()}
    with pytest.raises(CheckpointError, match=f'other.pth is .*{kind}.*not a plain ViT'):
        convert(tmp_path, state)


def test_nothing_of_the_model_is_never_enough(tmp_path: Path) -> None:
    path = save(tmp_path / 'other.pth', {'something.weight': torch.ones(3)})
    with pytest.raises(CheckpointError, match='other.pth has no tensor of the model, but something.weight'):
        load_pretrained(ResFormer(arch=ARCH), path, allow_missing=True, allow_unexpected=True)
