"""The backbone: sizes, outputs, gradients of every parameter, options, and errors."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resformer_mm.models import ResFormer, SmoothL1Consistency
from resformer_mm.models.layers import DropPath
from resformer_mm.registry import MODELS

ARCH = dict(embed_dims=32, num_layers=3, num_heads=4, feedforward_channels=64)
RESOLUTIONS = (48, 32, 24)
PARAMETER_COUNTS = dict(tiny=5_689_192, small=21_986_536, base=86_431_720)
POSITIONS = {
    'GPE and LPE': dict(),
    'GPE without convolution': dict(global_position=dict(type='GlobalPositionEmbedding', conv=False)),
    'GPE alone': dict(local_position=None),
    'LPE alone': dict(global_position=dict(type='NoGlobalPosition')),
    'learned table': dict(
        global_position=dict(type='LearnedPositionEmbedding', grid_size=4), local_position=None
    ),
    'learned table without a class row': dict(
        global_position=dict(type='LearnedPositionEmbedding', grid_size=4, with_cls_token=False)
    ),
    'none': dict(global_position=None, local_position=None),
}


def build(**kwargs) -> ResFormer:
    torch.manual_seed(0)
    return ResFormer(**{'arch': ARCH, 'patch_size': 8, **kwargs})


def draw(*size: int, batch: int = 2, channels: int = 3) -> Tensor:
    height, width = size if len(size) == 2 else size * 2
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(0))


def randomise_positions(model: ResFormer) -> ResFormer:
    """LPE starts at zero: put numbers there, so that it matters."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if 'position' in name:
                parameter.normal_(std=0.5, generator=torch.Generator().manual_seed(1))
    return model


def multi_resolution_step(model: ResFormer, resolutions: tuple[int, ...]) -> nn.Linear:
    """Back-propagate one step with hard labels; return the head."""
    head = nn.Linear(model.embed_dims, 7)
    consistency, teacher, total = SmoothL1Consistency(), None, 0.0
    for resolution in resolutions:
        (cls_token,) = model(draw(resolution))
        total = total + F.cross_entropy(head(cls_token), torch.tensor([0, 5]))
        if teacher is not None:
            total = total + consistency(cls_token, teacher)
        teacher = cls_token
    (total / len(resolutions)).backward()
    return head


# ---------------------------------------------------------------------------- sizes and gradients


@pytest.mark.parametrize(('arch', 'expected'), PARAMETER_COUNTS.items())
def test_parameter_count(arch: str, expected: int) -> None:
    with torch.device('meta'):
        model = ResFormer(arch)
        head = nn.Linear(model.embed_dims, 1000)
    assert sum(p.numel() for m in (model, head) for p in m.parameters()) == expected


def check_gradients(model: ResFormer) -> None:
    """Every parameter has a finite gradient, zero only where the parameter cannot matter."""
    idle = f'blocks.{model.num_layers - 1}.attn.local_position.'
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # The last LPE reaches the patch tokens only, and this loss the class token only.
        assert bool(parameter.grad.any()) is not name.startswith(idle), name


@pytest.mark.slow
@pytest.mark.parametrize('arch', PARAMETER_COUNTS)
def test_every_parameter_of_every_variant_gets_a_gradient(arch: str) -> None:
    model = build(arch=arch, patch_size=16, drop_path_rate=0.0).train()
    multi_resolution_step(model, (48, 32, 16))
    check_gradients(model)


@pytest.mark.parametrize('config', POSITIONS.values(), ids=POSITIONS)
def test_every_parameter_of_every_position_gets_a_gradient(config: dict) -> None:
    model = build(**config).train()
    multi_resolution_step(model, RESOLUTIONS)
    check_gradients(model)


@pytest.mark.parametrize('window_size', [2, 4])
def test_every_parameter_of_a_windowed_model_gets_a_gradient(window_size: int) -> None:
    model = build(
        with_cls_token=False,
        out_type='avg_featmap',
        window_size=window_size,
        window_block_indices=(0, 2),
    ).train()
    multi_resolution_step(model, RESOLUTIONS)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_initialisation() -> None:
    model = build(arch='tiny')
    linear = model.blocks[3].attn.qkv
    assert linear.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert not linear.bias.any()
    assert model.cls_token.std().item() == pytest.approx(0.02, rel=0.2)
    lpe, gpe = model.blocks[3].attn.local_position.conv, model.global_position.conv
    assert not lpe.weight.any() and not lpe.bias.any()
    bound = 1 / 3  # the default of a convolution with 9 inputs: uniform within 1 / sqrt(9)
    assert 0.9 * bound < gpe.weight.abs().max() <= bound
    assert {m.eps for m in model.modules() if isinstance(m, nn.LayerNorm)} == {1e-6}


# ------------------------------------------------------------------------------------- outputs


