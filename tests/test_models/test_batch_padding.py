"""What an image gets in a padded batch is what it gets alone: backbone, pyramid, gradients."""

from __future__ import annotations

from collections.abc import Callable

import literal
import pytest
import torch
from torch import Tensor

from resformer_mm.models import ResFormer, SimpleFeaturePyramid
from resformer_mm.models.layers import BatchPadding, SubsetDropPath, token_grids

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=24)
PATCH = 8
EXTENT = (56, 72)  # 7 x 9 tokens, windows of 3 x 3
# Full width, full height, neither and odd, one token, as large as the batch: some windows are padding alone.
SIZES = [(21, 72), (56, 33), (37, 50), (8, 8), EXTENT]
MODELS_UNDER_TEST = {
    'class token': dict(out_type='raw'),
    'no class token': dict(out_type='featmap', with_cls_token=False),
    'windows': dict(
        out_type='featmap', with_cls_token=False, window_size=3, window_block_indices=(0, 2), final_norm=False
    ),
    'learned table': dict(
        out_type='featmap',
        with_cls_token=False,
        local_position=None,
        global_position=dict(type='LearnedPositionEmbedding', grid_size=4, with_cls_token=False),
    ),
    'no position': dict(out_type='raw', global_position=None, local_position=None),
    'class token alone': dict(out_type='cls_token'),
    'mean': dict(out_type='avg_featmap'),
}


def build(masked: bool = False, **kwargs) -> ResFormer:
    """A backbone with random numbers in every parameter, also those of LPE.

    With ``masked``, a hook watches a block, which therefore takes all images as one batch, with masks.
    """
    torch.manual_seed(0)
    model = ResFormer(ARCH, patch_size=PATCH, **{'out_indices': (0, 1, 2), **kwargs})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    if masked:
        model.blocks[0].register_forward_hook(lambda *_: None)
    assert model.packs_copies is not masked
    return model


def draw(dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], Tensor]:
    """Images of all sizes, and the batch of them; its padding holds what no model may read."""
    generator = torch.Generator().manual_seed(1)
    images = [torch.randn(1, 3, *size, generator=generator).to(dtype) for size in SIZES]
    batch = torch.full((len(SIZES), 3, *EXTENT), torch.nan, dtype=dtype)
    for place, image in zip(batch, images):
        place[:, : image.shape[2], : image.shape[3]] = image[0]
    return images, batch


