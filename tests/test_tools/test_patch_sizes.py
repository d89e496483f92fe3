"""Patch sizes on the command line: tests, sweeps, drawn sizes, further kernels."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from runs import run_tool, run_tool_in_processes, succeed, write_config, write_data

from resformer_mm.apis import load_model
from resformer_mm.checkpoints import read_weights

ADD = 'model_converters/add_patch_kernels.py'
SWEEP = 'analysis_tools/resolution_sweep.py'
KERNELS = """
model['backbone']['patch_embed'] = dict(type='MultiKernelPatchEmbed', kernel_sizes=[8, 12], tokens=16)
model['trained'] = ['backbone.patch_embed.kernels']
load_from = 'extended.pth'
"""
DRAWS = """
model['backbone']['patch_embed'] = dict(type='FlexiblePatchEmbed', patch_sizes=[8, 16, 24])
custom_hooks = [dict(type='resformer_mm.DrawPatchSizesHook'), dict(type='WriteSizesHook')]
custom_imports = dict(imports=['write_sizes'])
"""
WRITE_SIZES = '''
import os
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class WriteSizesHook(Hook):
    """Write the patch sizes of every iteration to a file of the process."""

    def before_train(self, runner):
        def write(module, inputs, output):
            if module.training:
                with open(f"sizes_{os.environ.get('RANK', 0)}.txt", 'a') as file:
                    side = inputs[0].shape[-1]
                    file.write(f'{runner.iter} {side} {output[1][0]}\\n')

        model = getattr(runner.model, 'module', runner.model)
        model.backbone.patch_embed.register_forward_hook(write)
'''


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def model(tmp_path_factory) -> tuple[Path, Path]:
    """A small config with patches of 16 pixels, and a checkpoint with random weights."""
    folder = tmp_path_factory.mktemp('model')
    config = write_config(folder / 'tiny.py')
    torch.manual_seed(0)
    state = load_model(config, device='cpu').state_dict()
    meta = dict(dataset_meta=dict(classes=[f'class_{label}' for label in range(10)]))
    torch.save({'state_dict': state, 'meta': meta}, folder / 'tiny.pth')
    return config, folder / 'tiny.pth'


def read_state(path: Path) -> dict[str, torch.Tensor]:
    return read_weights(path).state


@pytest.mark.slow
def test_the_patch_size_of_a_test(data: Path, model, tmp_path: Path) -> None:
    results = {}
    for name, options in {
        'plain': [],
        'same': ['--patch-size', 16],
        'small': ['--patch-size', 8],
        'option': ['--cfg-options', 'model.backbone.patch_embed.type=FlexiblePatchEmbed',
                   'model.backbone.patch_embed.patch_size=8'],
        'tokens': ['--tokens', 64],
    }.items():  # fmt: skip
        arguments = ('--resolutions', 32, 64, '--out', f'{name}.json', '--out-item', 'metrics', *options)
        succeed(run_tool('test.py', *model, *arguments, data=data, cwd=tmp_path))
        results[name] = json.loads((tmp_path / f'{name}.json').read_text())
    assert results['same'] == results['plain'] != results['small'] == results['option']
    assert results['tokens']['64/accuracy/top1'] == results['small']['64/accuracy/top1']
    result = run_tool('test.py', *model, '--patch-size', 8, '--tokens', 4, data=data, cwd=tmp_path)
    assert result.returncode == 2 and 'not allowed with' in result.stderr


@pytest.mark.slow
def test_a_sweep_over_pixels_and_patches(data: Path, model, tmp_path: Path) -> None:
    options = ('--rounds', 1, '--out-dir', 'out', '--resolutions', 16, 32, 64)
    result = succeed(run_tool(SWEEP, *model, *options, '--patch-sizes', 8, 32, data=data, cwd=tmp_path))
    assert 'tiny: accuracy/top1 (tokens, GFLOPs) by resolution and patches' in result.stdout
    with open(tmp_path / 'out' / 'sweep.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    found = [(row['model'], row['resolution'], row['patch_size'], row['tokens']) for row in rows]
    assert found == [
        ('tiny, patch 8', '16', '8', '4'),
        ('tiny, patch 8', '32', '8', '16'),
        ('tiny, patch 8', '64', '8', '64'),
        ('tiny, patch 32', '32', '32', '1'),
        ('tiny, patch 32', '64', '32', '4'),
    ]
    assert float(rows[2]['gflops']) > 2 * float(rows[4]['gflops'])
    assert 'fillGrids' in (tmp_path / 'out' / 'sweep.html').read_text()
    options = (*options[:3], 'other', *options[4:])
    succeed(run_tool(SWEEP, *model, *options, '--tokens', 16, data=data, cwd=tmp_path))
    with open(tmp_path / 'other' / 'sweep.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [(row['wanted_tokens'], row['tokens']) for row in rows] == [('16', '16')] * 3


@pytest.mark.slow
def test_further_kernels_are_trained_and_nothing_else(data: Path, model, tmp_path: Path) -> None:
    config, checkpoint = model
    result = succeed(
        run_tool(ADD, config, checkpoint, 'extended.pth', '--kernels', 8, 12, data=data, cwd=tmp_path)
    )
    assert 'kernel_sizes=[8, 12]' in result.stdout.replace("'kernel_sizes': ", 'kernel_sizes=')
    before, extended = read_state(checkpoint), read_state(tmp_path / 'extended.pth')
    added = {f'backbone.patch_embed.kernels.{side}.{part}' for side in (8, 12) for part in ('weight', 'bias')}
    assert set(extended) - set(before) == added
    assert all(torch.equal(extended[name], value) for name, value in before.items())
    meta = torch.load(tmp_path / 'extended.pth', weights_only=True)['meta']
    assert meta['dataset_meta']['classes'][3] == 'class_3'
    config = write_config(tmp_path / 'kernels.py', KERNELS)
    succeed(run_tool('train.py', config, '--work-dir', 'work', data=data, cwd=tmp_path))
    after = read_state(tmp_path / 'work' / 'epoch_2.pth')
    assert set(after) == set(extended)
    changed = {name for name, value in extended.items() if not torch.equal(after[name], value)}
    assert changed == added  # 64 pixels take patches of 16, 48 of 12, and 32 of 8
    # A model with further kernels gets more of them, with its own config.
    arguments = (config, 'work/epoch_2.pth', 'more.pth', '--kernels', 2)
    succeed(run_tool(ADD, *arguments, data=data, cwd=tmp_path))
    assert set(read_state(tmp_path / 'more.pth')) - set(after) == {
        f'backbone.patch_embed.kernels.2.{part}' for part in ('weight', 'bias')
    }
    for words, *wrong in (
        ('has kernels of the sizes [8]', config, 'extended.pth', 'x.pth', '--kernels', 8),
        ('from 1 to 64', model[0], checkpoint, 'x.pth', '--kernels', 100),
        ('must be at least one, and differ', model[0], checkpoint, 'x.pth', '--kernels', 16),
        ('would overwrite', model[0], checkpoint, checkpoint, '--kernels', 8),
        ('does not exist', model[0], 'absent.pth', 'x.pth', '--kernels', 8),
    ):
        result = run_tool(ADD, *wrong, data=data, cwd=tmp_path)
        assert result.returncode == 2 and words in result.stderr and 'Traceback' not in result.stderr
    assert not (tmp_path / 'x.pth').exists()


@pytest.mark.slow
def test_drawn_sizes_are_those_of_all_processes_and_of_a_resumed_run(data: Path, tmp_path: Path) -> None:
    sizes = []
    for name, number in (('two', 2), ('whole', 1), ('resumed', 1)):
        cwd = tmp_path / name
        cwd.mkdir()
        (cwd / 'write_sizes.py').write_text(WRITE_SIZES)
        config = write_config(cwd / 'draws.py', DRAWS)
        if name == 'resumed':
            options = ('--cfg-options', 'train_cfg.max_epochs=1')
            succeed(run_tool('train.py', config, '--work-dir', 'work', *options, data=data, cwd=cwd))
            succeed(run_tool('train.py', config, '--work-dir', 'work', '--resume', data=data, cwd=cwd))
        else:
            arguments = ('train.py', config, '--work-dir', 'work')
            for result in run_tool_in_processes(number, *arguments, data=data, cwd=cwd):
                succeed(result)
        sizes += [(cwd / f'sizes_{rank}.txt').read_text().splitlines() for rank in range(number)]
    two, other, whole, resumed = sizes
    assert two == other and len(two) == 2 * 3
    assert whole == resumed and len(whole) == 4 * 3
    assert whole[: len(two)] == two
    assert len({line.split()[2] for line in whole}) > 3
    first, second = (read_state(tmp_path / name / 'work' / 'epoch_2.pth') for name in ('whole', 'resumed'))
    assert all(torch.equal(first[name], second[name]) for name in first)
