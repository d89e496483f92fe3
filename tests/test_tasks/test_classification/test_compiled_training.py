"""A training step on a list of resolutions with a compiled backbone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmpretrain.structures import DataSample
from torch import nn

from resformer_mm.apis.settling import compile_backbone
from resformer_mm.registry import MODELS

pytestmark = pytest.mark.skipif(
    torch.__version__ < '2.5', reason='torch.compile of earlier versions cannot trace this'
)
COMPILERS = (os.environ.get('CXX', 'g++'), 'clang++', 'c++')


def build(one_forward: bool, num_layers: int = 2, **kwargs: object) -> nn.Module:
    torch.manual_seed(0)
    arch = dict(embed_dims=32, num_layers=num_layers, num_heads=2, feedforward_channels=64)
    config = dict(
        type='resformer_mm.MultiResolutionClassifier',
        data_preprocessor=dict(type='resformer_mm.MultiResolutionDataPreprocessor', num_classes=5),
        backbone=dict(type='resformer_mm.ResFormer', arch=arch, patch_size=8),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=32, init_cfg=None),
        one_forward=one_forward,
        **kwargs,
    )
    model = MODELS.build(config).train()
    for name, parameter in model.named_parameters():
        if 'local_position' in name:  # zero at the start, which would hide mistakes
            nn.init.normal_(parameter, std=0.2)
    return model


def step(model: nn.Module, wrapper: OptimWrapper, sizes: Sequence[tuple[int, int]], batch: int = 4) -> dict:
    generator = torch.Generator().manual_seed(sum(map(sum, sizes)))
    inputs = [torch.rand(batch, 3, *size, generator=generator) for size in sizes]
    samples = [DataSample().set_gt_label(index % 5) for index in range(batch)]
    return model.train_step(dict(inputs=inputs, data_samples=samples), wrapper)


def squares(*sides: int) -> list[tuple[int, int]]:
    return [(side, side) for side in sides]


# Sides that stay, sides that are equal to others, and patches that are cut off by the border.
LISTS = [
    squares(64, 48),
    squares(80, 48),
    [(64, 40), (48, 48)],
    [(61, 90), (33, 40)],
    [(48, 96), (96, 48)],
]


@pytest.mark.slow
@pytest.mark.parametrize('target', ['cls', 'gap', 'logits'])
@pytest.mark.parametrize('one_forward', [True, False])
def test_one_compilation_or_one_per_resolution(target: str, one_forward: bool) -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list) -> object:
        graphs.append(graph)
        return graph

    plain, compiled = build(one_forward), build(one_forward)
    if target != 'logits':
        plain.consistency_target = compiled.consistency_target = target
    else:
        plain.consistency = compiled.consistency = None
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    # With `fullgraph`, a part that cannot be compiled is an error.
    compile_backbone(compiled, dict(backend=backend, fullgraph=True))
    wrappers = [OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)) for model in (plain, compiled)]
    numbers = []
    for sizes in (LISTS[0], *LISTS):
        logs = [step(model, wrapper, sizes) for model, wrapper in zip((plain, compiled), wrappers)]
        assert logs[0].keys() == logs[1].keys()
        for name, value in logs[0].items():
            torch.testing.assert_close(value, logs[1][name], msg=name)
        numbers.append(len(graphs))
    # The second size, or list of sizes, makes the compiler take all sizes.
    assert numbers == ([1, 1, 2, 2, 2, 2] if one_forward else [2] * 6)
    assert not torch._dynamo.utils.counters['graph_break']
    weights = compiled.state_dict()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(weights[name], value)


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason='machine code needs a C++ compiler')
def test_lists_of_sizes_and_rectangles_as_machine_code() -> None:
    # With the mean of the patches, the only block computes all of them, and the local position.
    plain, compiled = (build(True, num_layers=1, consistency_target='gap') for _ in range(2))
    torch.compiler.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    # Without vector instructions there is less to compile; shapes and memory layouts are the same.
    compile_backbone(compiled, dict(options={'cpp.simdlen': 1}))
    wrappers = [OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)) for model in (plain, compiled)]
    for sizes in LISTS:
        logs = [step(model, wrapper, sizes) for model, wrapper in zip((plain, compiled), wrappers)]
        for name, value in logs[0].items():
            torch.testing.assert_close(value, logs[1][name], rtol=1e-4, atol=1e-5, msg=name)
    assert counters['stats']['unique_graphs'] == 2
    weights = compiled.state_dict()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-5, msg=name)
    torch.compiler.reset()