@pytest.mark.parametrize('with_cls_token', [True, False])
@pytest.mark.parametrize('size', [(24, 40), (37, 50), (8, 8)], ids=str)
def test_output_forms_agree(size: tuple[int, int], with_cls_token: bool) -> None:
    """All out types are views of the raw tokens, and their shapes follow from the grid."""
    forms = ['raw', 'featmap', 'avg_featmap'] + ['cls_token'] * with_cls_token
    outputs = {}
    for out_type in forms:
        model = build(out_type=out_type, out_indices=(0, -1), with_cls_token=with_cls_token).eval()
        with torch.no_grad():
            outputs[out_type] = model(draw(*size))
    height, width = (math.ceil(side / 8) for side in size)
    extra = int(with_cls_token)
    assert [len(value) for value in outputs.values()] == [2] * len(forms)
    for i, raw in enumerate(outputs['raw']):
        assert raw.shape == (2, extra + height * width, 32)
        patches = raw[:, extra:]
        as_map = patches.reshape(2, height, width, 32).permute(0, 3, 1, 2)
        torch.testing.assert_close(outputs['featmap'][i], as_map)
        torch.testing.assert_close(outputs['avg_featmap'][i], patches.mean(dim=1))
        if with_cls_token:
            torch.testing.assert_close(outputs['cls_token'][i], raw[:, 0])


def test_out_indices() -> None:
    """Earlier blocks do not depend on later ones, and the final norm is the last block's alone."""
    with torch.no_grad():
        every = build(out_indices=(0, 1, 2), out_type='raw').eval()(draw(32))
        for index in range(3):
            (alone,) = build(out_indices=index, out_type='raw').eval()(draw(32))
            torch.testing.assert_close(alone, every[index])
        unnormed = build(out_indices=(1, 2), out_type='raw', final_norm=False).eval()(draw(32))
    torch.testing.assert_close(unnormed[0], every[1])
    torch.testing.assert_close(F.layer_norm(unnormed[1], (32,), eps=1e-6), every[2])


def test_padding_equals_a_padded_image() -> None:
    model, image = build(out_type='raw').eval(), draw(37, 50)
    padded = F.pad(image, (0, 6, 0, 3))
    with torch.no_grad():
        torch.testing.assert_close(model(image)[0], model(padded)[0])


def test_in_channels() -> None:
    assert build(in_channels=5)(draw(16, channels=5))[0].shape == (2, 32)


def test_builds_from_the_registry_of_mmengine() -> None:
    from mmengine.registry import MODELS as ROOT

    config = dict(type='resformer_mm.ResFormer', arch='tiny')
    assert isinstance(ROOT.build(config), ResFormer)
    assert isinstance(MODELS.build(dict(config, type='ResFormer')), ResFormer)


# ---------------------------------------------------------------------------- training options


def frozen_names(model: ResFormer) -> set[str]:
    return {name for name, p in model.named_parameters() if not p.requires_grad}


@pytest.mark.parametrize('stages', [-1, 0, 1, 3])
def test_frozen_stages(stages: int) -> None:
    model = build(frozen_stages=stages, drop_rate=0.1, drop_path_rate=0.2)
    model.eval()
    model.train()
    first = ('cls_token', 'patch_embed.', 'global_position.')
    blocks = tuple(f'blocks.{i}.' for i in range(stages))
    norm = ('norm.',) if stages == 3 else ()
    expected = {n for n, _ in model.named_parameters() if n.startswith(first + blocks + norm)}
    assert frozen_names(model) == (expected if stages >= 0 else set())
    assert [block.training for block in model.blocks] == [i >= stages for i in range(3)]
    assert model.drop.training is (stages < 0) and model.patch_embed.training is (stages < 0)
    if stages < 3:
        model(draw(16))[0].sum().backward()
        assert {n for n, p in model.named_parameters() if p.grad is None} == frozen_names(model)


def test_activation_checkpointing_changes_nothing() -> None:
    results = []
    for with_cp in (False, True):
        model = randomise_positions(build(with_cp=with_cp, out_type='raw')).train()
        image = draw(24, 40).requires_grad_()
        (tokens,) = model(image)
        tokens.sin().sum().backward()
        gradients = [image.grad, *(p.grad for p in model.parameters())]
        results.append([tokens.detach(), *gradients])
    for plain, checkpointed in zip(*results, strict=True):
        torch.testing.assert_close(plain, checkpointed, rtol=0, atol=0)


def test_activation_checkpointing_repeats_the_draws_of_drop_path() -> None:
    results = []
    for with_cp in (False, True):
        model = build(with_cp=with_cp, drop_path_rate=0.5, drop_rate=0.2).train()
        torch.manual_seed(3)
        model(draw(24))[0].sin().sum().backward()
        results.append([p.grad for p in model.parameters()])
    for plain, checkpointed in zip(*results, strict=True):
        torch.testing.assert_close(plain, checkpointed, rtol=0, atol=0)


