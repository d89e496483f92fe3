"""Patches of any size: resized kernels, drawn sizes, budgets of tokens."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resformer_mm.models import FlexiblePatchEmbed, MultiKernelPatchEmbed, ResFormer, VideoResFormer
from resformer_mm.models.layers import PatchEmbed, kernel_resizing, resize_kernel

ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
PAIRS = [(8, 4), (8, 12), (16, 5), (4, 16), (7, 3), (5, 7), (6, 1)]


def backbone(patch_embed: dict | None, kind: type[ResFormer] = ResFormer, **kwargs) -> ResFormer:
    torch.manual_seed(0)
    model = kind(ARCH, patch_size=8, patch_embed=patch_embed, **kwargs)
    for name, parameter in model.named_parameters():
        if 'local_position' in name:  # zero at the start, which would hide mistakes
            nn.init.normal_(parameter, std=0.2)
    return model.eval()


def flexible(**kwargs) -> dict:
    return dict(type='FlexiblePatchEmbed', **kwargs)


def several(**kwargs) -> dict:
    return dict(type='MultiKernelPatchEmbed', kernel_sizes=[4, 6], **kwargs)


def image(height: int, width: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(height + width))


# The kernels


def literal_matrix(old: int, new: int) -> np.ndarray:
    """The matrix B that resizes old x old pixels, made from PyTorch's resize of every single pixel."""
    pixels = torch.eye(old * old, dtype=torch.float64).view(old * old, 1, old, old)
    resized = F.interpolate(pixels, (new, new), mode='bilinear', antialias=True)
    return resized.view(old * old, new * new).T.numpy()


def tensor(old: int, new: int) -> torch.Tensor:
    return torch.tensor(kernel_resizing(old, new))


@pytest.mark.parametrize(('old', 'new'), PAIRS)
def test_kernels_are_the_least_squares_of_the_paper(old: int, new: int) -> None:
    weight = torch.randn(5, 3, old, old)
    resized = resize_kernel(weight, tensor(old, new))
    rows = weight.double().flatten(2).flatten(0, 1).numpy()
    expected, *_ = np.linalg.lstsq(literal_matrix(old, new).T, rows.T, rcond=None)
    np.testing.assert_allclose(resized.flatten(2).flatten(0, 1).numpy(), expected.T, atol=2e-5)


@pytest.mark.parametrize(('old', 'new'), PAIRS)
def test_enlarged_patches_have_the_same_tokens(old: int, new: int) -> None:
    pixels, weight = torch.randn(20, 3, old, old), torch.randn(5, 3, old, old)
    resized = F.interpolate(pixels, (new, new), mode='bilinear', antialias=True)
    before = F.conv2d(pixels, weight).flatten()
    after = F.conv2d(resized, resize_kernel(weight, tensor(old, new))).flatten()
    if new >= old:
        torch.testing.assert_close(before, after, atol=1e-4, rtol=1e-4)
        return
    # Of all kernels for shrunk patches, none comes nearer: the error is orthogonal to every shrunk pixel,
    # averaged over independent pixels.
    matrix = literal_matrix(old, new)
    shrunk = resize_kernel(weight, tensor(old, new)).flatten(2).double().numpy()
    error = weight.flatten(2).double().numpy() - shrunk @ matrix
    np.testing.assert_allclose(error @ matrix.T, 0, atol=1e-4)
    assert (before - after).abs().mean() > 0.01


def test_kernels_of_the_same_size_are_the_same() -> None:
    embedding = FlexiblePatchEmbed(3, 16, 8)
    weight, bias = embedding.kernel(8)
    assert weight is embedding.proj.weight and bias is embedding.proj.bias


def test_kernels_of_timm() -> None:
    layers = pytest.importorskip('timm.layers')
    weight = torch.randn(5, 3, 8, 8)
    for new in (4, 6, 12, 16):
        expected = layers.resample_patch_embed(weight, [new, new], interpolation='bilinear', antialias=True)
        torch.testing.assert_close(resize_kernel(weight, tensor(8, new)), expected, atol=1e-4, rtol=1e-4)