def real_part(out: Tensor, index: int, grid: tuple[int, int], out_type: str) -> Tensor:
    """What of a batch's output belongs to one image, in the form that the image alone has."""
    one = out[index : index + 1]
    height, width = grid
    if out_type == 'featmap':
        return one[:, :, :height, :width]
    if out_type == 'raw':
        tokens = one[:, 1:].reshape(1, EXTENT[0] // PATCH, EXTENT[1] // PATCH, -1)[:, :height, :width]
        return torch.cat((one[:, :1], tokens.flatten(1, 2)), dim=1)
    return one


@pytest.mark.parametrize('config', MODELS_UNDER_TEST.values(), ids=MODELS_UNDER_TEST)
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('masked', [False, True])
def test_every_image_gets_what_it_gets_alone(config: dict, training: bool, masked: bool) -> None:
    model = build(masked, **config).train(training)
    images, batch = draw()
    with torch.set_grad_enabled(training):
        outputs = model(batch, sizes=SIZES)
        for index, (image, grid) in enumerate(zip(images, token_grids(SIZES, PATCH), strict=True)):
            for together, alone in zip(outputs, model(image), strict=True):
                actual = real_part(together, index, grid, config['out_type'])
                torch.testing.assert_close(actual, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('masked', [False, True])
def test_maps_are_zero_in_the_padding(masked: bool) -> None:
    images, batch = draw()
    (featmap,) = build(masked, **MODELS_UNDER_TEST['windows'], out_indices=-1)(batch, sizes=SIZES)
    for one, (height, width) in zip(featmap, token_grids(SIZES, PATCH), strict=True):
        assert one[:, :height, :width].all()
        assert not one[:, height:].any() and not one[:, :, width:].any()


@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('name', ['class token', 'windows', 'learned table'])
def test_gradients_are_the_sums_of_those_alone(name: str, masked: bool) -> None:
    """Of all parameters and of the pixels; the padding gets none, and no NaN comes back from it."""
    model = build(masked, **MODELS_UNDER_TEST[name], out_indices=(1, 2)).double().train()
    images, batch = draw(torch.float64)
    alone = [image.requires_grad_() for image in images]
    for image in alone:
        sum(out.sin().sum() for out in model(image)).backward()
    expected = [parameter.grad for parameter in model.parameters()]
    model.zero_grad(set_to_none=True)
    batch.requires_grad_()
    sum(out.sin().sum() for out in model(batch, sizes=SIZES)).backward()  # sin(0) = 0 in the padding
    for (key, parameter), gradient in zip(model.named_parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-6, atol=1e-6, msg=key)
    for place, image in zip(batch.grad, alone):
        height, width = image.shape[2:]
        torch.testing.assert_close(place[:, :height, :width], image.grad[0])
        assert not place[:, height:].any() and not place[:, :, width:].any()


def test_every_window_has_something_to_see(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of padding alone too: with nothing to see, some kernels of PyTorch give NaN."""
    attend, masks = torch.nn.functional.scaled_dot_product_attention, []

    def watched(*args, attn_mask: Tensor, **kwargs) -> Tensor:
        masks.append(attn_mask)
        return attend(*args, attn_mask=attn_mask, **kwargs)

    monkeypatch.setattr(torch.nn.functional, 'scaled_dot_product_attention', watched)
    build(masked=True, **MODELS_UNDER_TEST['windows'])(draw()[1], sizes=SIZES)
    assert len(masks) == 3 and all(mask.any(dim=-1).all() for mask in masks)


@pytest.mark.parametrize('name', ['class token', 'windows', 'learned table'])
def test_no_token_of_the_padding_is_computed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No mask is made, and the MLP sees as many tokens as the images have, also if two have one grid."""
    attend = torch.nn.functional.scaled_dot_product_attention

    def watched(*args, attn_mask: Tensor | None = None, scale: float | None = None) -> Tensor:
        assert attn_mask is None and scale is None
        return attend(*args)

    model = build(**MODELS_UNDER_TEST[name], out_indices=-1)
    gelu, lengths = torch.nn.functional.gelu, []
    monkeypatch.setattr(torch.nn.functional, 'scaled_dot_product_attention', watched)
    monkeypatch.setattr(torch.nn.functional, 'gelu', lambda x: lengths.append(len(x)) or gelu(x))
    sizes = [(21, 72), (56, 33), (56, 33), (8, 8), EXTENT]
    model(draw()[1].nan_to_num(0), sizes=sizes)
    tokens = sum(height * width + model.with_cls_token for height, width in token_grids(sizes, PATCH))
    assert lengths == [tokens] * len(model.blocks)


def test_subsets_of_stochastic_depth_are_drawn_from_the_whole_batch() -> None:
    """A batch of one image would keep every branch."""
    options = dict(MODELS_UNDER_TEST['windows'], drop_path_rate=0.5, drop_path=dict(type='SubsetDropPath'))
    model = build(**options, out_indices=-1).train()
    outputs = [model(draw()[1], sizes=SIZES)[0] for _ in range(2)]
    assert not torch.equal(*outputs)
    assert model.eval()(draw()[1], sizes=SIZES)[0].isfinite().all()


@pytest.mark.parametrize('name', ['class token', 'windows', 'mean'])
def test_subsets_keep_or_drop_a_branch_of_each_image(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image gets what it gets alone, with the branches that the draws of the batch left it, scaled."""
    options = dict(MODELS_UNDER_TEST[name], drop_path_rate=0.6, drop_path=dict(type='SubsetDropPath'))
    model = build(**options, out_indices=-1).train()
    draw_one, draws = SubsetDropPath.draw, []

    def record(self: SubsetDropPath, like: Tensor, number: int) -> Tensor | None:
        draws.append(draw_one(self, like, number))
        return draws[-1]

    monkeypatch.setattr(SubsetDropPath, 'draw', record)
    images, batch = draw()
    (together,) = model(batch, sizes=SIZES)
    assert [None if kept is None else len(kept) for kept in draws] == [None, None, 4, 4, 2, 2]
    for index, image in enumerate(images):
        monkeypatch.setattr(SubsetDropPath, 'add', adds(index, draws))
        (alone,) = model(image)
        found = real_part(together, index, token_grids([SIZES[index]], PATCH)[0], model.out_type)
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-4)


def adds(index: int, draws: list[Tensor | None]) -> Callable:
    """How a branch is added to one image alone, when a batch kept those of the draws."""
    of_branches = iter(draws)

    def add(self: SubsetDropPath, base: Tensor, tokens: Tensor, branch: Callable) -> Tensor:
        kept = next(of_branches)
        if kept is None:
            return base + branch(tokens, None)
        factor = len(SIZES) / len(kept) if index in kept else 0
        return base + factor * branch(tokens, None)

    return add


def test_images_of_one_size_that_are_apart_in_a_batch() -> None:
    model = build(**MODELS_UNDER_TEST['windows'], out_indices=-1)
    sizes, batch = [(21, 72), EXTENT, (20, 70), (8, 8), (24, 72)], torch.randn(5, 3, *EXTENT)
    (together,) = model(batch, sizes=sizes)
    for index, (height, width) in enumerate(sizes):
        (alone,) = model(batch[index : index + 1, :, :height, :width])
        rows, columns = alone.shape[2:]
        torch.testing.assert_close(together[index, :, :rows, :columns], alone[0], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_windows_of_a_padded_batch_equal_the_literal_reference() -> None:
    model = build(**MODELS_UNDER_TEST['windows']).double()
    params = {key: value.detach().clone().requires_grad_() for key, value in model.named_parameters()}
    sizes = [(21, 40), (40, 33)]
    batch = torch.zeros(2, 3, 40, 40, dtype=torch.float64)
    expected = torch.zeros((), dtype=torch.float64)
    maps = []
    for place, (height, width) in zip(batch, sizes):
        place[:, :height, :width] = torch.randn(3, height, width, dtype=torch.float64)
        image = place[None, :, :height, :width]
        (tokens,) = literal.forward(params, image, num_heads=2, window=3, windowed=(0, 2))[-1:]
        maps.append(tokens[0].T)
        expected = expected + tokens.sin().sum()
    out = model(batch, sizes=sizes)[-1]
    for one, tokens, (height, width) in zip(out, maps, token_grids(sizes, PATCH), strict=True):
        torch.testing.assert_close(one[:, :height, :width].flatten(1), tokens, rtol=1e-5, atol=1e-5)
    out.sin().sum().backward()
    expected.backward()
    for key, parameter in model.named_parameters():
        scale = params[key].grad.abs().max().item()
        torch.testing.assert_close(parameter.grad, params[key].grad, rtol=0, atol=1e-5 * scale, msg=key)


def test_sizes_that_fill_the_grid_change_no_bit() -> None:
    """Also where images end inside the last patch: zeros stand there with and without sizes."""
    model, image = build(out_type='raw'), torch.randn(2, 3, 37, 50)
    padded = torch.zeros(2, 3, 40, 56)
    padded[:, :, :37, :50] = image
    for sizes in ([(37, 50)] * 2, [(40, 56), (37, 50)]):
        for expected, actual in zip(model(padded), model(padded, sizes=sizes), strict=True):
            assert torch.equal(expected, actual)


@pytest.mark.parametrize('name', ['class token', 'windows'])
def test_bfloat16_is_close(name: str) -> None:
    model = build(**MODELS_UNDER_TEST[name], out_indices=-1).train()
    _, batch = draw()
    (expected,) = model(batch, sizes=SIZES)
    with torch.autocast('cpu', torch.bfloat16):
        (actual,) = model(batch, sizes=SIZES)
    actual.float().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    similarity = torch.nn.functional.cosine_similarity(actual.float().flatten(1), expected.flatten(1))
    assert similarity.min() > 0.99


def test_checkpointing_gives_the_same_gradients() -> None:
    gradients = []
    for with_cp in (False, True):
        model = build(**MODELS_UNDER_TEST['windows'], with_cp=with_cp).train()
        sum(out.sin().sum() for out in model(draw()[1], sizes=SIZES)).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed, rtol=0, atol=0)


def test_grids_of_evaluation_are_kept() -> None:
    model = build(out_type='featmap').eval()
    with torch.no_grad():
        model(draw()[1], sizes=SIZES)
    assert {grid for grid, *_ in model.global_position._maps} == set(token_grids(SIZES, PATCH))


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__ < '2.5', reason='torch.compile of earlier versions cannot trace this')
def test_compiles_without_graph_breaks() -> None:
    model = build(**MODELS_UNDER_TEST['windows'], out_indices=0).train()
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend='eager')
    _, batch = draw()
    torch.testing.assert_close(compiled(batch, sizes=SIZES), model(batch, sizes=SIZES))


@pytest.mark.parametrize('sizes', [[EXTENT], [(57, 72)] + [EXTENT] * 4, [(0, 72)] + [EXTENT] * 4])
def test_sizes_that_do_not_fit_the_batch(sizes: list) -> None:
    with pytest.raises(ValueError, match=r'height and a width for each of the 5 images.*56 x 72.*img_shape'):
        build(out_type='raw')(draw()[1], sizes=sizes)


# ------------------------------------------------------------------------------------- the pyramid


def pyramid(**kwargs) -> SimpleFeaturePyramid:
    torch.manual_seed(0)
    neck = SimpleFeaturePyramid(16, 8, **kwargs)
    with torch.no_grad():
        for parameter in neck.parameters():
            parameter.normal_(std=0.5)
    return neck


def test_the_pyramid_of_every_image_is_what_it_is_alone() -> None:
    neck = pyramid().double()
    grids, extent = [(3, 9), (7, 5), (4, 4), (1, 1), (7, 9)], (7, 9)
    images = [torch.randn(1, 16, *grid, dtype=torch.float64).requires_grad_() for grid in grids]
    batch = torch.zeros(5, 16, *extent, dtype=torch.float64)
    for place, image in zip(batch, images):
        place[:, : image.shape[2], : image.shape[3]] = image[0].detach()
    batch.requires_grad_()
    levels = neck((batch,), grids=grids)
    for index, image in enumerate(images):
        for together, alone in zip(levels, neck((image,)), strict=True):
            height, width = alone.shape[2:]
            torch.testing.assert_close(together[index, :, :height, :width], alone[0])
            assert not together[index, :, height:].any() and not together[index, :, :, width:].any()
            alone.sin().sum().backward(retain_graph=True)
    sum(level.sin().sum() for level in levels).backward()
    for place, image in zip(batch.grad, images):
        torch.testing.assert_close(place[:, : image.shape[2], : image.shape[3]], image.grad[0])


def test_levels_of_a_single_position_are_contiguous() -> None:
    """RoIAlign of mmcv reads channels-last maps as if they were contiguous."""
    for level in pyramid()((torch.randn(1, 16, 2, 2),), grids=[(1, 1)]):
        assert level.is_contiguous()


def test_grids_that_fill_the_map_change_no_bit() -> None:
    neck, x = pyramid(), torch.randn(2, 16, 5, 4)
    for plain, told in zip(neck((x,)), neck((x,), grids=[(5, 4)] * 2), strict=True):
        assert torch.equal(plain, told)


def test_batch_padding_is_what_the_backbone_takes() -> None:
    """A caller of ``forward_tokens`` may build it; the class token is never padding."""
    model = build(out_type='raw', out_indices=-1)
    images, batch = draw()
    valid = torch.zeros(5, 7, 9, dtype=torch.bool)
    grids = token_grids(SIZES, PATCH)
    for place, (height, width) in zip(valid, grids, strict=True):
        place[:height, :width] = True
    (tokens,), _ = model.forward_tokens(batch.nan_to_num(0), padding=BatchPadding(grids, valid.flatten(1)))
    torch.testing.assert_close(tokens, model(batch, sizes=SIZES)[0])
    torch.testing.assert_close(tokens[3, :2], model(images[3])[0][0], rtol=1e-5, atol=1e-5)
