"""Draws of patch sizes, and training of a part of a model."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from resformer_mm.engine import DrawPatchSizesHook
from resformer_mm.engine.freezing import freeze_others
from resformer_mm.models import ResFormer

ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)


def model(**kwargs) -> nn.Module:
    return nn.ModuleDict({'backbone': ResFormer(ARCH, patch_size=8, **kwargs), 'head': nn.Linear(32, 5)})


def draws(hook: DrawPatchSizesHook, number: int, seed: int = 0) -> list[list[int]]:
    """Return the sizes that three passes of every iteration take."""
    built = model(patch_embed=dict(type='FlexiblePatchEmbed', patch_sizes=[4, 6, 8])).train()
    runner = SimpleNamespace(model=built, seed=seed, iter=0)
    hook.before_train(runner)
    found = []
    for runner.iter in range(number):
        hook.before_train_iter(runner, 0)
        found.append([built['backbone'].patch_embed.next_size(48, 48) for _ in range(3)])
    hook.after_train(runner)
    assert built['backbone'].patch_embed._num_set == 0
    return found


def test_draws_depend_on_the_seed_and_the_iteration_alone() -> None:
    found = draws(DrawPatchSizesHook(), 50)
    torch.manual_seed(123)
    assert draws(DrawPatchSizesHook(), 50) == found != draws(DrawPatchSizesHook(), 50, seed=1)
    assert draws(DrawPatchSizesHook(seed=0), 50, seed=7) == found
    flat = sum(found, [])
    assert set(flat) == {4, 6, 8} and min(map(flat.count, (4, 6, 8))) > 30
    assert any(len(set(sizes)) == 3 for sizes in found)


def test_all_copies_of_an_iteration_may_have_one_size() -> None:
    found = draws(DrawPatchSizesHook(per_copy=False), 30)
    assert all(len(set(sizes)) == 1 for sizes in found) and len({sizes[0] for sizes in found}) == 3


@pytest.mark.parametrize('patch_embed', [None, dict(type='FlexiblePatchEmbed', patch_size=4)])
def test_there_must_be_something_to_draw(patch_embed: dict | None) -> None:
    with pytest.raises(ValueError, match='nothing to draw'):
        DrawPatchSizesHook().before_train(SimpleNamespace(model=model(patch_embed=patch_embed), seed=0))


def test_a_part_is_trained() -> None:
    built = model(patch_embed=dict(type='MultiKernelPatchEmbed', kernel_sizes=[4]))
    freeze_others(built, ['backbone.patch_embed.kernels', 'head.bias'], 'model.trained')
    trained = {name for name, parameter in built.named_parameters() if parameter.requires_grad}
    kernels = {f'backbone.patch_embed.kernels.4.{part}' for part in ('weight', 'bias')}
    assert trained == {*kernels, 'head.bias'}


@pytest.mark.parametrize(
    ('trained', 'words'),
    [
        (['backbone.patch'], "names 'backbone.patch', but no parameter"),
        (['backbone'], 'frozen by another setting'),
    ],
)
def test_names_of_trained_parts(trained: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        freeze_others(model(frozen_stages=1), trained, 'model.trained')