def test_kernels_are_differentiable_and_in_float32_under_autocast() -> None:
    weight = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    matrix = tensor(4, 6)
    assert torch.autograd.gradcheck(
        lambda kernel: matrix @ kernel @ matrix.t(), (weight,)
    )  # what the next line computes
    with torch.autocast('cpu', dtype=torch.bfloat16):
        resized = resize_kernel(weight.float(), matrix)
    assert resized.dtype == torch.float32
    torch.testing.assert_close(resized, (matrix @ weight @ matrix.t()).float())


# The size of the patches


@pytest.mark.parametrize('size', [2, 4, 6, 8, 11, 16, 32])
@pytest.mark.parametrize(('height', 'width'), [(32, 32), (33, 47), (64, 32)])
def test_tokens_are_those_of_a_plain_backbone_with_the_resized_kernel(size, height, width) -> None:
    model = backbone(flexible(patch_size=size), out_type='featmap')
    plain = ResFormer(ARCH, patch_size=size, out_type='featmap').eval()
    state = dict(model.state_dict())
    assert set(state) == set(plain.state_dict())
    matrix = literal_matrix(8, size).T
    kernel = (
        np.linalg.pinv(matrix) @ state['patch_embed.proj.weight'].flatten(2).flatten(0, 1).double().numpy().T
    )
    state['patch_embed.proj.weight'] = torch.tensor(kernel.T, dtype=torch.float32).view(32, 3, size, size)
    plain.load_state_dict(state)
    (expected,), (found,) = plain(image(height, width)), model(image(height, width))
    assert found.shape[2:] == (-(-height // size), -(-width // size))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('patch_embed', [flexible(), several()])
def test_without_settings_it_is_the_plain_backbone(patch_embed: dict) -> None:
    plain, model = backbone(None), backbone(patch_embed)
    state = {**model.state_dict(), **plain.state_dict()}
    model.load_state_dict(state)
    torch.testing.assert_close(model(image(48, 40)), plain(image(48, 40)), rtol=0, atol=0)


def test_an_image_smaller_than_a_patch() -> None:
    model = backbone(flexible(patch_size=16))
    with pytest.raises(ValueError, match='smaller than one patch of 16 x 16'):
        model(image(12, 32))
    assert model.patch_size == model.patch_embed.smallest_size == 16


@pytest.mark.parametrize('tokens', [1, 10, 16, 64, 200])
@pytest.mark.parametrize('patch_sizes', [None, [4, 8, 12, 16]])
def test_budgets_of_tokens(tokens: int, patch_sizes: list[int] | None) -> None:
    embedding = FlexiblePatchEmbed(3, 16, 8, patch_sizes=patch_sizes, tokens=tokens).eval()
    for height, width in itertools.product((4, 16, 32, 51, 64, 128), repeat=2):
        numbers = {
            size: int(np.ceil(height / size) * np.ceil(width / size))
            for size in patch_sizes or range(1, 33)
            if size <= min(height, width)
        }
        ratios = {size: abs(np.log(number / tokens)) for size, number in numbers.items()}
        nearest = {
            size: number for size, number in numbers.items() if ratios[size] < min(ratios.values()) + 1e-9
        }
        size = embedding.size_for(height, width)
        assert numbers[size] == min(nearest.values())
        assert size == min(one for one, number in nearest.items() if number == numbers[size])
    assert embedding.smallest_size == (1 if patch_sizes is None else 4)


def test_a_budget_of_the_trained_grid() -> None:
    model = backbone(flexible(tokens=64), out_type='featmap')
    sizes = [model.patch_embed.size_for(side, side) for side in (16, 24, 32, 48, 64, 128, 256)]
    assert sizes == [2, 3, 4, 6, 8, 16, 32]
    grids = {side: tuple(model(image(side, side))[0].shape[2:]) for side in (16, 24, 32, 48, 64, 128, 256)}
    assert grids == dict.fromkeys(grids, (8, 8))
    assert model(image(32, 128))[0].shape[2:] == (4, 16)


# Drawn sizes


def shapes_of(model: ResFormer, number: int) -> list[int]:
    grids = [model(image(48, 48))[0].shape[2] for _ in range(number)]
    return [48 // side for side in grids]


def test_training_draws_each_size_and_evaluation_does_not() -> None:
    model = backbone(flexible(patch_sizes=[4, 6, 8, 12], patch_size=6), out_type='featmap')
    assert set(shapes_of(model, 5)) == {6}
    model.train()
    torch.manual_seed(1)
    drawn = shapes_of(model, 60)
    assert set(drawn) == {4, 6, 8, 12} and min(map(drawn.count, set(drawn))) > 5
    torch.manual_seed(1)
    assert shapes_of(model, 60) == drawn
    model.patch_embed.set_step([12, 4])
    assert shapes_of(model, 5) == [12, 4, 12, 4, 12]
    model.patch_embed.set_step([8])
    assert shapes_of(model, 2) == [8, 8]
    model.eval()
    assert shapes_of(model, 2) == [6, 6]


def test_a_drawn_size_fits_into_the_image() -> None:
    model = backbone(flexible(patch_sizes=[4, 8, 16]), out_type='featmap').train()
    model.patch_embed.set_step([16])
    assert model(image(64, 12))[0].shape[2:] == (8, 2)
    with pytest.raises(ValueError, match='smaller than one patch of 4 x 4'):
        model(image(64, 3))


def test_training_without_draws_follows_the_budget() -> None:
    model = backbone(several(tokens=16), out_type='featmap').train()
    assert [model(image(side, side))[0].shape[2] for side in (16, 32, 48)] == [4, 4, 4]


@pytest.mark.parametrize('patch_embed', [flexible(patch_sizes=[4, 6, 8]), several(patch_sizes=[3, 4, 6, 8])])
@pytest.mark.parametrize('with_cp', [False, True])
def test_copies_together_are_copies_one_by_one(patch_embed: dict, with_cp: bool) -> None:
    model = backbone(patch_embed, with_cp=with_cp).train()
    copies = [image(64, 64), image(48, 40), image(32, 32)]
    gradients, outputs = [], []
    for together in (True, False):
        model.zero_grad()
        model.patch_embed.set_step([4, 8, 6])
        found = (
            model.forward_copies(copies, 'cls')
            if together
            else [model.forward_pooled(x, 'cls') for x in copies]
        )
        tokens = [token for _, token in found]
        sum(token.square().sum() for token in tokens).backward()
        outputs.append(tokens)
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert model.packs_copies
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=1e-5)
    for name, gradient in gradients[0].items():
        assert gradient is not None, name
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-4, rtol=1e-4, msg=name)


def test_copies_draw_in_their_order() -> None:
    model = backbone(flexible(patch_sizes=[4, 6, 8]), out_type='featmap').train()
    copies = [image(48, 48), image(48, 48), image(48, 48)]
    torch.manual_seed(3)
    together = [maps.shape for (maps,) in model.forward_copies(copies)]
    torch.manual_seed(3)
    assert [model(one)[0].shape for one in copies] == together


# Padded batches, video, low precision, compilation


@pytest.mark.parametrize('patch_size', [4, 6, 16])
def test_padded_batches(patch_size: int) -> None:
    model = backbone(flexible(patch_size=patch_size), out_type='featmap')
    sizes = [(48, 33), (30, 64), (48, 64)]
    batch = torch.randn(3, 3, 48, 64)
    (maps,) = model(batch, sizes=sizes)
    for own, picture, (height, width) in zip(maps, batch, sizes):
        (alone,) = model(picture[None, :, :height, :width])
        rows, columns = alone.shape[2:]
        torch.testing.assert_close(own[:, :rows, :columns], alone[0], atol=1e-5, rtol=1e-5)
        assert not own[:, rows:].any() and not own[:, :, columns:].any()


@pytest.mark.parametrize(
    ('settings', 'is_training', 'words'),
    [(dict(tokens=16), False, 'tokens=16'), (dict(patch_sizes=[4, 8]), True, 'draws')],
)
def test_padded_batches_need_one_size(settings: dict, is_training: bool, words: str) -> None:
    model = backbone(flexible(**settings)).train(is_training)
    with pytest.raises(ValueError, match=words):
        model(torch.randn(2, 3, 48, 64), sizes=[(48, 33), (30, 64)])


@pytest.mark.parametrize('attention_type', ['divided_space_time', 'joint_space_time', 'space_only'])
def test_clips(attention_type: str) -> None:
    settings = dict(kind=VideoResFormer, attention_type=attention_type, num_frames=2)
    model = backbone(flexible(patch_size=4), **settings)
    plain = VideoResFormer(ARCH, patch_size=4, attention_type=attention_type, num_frames=2).eval()
    state = {**model.state_dict(), 'patch_embed.proj.weight': model.patch_embed.kernel(4)[0]}
    plain.load_state_dict(state)
    clip = torch.randn(2, 3, 2, 24, 16)
    torch.testing.assert_close(model(clip), plain(clip))


def test_bfloat16() -> None:
    model = backbone(flexible(patch_size=6), out_type='featmap').train()
    (exact,) = model(image(48, 48))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        (found,) = model(image(48, 48))
    found.float().square().sum().backward()
    assert model.patch_embed.proj.weight.grad.isfinite().all()
    torch.testing.assert_close(found.float(), exact, atol=0.1, rtol=0.1)
    half = copy.deepcopy(model).eval().bfloat16()
    (found,) = half(image(48, 48).bfloat16())
    torch.testing.assert_close(found.float(), exact, atol=0.15, rtol=0.1)


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__ < '2.5', reason='torch.compile of earlier versions cannot trace this')
@pytest.mark.parametrize('patch_embed', [flexible(patch_size=6), several(patch_size=5), flexible(tokens=30)])
def test_compiled(patch_embed: dict) -> None:
    torch.compiler.reset()
    model = backbone(patch_embed)
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
    for height, width in ((48, 48), (36, 60), (41, 30)):
        torch.testing.assert_close(
            compiled(image(height, width)), model(image(height, width)), atol=1e-5, rtol=1e-5
        )


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__ < '2.5', reason='torch.compile of earlier versions cannot trace this')
def test_one_program_for_each_combination_of_drawn_sizes() -> None:
    torch.compiler.reset()
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list) -> object:
        graphs.append(graph)
        return graph

    model = backbone(several(patch_sizes=[4, 8])).train()
    compiled = torch.compile(model, fullgraph=True, backend=backend, dynamic=False)
    copies = [image(48, 48), image(32, 32)]
    for sizes in itertools.product([4, 8], repeat=3):
        model.patch_embed.set_step(sizes)
        expected = model(copies)
        model.patch_embed.set_step(sizes)
        torch.testing.assert_close(compiled(copies), expected, atol=1e-5, rtol=1e-5)
    assert len(graphs) == 4  # the third size is not used