def test_checkpointing_keeps_no_activations_of_blocks() -> None:
    """Fewer bytes are saved for the backward pass."""
    saved = {}
    for with_cp in (False, True):
        total = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        model = build(with_cp=with_cp).train()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(draw(64))
        saved[with_cp] = total
    assert saved[True] < saved[False] / 2


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_layer_depth(prefix: str) -> None:
    model = build()
    names = [prefix + name for name, _ in model.named_parameters()]
    depths = [model.get_layer_depth(name, prefix) for name in names]
    assert {total for _, total in depths} == {5}  # before, three blocks, after
    assert {depth for depth, _ in depths} == set(range(5))
    for name, (depth, _) in zip(names, depths):
        part = name.removeprefix(prefix).split('.')
        expected = int(part[1]) + 1 if part[0] == 'blocks' else 4 if part[0] == 'norm' else 0
        assert depth == expected, name
    if prefix:
        assert model.get_layer_depth('head.fc.weight', prefix) == (4, 5)


def test_drop_path_rises_linearly() -> None:
    model = build(arch='tiny', drop_path_rate=0.22)
    rates = [block.drop_path.rate for block in model.blocks]
    assert rates == pytest.approx([0.02 * i for i in range(12)])


def test_drop_path_keeps_the_expectation_and_drops_whole_samples() -> None:
    torch.manual_seed(0)
    layer = DropPath(0.3).train()
    out = layer(torch.ones(20_000, 2, 3))
    per_sample = out.flatten(1)
    assert bool((per_sample == per_sample[:, :1]).all())
    assert per_sample[:, 0].unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert out.mean().item() == pytest.approx(1.0, abs=0.02)
    assert torch.equal(layer.eval()(out), out)


def test_dropout_is_applied_in_training_only() -> None:
    model = build(drop_rate=0.5)
    image = draw(16)
    assert not torch.equal(model.train()(image)[0], model(image)[0])
    assert torch.equal(model.eval()(image)[0], model(image)[0])


# -------------------------------------------------------------------------- numbers and compilers

float16 = pytest.param(
    torch.float16,
    marks=pytest.mark.skipif(torch.__version__ < '2.5', reason='earlier versions lack float16 on a CPU'),
)
windows = pytest.param(
    True,
    True,
    marks=pytest.mark.skipif(torch.__version__ < '2.5', reason='earlier versions cannot compile windows'),
)


@pytest.mark.parametrize('with_grad', [True, False])
@pytest.mark.parametrize('dtype', [torch.bfloat16, float16])
def test_autocast_is_close_to_float32(dtype: torch.dtype, with_grad: bool) -> None:
    model = randomise_positions(build(out_type='raw')).train(with_grad)
    image = draw(37, 50)
    with torch.set_grad_enabled(with_grad):
        (expected,) = model(image)
        with torch.autocast('cpu', dtype):
            (actual,) = model(image)
    assert F.cosine_similarity(actual.float(), expected, dim=-1).min() > 0.999
    if with_grad:
        actual.float().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize('dtype', [torch.bfloat16, float16])
@pytest.mark.parametrize('window_size', [0, 3])
def test_low_precision_weights_are_close_to_float32(dtype: torch.dtype, window_size: int) -> None:
    windows = dict(window_size=3, window_block_indices=(1,), with_cls_token=False)
    model = build(out_type='raw', **(windows if window_size else {})).eval()
    image = draw(37, 50)
    with torch.no_grad():
        (expected,) = randomise_positions(model)(image)
        (actual,) = model.to(dtype)(image.to(dtype))
    assert actual.dtype == dtype
    assert F.cosine_similarity(actual.float(), expected, dim=-1).min() > 0.995


@pytest.mark.slow
@pytest.mark.parametrize('dynamic', [False, True])
@pytest.mark.parametrize(('training', 'windows'), [(False, False), (True, False), windows])
def test_compiles_without_graph_breaks(dynamic: bool, training: bool, windows: bool) -> None:
    config = dict(out_type='raw', arch={**ARCH, 'num_layers': 1})
    if windows:
        config.update(with_cls_token=False, window_size=3, window_block_indices=(0,))
    model = randomise_positions(build(**config)).train(training)
    graphs = []

    def run_as_it_is(graph: torch.fx.GraphModule, inputs: list) -> object:
        graphs.append(graph)
        return graph

    def check(*sizes: tuple[int, int]) -> None:
        for size in sizes:
            (actual,), (expected,) = compiled(draw(*size)), model(draw(*size))
            torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)

    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=dynamic, backend=run_as_it_is)
    with torch.set_grad_enabled(training):
        check((48, 72), (37, 50))
        # One for whole patches, one that pads; a dynamic graph of PyTorch 2.5 does both.
        number = len(graphs)
        assert number == 2 or (dynamic and number == 1)
        if dynamic:
            check((72, 96), (53, 61))
            assert len(graphs) == number  # other sizes take the same


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__ < '2.5', reason='torch.compile of earlier versions cannot trace this')
def test_compiles_to_machine_code() -> None:
    """The default backend, forward and backward."""
    torch.compiler.reset()
    model = randomise_positions(build(arch={**ARCH, 'num_layers': 1}, out_type='raw')).train()
    gradients = []
    for run in (torch.compile(model, fullgraph=True, dynamic=True), model):
        model.zero_grad(set_to_none=True)
        run(draw(37, 50))[0].sin().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for actual, expected in zip(*gradients, strict=True):
        scale = expected.abs().max().item()
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * scale)