def test_exported_program() -> None:
    model = backbone(flexible(patch_size=4))
    size = torch.export.Dim('height', min=8, max=512), torch.export.Dim('width', min=8, max=512)
    program = torch.export.export(
        model, (image(40, 48),), dynamic_shapes=({2: size[0], 3: size[1]},)
    ).module()
    for height, width in ((40, 48), (64, 33)):
        torch.testing.assert_close(
            program(image(height, width)), model(image(height, width)), atol=1e-5, rtol=1e-5
        )


# Several kernels


def test_the_nearest_kernel_is_resized() -> None:
    embedding = MultiKernelPatchEmbed(3, 16, 8, kernel_sizes=[4, 6, 16])
    for parameter in embedding.parameters():
        nn.init.normal_(parameter)
    kernels = {8: embedding.proj, **{int(side): kernel for side, kernel in embedding.kernels.items()}}
    for size, nearest in {1: 4, 4: 4, 5: 6, 6: 6, 7: 8, 8: 8, 11: 8, 12: 16, 16: 16, 32: 16}.items():
        weight, bias = embedding.kernel(size)
        expected = resize_kernel(kernels[nearest].weight, tensor(nearest, size))
        torch.testing.assert_close(weight, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(bias, kernels[nearest].bias)


def test_further_kernels_start_as_the_resized_first_one() -> None:
    embedding = MultiKernelPatchEmbed(3, 16, 8, kernel_sizes=[4, 6]).eval()
    flexible = FlexiblePatchEmbed(3, 16, 8).eval()
    flexible.load_state_dict(
        {name: value for name, value in embedding.state_dict().items() if 'kernels' not in name}
    )
    for size in (4, 6, 8):
        torch.testing.assert_close(embedding.kernel(size), flexible.kernel(size))


def test_every_kernel_has_a_gradient_in_every_step() -> None:
    model = backbone(several(patch_size=6)).train()
    model(image(48, 48))[0].sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.patch_embed.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    assert {name for name, gradient in gradients.items() if gradient.any()} == {
        'kernels.6.weight',
        'kernels.6.bias',
    }


@pytest.mark.parametrize('patch_embed', [flexible(patch_size=6), several(patch_size=5)])
def test_a_fixed_size(patch_embed: dict) -> None:
    model = backbone(patch_embed)
    (expected,) = model(image(48, 48))
    model.patch_embed = model.patch_embed.fixed()
    assert type(model.patch_embed) is PatchEmbed and model.patch_size == patch_embed['patch_size']
    torch.testing.assert_close(model(image(48, 48))[0], expected)


# Settings and checkpoints


@pytest.mark.parametrize(
    ('config', 'words'),
    [
        (flexible(patch_size=0), 'from 1 to 32'),
        (flexible(patch_size=33), 'from 1 to 32'),
        (flexible(patch_sizes=[4, 40]), 'got 40'),
        (flexible(patch_sizes=[]), 'is empty'),
        (flexible(patch_size=4, tokens=16), 'give one of them'),
        (flexible(tokens=0), 'tokens must be'),
        (flexible(kernel_size=4), 'kernel_size follows'),
        (dict(patch_size=4), "give dict\\(type='FlexiblePatchEmbed'"),
        (dict(type='DropPath', rate=0.5), 'not a patch embedding'),
        (dict(type='MultiKernelPatchEmbed', kernel_sizes=[]), 'at least one'),
        (dict(type='MultiKernelPatchEmbed', kernel_sizes=[4, 8]), 'differ from each other'),
        (dict(type='MultiKernelPatchEmbed', kernel_sizes=[4, 4]), 'differ from each other'),
        (dict(type='MultiKernelPatchEmbed', kernel_sizes=[0]), 'got 0'),
    ],
)
def test_bad_settings(config: dict, words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        ResFormer(ARCH, patch_size=8, patch_embed=config)


def test_checkpoints_of_other_kernels_are_refused() -> None:
    model = ResFormer(ARCH, patch_size=16, patch_embed=flexible())
    with pytest.raises(ValueError, match='FlexiblePatchEmbed'):
        model.load_state_dict(backbone(None).state_dict(), strict=False)
    with pytest.raises(ValueError, match=r'no kernels of the sizes 4, 6.*add_patch_kernels.py'):
        backbone(several()).load_state_dict(backbone(None).state_dict(), strict=False)


@pytest.mark.parametrize('patch_embed', [flexible(patch_size=6), several(tokens=20)])
def test_saved_models(patch_embed: dict, tmp_path) -> None:
    model = backbone(patch_embed)
    model.save_pretrained(tmp_path)
    again = ResFormer.from_pretrained(tmp_path)
    torch.testing.assert_close(again(image(40, 40)), model(image(40, 40)), rtol=0, atol=0)


def test_kernels_follow_from_the_names_in_a_file(tmp_path) -> None:
    model = backbone(several())
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'model.pth')
    again = ResFormer.from_pretrained(tmp_path / 'model.pth')
    assert again.patch_embed.kernel_sizes == (8, 4, 6)
    torch.testing.assert_close(again(image(40, 40)), model(image(40, 40)), rtol=0, atol=0)