# -------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(arch='huge'), r"arch='huge' is unknown.*tiny.*small.*base"),
        (dict(arch=dict(embed_dims=8)), 'arch must have exactly the keys'),
        (dict(arch={**ARCH, 'num_heads': 5}), 'not a multiple of num_heads'),
        (dict(arch={**ARCH, 'embed_dims': 30, 'num_heads': 2}), 'multiple of 4'),
        (dict(out_indices=3), 'out_indices contains 3, but there are 3 blocks'),
        (dict(out_indices=(-4,)), 'out_indices contains -4'),
        (dict(out_indices=(2, 1)), 'out_indices must be increasing'),
        (dict(out_indices=(2, -1)), 'without repeats'),
        (dict(out_type='pooled'), "out_type='pooled' is unknown.*featmap"),
        (dict(with_cls_token=False), "out_type='cls_token' needs with_cls_token=True"),
        (dict(drop_path_rate=1.0), 'drop_path_rate must be at least 0 and less than 1, got 1.0'),
        (dict(drop_rate=-0.1), 'drop_rate must be at least 0'),
        (dict(frozen_stages=4), 'frozen_stages must be between -1 and 3'),
        (dict(frozen_stages=-2), 'frozen_stages must be between'),
        (dict(window_size=4), 'go together'),
        (dict(window_block_indices=(0,)), 'go together'),
        (dict(window_size=4, window_block_indices=(5,)), 'window_block_indices contains 5'),
        (
            dict(window_size=4, window_block_indices='0'),
            'window_block_indices must be integers',
        ),
        (
            dict(window_size=3.5, window_block_indices=(0,), with_cls_token=False, out_type='featmap'),
            'window_size must be a positive number of tokens, got 3.5',
        ),
        (
            dict(global_position=dict(type='LearnedPositionEmbedding', grid_size=0)),
            'grid_size must be at least 1',
        ),
    ],
    ids=str,
)
def test_bad_arguments(config: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**config)


@pytest.mark.parametrize('size', [(7, 32), (32, 7), (1, 1)], ids=str)
def test_image_smaller_than_a_patch(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f'{size[0]} x {size[1]} pixels is smaller than one patch'):
        build()(draw(*size))


@pytest.mark.parametrize(
    'other', [dict(arch={**ARCH, 'embed_dims': 64}), dict(patch_size=16), dict(in_channels=1)]
)
@pytest.mark.parametrize('strict', [True, False])
def test_checkpoint_of_another_width(other: dict, strict: bool) -> None:
    with pytest.raises(ValueError, match='does not fit this backbone.*patch_embed.proj.weight'):
        build().load_state_dict(build(**other).state_dict(), strict=strict)


@pytest.mark.parametrize('with_cp', [False, True])
@pytest.mark.parametrize('out_indices', [-1, (0, -1)])
def test_class_token_output_is_the_first_raw_token_with_the_same_gradients(with_cp, out_indices):
    arch = dict(embed_dims=24, num_layers=3, num_heads=2, feedforward_channels=48)
    models = {}
    for out_type in ('raw', 'cls_token'):
        torch.manual_seed(0)
        models[out_type] = ResFormer(
            arch=arch, patch_size=8, out_type=out_type, out_indices=out_indices, with_cp=with_cp
        )
        with torch.no_grad():
            for index, parameter in enumerate(models[out_type].parameters()):
                parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(index))
    image = torch.randn(2, 3, 40, 24)
    raw = [tokens[:, 0] for tokens in models['raw'](image)]
    short = models['cls_token'](image)
    sum(tokens.square().sum() for tokens in raw).backward()
    sum(tokens.square().sum() for tokens in short).backward()
    for expected, got in zip(raw, short, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    for (name, expected), got in zip(
        models['raw'].named_parameters(), models['cls_token'].parameters(), strict=True
    ):
        torch.testing.assert_close(got.grad, expected.grad, atol=1e-4, rtol=1e-4, msg=name)
