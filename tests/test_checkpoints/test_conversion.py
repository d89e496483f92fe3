"""The converter: names, round trips, what it reports, what it refuses, and its exit codes."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import re
import runpy
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor, nn

from resformer_mm.checkpoints import (
    CheckpointError,
    convert_file,
    convert_weights,
    load_pretrained,
    read_weights,
    reverse_weights,
)
from resformer_mm.checkpoints.conversion import write_checkpoint
from resformer_mm.models import ResFormer

TOOL = Path(__file__).parents[2] / 'tools' / 'model_converters' / 'resformer_official.py'
ARCH = dict(embed_dims=48, num_layers=2, num_heads=3, feedforward_channels=192)
State = dict[str, Tensor]


def save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def same(first: State, second: State) -> bool:
    return list(first) == list(second) and all(
        value.dtype == second[name].dtype and torch.equal(value, second[name])
        for name, value in first.items()
    )


def run_tool(*args: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(TOOL), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True)


def build(num_classes: int = 0, **kwargs) -> nn.Module:
    """A backbone, or with classes a model that has it and a head where a classifier has them."""
    backbone = ResFormer(**{'arch': ARCH, 'out_type': 'raw', **kwargs})
    if not num_classes:
        return backbone
    model = nn.Module()
    model.backbone = backbone
    model.head = nn.Module()
    model.head.fc = nn.Linear(backbone.embed_dims, num_classes)
    return model


@pytest.fixture
def deit_state(official_state: State) -> State:
    """The same weights under the names of a DeiT with a table of 4 x 4 positions."""
    state = {}
    for name, value in official_state.items():
        if name == 'patch_embed.proj.weight':
            generator = torch.Generator().manual_seed(0)
            state['pos_embed'] = torch.randn(1, 17, 48, generator=generator)
        if 'get_v' not in name and 'pos_embed' not in name:
            state[name] = value
    return state


# ------------------------------------------------------------------------------------ round trips


@pytest.mark.slow
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize('key', ['model', 'state_dict', ''])
def test_round_trip(official_state: State, tmp_path: Path, key: str, dtype: torch.dtype) -> None:
    state = {name: value.to(dtype) for name, value in official_state.items()}
    files = [tmp_path / name for name in ('src.pth', 'deep/er/ours.pth', 'back.pth')]
    save(files[0], {key: state, 'epoch': 300} if key else state)
    for source, destination in zip(files, files[1:]):
        conversion, content = convert_file(source, destination, reverse='deep' in str(source))
        conversion.report.check()
        write_checkpoint(content, destination)
    ours = torch.load(files[1], weights_only=True)
    assert set(ours) == {'state_dict', 'meta'}
    assert ours['meta']['backbone']['arch'] == ARCH and ours['meta']['num_classes'] == 10
    assert {name.split('.')[0] for name in ours['state_dict']} == {'backbone', 'head'}
    back = torch.load(files[2], weights_only=True)
    assert set(back) == {'model'} and same(back['model'], state)


def test_names_are_those_of_the_model(official_state: State, tmp_path: Path) -> None:
    path = save(tmp_path / 'src.pth', {'model': official_state})
    converted = convert_weights(read_weights(path)).state
    assert set(converted) == set(build(num_classes=10).state_dict())


@pytest.mark.parametrize('arch', ['tiny', 'small', 'base'])
def test_architecture_is_recognised(arch: str, tmp_path: Path) -> None:
    """From the shapes alone, up and down, also for the published sizes (here of zeros)."""
    with torch.device('meta'):
        model = build(arch=arch, num_classes=1000)
    state = {name: torch.zeros(1).expand(value.shape) for name, value in model.state_dict().items()}
    path = save(tmp_path / 'ours.pth', {'state_dict': state})
    conversion = reverse_weights(read_weights(path))
    assert conversion.architecture.arch == arch
    assert conversion.architecture.num_classes == 1000
    assert len(conversion.report.matched) == len(state)
    assert 'blocks.11.attn.get_v.weight' in conversion.state
    assert 'pos_embed.embed_layer.bias' in conversion.state


def test_model_ema_is_taken_only_by_name(official_state: State, tmp_path: Path) -> None:
    average = {name: value + 1 for name, value in official_state.items()}
    path = save(tmp_path / 'src.pth', {'model': official_state, 'model_ema': average})
    plain, chosen = read_weights(path), read_weights(path, key='model_ema')
    assert same(plain.state, official_state) and same(chosen.state, average)
    assert any('model_ema' in note for note in plain.notes)  # said, not kept quiet
    with pytest.raises(CheckpointError, match="src.pth has no entry 'ema'.*model_ema"):
        read_weights(path, key='ema')
    alone = save(tmp_path / 'alone.pth', {'model_ema': average})
    assert same(read_weights(alone).state, average)  # there are no others


def test_checkpoint_of_a_training_run(official_state: State, tmp_path: Path) -> None:
    """With what MMEngine's runner and its EMAHook store beside the weights."""
    ours = convert_weights(read_weights(save(tmp_path / 'a.pth', official_state))).state
    raw = {f'module.{name}': value + 1 for name, value in ours.items()}
    history = HistoryBuffer([0.5, 0.25], [1, 1])
    content = dict(
        meta=dict(epoch=3, cfg='model = dict()', dataset_meta=dict(classes=('a', 'b'))),
        state_dict=ours,
        ema_state_dict=dict(raw, steps=torch.tensor(3)),
        message_hub=dict(
            log_scalars=OrderedDict(loss=history),
            runtime_info=OrderedDict(iter=np.int64(3), loss=np.float64(0.5), ok=np.bool_(True)),
            resumed_keys=OrderedDict(loss=True),
        ),
        optimizer=dict(state={0: dict(step=torch.tensor(3.0))}, param_groups=[dict(lr=0.1)]),
        param_schedulers=[dict(last_step=3)],
    )
    path = save(tmp_path / 'epoch_3.pth', content)
    conversion = reverse_weights(read_weights(path))
    conversion.report.check()
    assert same(conversion.state, official_state)
    raw_weights = reverse_weights(read_weights(path, key='ema_state_dict'))
    raw_weights.report.check()  # without the counter of the averaging
    assert torch.equal(raw_weights.state['norm.bias'], official_state['norm.bias'] + 1)


def test_backbone_without_head(official_state: State, tmp_path: Path) -> None:
    state = {name: v for name, v in official_state.items() if not name.startswith('head.')}
    conversion = convert_weights(read_weights(save(tmp_path / 'src.pth', {'model': state})))
    conversion.report.check()
    assert conversion.architecture.num_classes == 0
    assert any('no classification head' in note for note in conversion.report.notes)


# ------------------------------------------------------------------------------------------- DeiT


def test_deit_initialises_a_resformer(deit_state: State, tmp_path: Path) -> None:
    weights = read_weights(save(tmp_path / 'deit.pth', {'model': deit_state}))
    conversion = convert_weights(weights, num_heads=3)
    report = conversion.report
    report.check()  # all of it is in order, and all of it is said
    assert report.layout == 'timm'
    assert set(report.unexpected) == {'pos_embed'} and 'dropped' in report.reasons['pos_embed']
    positions = {'global_position', 'local_position'}
    assert all(positions & set(name.split('.')) for name in report.missing)
    assert len(report.missing) == 2 + 2 * 2
    assert len(conversion.state) == len(deit_state) - 1
    assert 'pos_embed (1, 17, 48): dropped' in str(report)


def test_deit_with_its_table(deit_state: State, tmp_path: Path) -> None:
    weights = read_weights(save(tmp_path / 'deit.pth', {'model': deit_state}))
    conversion = convert_weights(weights, position='learned', num_heads=3)
    conversion.report.check()
    assert not conversion.report.missing and not conversion.report.unexpected
    table = deit_state['pos_embed']
    for name, rows in (('cls_token_table', table[:, :1]), ('table', table[:, 1:])):
        part = conversion.state[f'backbone.global_position.{name}']
        assert torch.equal(part, rows)
        assert part.untyped_storage().nbytes() == 4 * part.numel()  # no view of the whole table
    config = conversion.architecture.backbone_config()
    assert config['global_position'] == dict(type='LearnedPositionEmbedding', grid_size=4)
    assert config['local_position'] is None
    weights.state = conversion.state
    assert same(reverse_weights(weights, num_heads=3).state, deit_state)


def test_heads_that_no_shape_tells(deit_state: State, tmp_path: Path) -> None:
    weights = read_weights(save(tmp_path / 'deit.pth', deit_state))
    with pytest.raises(CheckpointError, match='width 48 is not a multiple.*--num-heads'):
        convert_weights(weights)
    with pytest.raises(CheckpointError, match='5 heads do not divide the width 48'):
        convert_weights(weights, num_heads=5)


def test_heads_that_contradict_the_shapes(official_state: State, tmp_path: Path) -> None:
    weights = read_weights(save(tmp_path / 'src.pth', official_state))
    with pytest.raises(CheckpointError, match='has 3 heads, not 6'):
        convert_weights(weights, num_heads=6)


@pytest.mark.parametrize('rows', [1, 16, 18, 19])
def test_position_table_of_no_square(deit_state: State, tmp_path: Path, rows: int) -> None:
    deit_state['pos_embed'] = torch.zeros(1, rows, 48)
    weights = read_weights(save(tmp_path / 'deit.pth', deit_state))
    if rows == 16:  # a table of the patches alone, as some ViTs have it
        config = convert_weights(weights, 'learned', 3).architecture.global_position
        assert config == dict(type='LearnedPositionEmbedding', grid_size=4, with_cls_token=False)
        return
    with pytest.raises(CheckpointError, match='pos_embed.*square'):
        convert_weights(weights, 'learned', 3)


@pytest.mark.parametrize('name', ['dist_token', 'head_dist.weight'])
def test_distilled_deit_is_refused(deit_state: State, tmp_path: Path, name: str) -> None:
    deit_state[name] = torch.zeros(1, 1, 48)
    with pytest.raises(CheckpointError, match=f'distilled DeiT.*{name}.*without distillation'):
        convert_weights(read_weights(save(tmp_path / 'deit.pth', deit_state)), num_heads=3)


# --------------------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    ('name', 'shown'),
    [
        ('pos_embed.embed_layer.bias', 'backbone.global_position.conv.bias'),
        ('blocks.1.attn.get_v.weight', 'backbone.blocks.1.attn.local_position.conv.weight'),
        ('cls_token', 'backbone.cls_token'),
        ('norm.weight', 'backbone.norm.weight'),
        ('head.bias', 'head.fc.bias'),
    ],
)
def test_missing_names(official_state: State, tmp_path: Path, name: str, shown: str) -> None:
    del official_state[name]
    report = convert_weights(read_weights(save(tmp_path / 'src.pth', official_state))).report
    assert list(report.missing) == report.unexplained_missing == [shown]
    with pytest.raises(CheckpointError, match=f'src.pth.*lacks {shown}.*--allow-missing'):
        report.check(allow_unexpected=True)
    report.check(allow_missing=True)


@pytest.mark.parametrize('name', ['blocks.0.attn.rope.freqs', 'fc_norm.weight', 'head.layers.0.weight'])
def test_unexpected_names(official_state: State, tmp_path: Path, name: str) -> None:
    official_state[name] = torch.zeros(48)
    conversion = convert_weights(read_weights(save(tmp_path / 'src.pth', official_state)))
    assert conversion.report.unexpected == {name: (48,)}
    assert len(conversion.state) == len(official_state) - 1
    with pytest.raises(CheckpointError, match=f'no place for {name}.*--allow-unexpected'):
        conversion.report.check(allow_missing=True)
    conversion.report.check(allow_unexpected=True)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'blocks.1.mlp.fc1.weight': (100, 48)}, r'fc1.weight has shape \(100, 48\).*needs \(192, 48\)'),
        ({'norm.weight': (64,)}, r'norm.weight has shape \(64,\), the model needs \(48,\)'),
        ({'patch_embed.proj.weight': (48, 3, 16, 8)}, 'not square'),
        ({'patch_embed.proj.weight': (48, 3)}, 'should have 4 dimensions'),
        ({'patch_embed.proj.weight': None}, 'lacks patch_embed.proj.weight.*not a ResFormer'),
        ({'blocks.3.norm1.weight': (48,)}, 'lacks block 2.*incomplete'),
    ],
)
def test_inconsistent_shapes(official_state: State, tmp_path: Path, change: dict, message: str) -> None:
    for name, shape in change.items():
        if shape is None:
            del official_state[name]
        else:
            official_state[name] = torch.zeros(shape)
    weights = read_weights(save(tmp_path / 'src.pth', official_state))
    with pytest.raises(CheckpointError, match=rf'src\.pth.*{message}'):
        convert_weights(weights)


@pytest.mark.parametrize(
    'option',
    [
        dict(num_registers=2),
        dict(token_merger=dict(type='TokenMerger', grid=4)),
        dict(local_position=dict(type='RelativePositionBias', grid_size=4)),
    ],
)
def test_parts_without_a_published_name_are_refused(option: dict, tmp_path: Path) -> None:
    arch = dict(embed_dims=64, num_layers=1, num_heads=1, feedforward_channels=128)
    state = build(arch=arch, num_classes=3, **option).state_dict()
    path = save(tmp_path / 'ours.pth', {'state_dict': state})
    with pytest.raises(CheckpointError, match='published code does not have'):
        reverse_weights(read_weights(path))


def test_wrong_direction_and_options(official_state: State, tmp_path: Path) -> None:
    weights = read_weights(save(tmp_path / 'src.pth', official_state))
    with pytest.raises(CheckpointError, match='leave out --reverse'):
        reverse_weights(weights)
    with pytest.raises(CheckpointError, match='no position table'):
        convert_weights(weights, position='learned')
    weights.state = convert_weights(weights).state
    with pytest.raises(CheckpointError, match='already.*--reverse'):
        convert_weights(weights)


# ------------------------------------------------------------------------------- bad files


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


@pytest.mark.parametrize('legacy', [False, True])
def test_malicious_file_is_refused_and_not_run(official_state: State, tmp_path: Path, legacy: bool) -> None:
    path, trace = tmp_path / 'evil.pth', tmp_path / 'trace'
    content = {'model': official_state, 'extra': Malicious(f'touch {trace}')}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r'evil.pth is refused.*system.*could run code.*trust'):
        read_weights(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists()  # it would have run


def test_a_whole_model_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='model.pth holds a whole model .torch.nn.*state_dict'):
        read_weights(save(tmp_path / 'model.pth', {'model': nn.Linear(2, 2)}))


def plain_pickle(state: State) -> bytes:
    return pickle.dumps({name: value.numpy() for name, value in state.items()})


def truncated(state: State) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()[: buffer.tell() // 2]


def zip_of(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        archive.writestr(name, 'no checkpoint')
    return buffer.getvalue()


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda state: b'', 'is empty'),
        (lambda state: b'\n<!DOCTYPE html><html>not found</html>', 'is a web page'),
        (
            lambda state: b'version https://git-lfs.github.com/spec/v1\noid sha256:00\n',
            'Git LFS.*git lfs pull',
        ),
        (lambda state: b'{"weight_map": {}}', 'text in JSON'),
        (lambda state: b'\x89HDF\r\n\x1a\n', 'HDF5.*PyTorch weights'),
        (lambda state: gzip.compress(b'weights'), 'compressed .gzip.: unpack'),
        (lambda state: zip_of('params/kernel.npy'), 'NumPy arrays.*PyTorch weights'),
        (lambda state: zip_of('folder/model.pth'), 'archive with folder/model.pth inside'),
        (lambda state: zip_of('readme.txt'), 'is corrupt.*again'),
        (plain_pickle, 'is (corrupt.*again|refused)'),
        (truncated, 'is corrupt.*again'),
    ],
    ids=['empty', 'html', 'lfs', 'json', 'hdf5', 'gzip', 'npz', 'archive', 'zip', 'pickle', 'truncated'],
)
def test_files_that_are_not_checkpoints(official_state: State, tmp_path: Path, make, message: str) -> None:
    path = tmp_path / 'bad.pth'
    path.write_bytes(make(official_state))
    with pytest.raises(CheckpointError, match=f'bad.pth {message}|bad.pth .*{message}'):
        read_weights(path)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ([1, 2], 'holds a list, not a dict of weights'),
        ({}, 'has neither.*nothing'),
        ({'model': {}}, 'does not hold weights'),
        ({'model': 3}, 'does not hold weights'),
        ({'epoch': 3, 'lr': 0.1}, 'has neither of the entries.*epoch'),
        ({'model': {'a': torch.zeros(1), 'b': 3}}, 'b in .model. is not a tensor'),
        ({'model': {'fc.weight': torch.zeros(3, 3)}}, None),
    ],
    ids=str,
)
def test_no_checkpoint(tmp_path: Path, content: object, message: str | None) -> None:
    path = save(tmp_path / 'odd.pth', content)
    with pytest.raises(CheckpointError, match=f'odd.pth.*{message or "not a ResFormer"}'):
        convert_weights(read_weights(path))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='absent.pth does not exist'):
        read_weights(tmp_path / 'absent.pth')
    with pytest.raises(CheckpointError, match='is a folder'):
        read_weights(tmp_path)


# ----------------------------------------------------------------------------- loading into a model


@pytest.mark.parametrize('form', ['published', 'converted', 'backbone'])
@pytest.mark.parametrize('num_classes', [0, 10])
def test_load_pretrained(official_state: State, tmp_path: Path, form: str, num_classes: int) -> None:
    published = save(tmp_path / 'src.pth', {'model': official_state})
    converted = convert_weights(read_weights(published)).state
    path = published
    if form == 'converted':
        path = save(tmp_path / 'ours.pth', {'state_dict': converted})
    elif form == 'backbone':
        state = {name.removeprefix('backbone.'): v for name, v in converted.items()}
        path = save(tmp_path / 'b.pth', {n: v for n, v in state.items() if 'head' not in n})
    model = build(num_classes)
    prefix = '' if num_classes else 'backbone.'
    untouched = {name: value.clone() for name, value in model.state_dict().items()}
    report = load_pretrained(model, path)
    for name, value in model.state_dict().items():
        head = name.startswith('head.')
        expected = untouched[name] if head and form == 'backbone' else converted[prefix + name]
        assert torch.equal(value, expected), name
    heads = [name for name in (*report.missing, *report.unexpected)]
    assert all(name.startswith('head.') and name in report.reasons for name in heads)
    assert len(heads) == (2 if (form == 'backbone') == bool(num_classes) else 0)


def test_load_without_class_token_and_norm(official_state: State, tmp_path: Path) -> None:
    path = save(tmp_path / 'src.pth', {'model': official_state})
    model = build(with_cls_token=False, final_norm=False, window_size=3, window_block_indices=(0,))
    report = load_pretrained(model, path)
    assert set(report.unexpected) == {
        'cls_token', 'norm.weight', 'norm.bias', 'head.weight', 'head.bias'
    }  # fmt: skip
    assert torch.equal(model.patch_embed.proj.weight, official_state['patch_embed.proj.weight'])


def test_load_deit(deit_state: State, tmp_path: Path) -> None:
    path = save(tmp_path / 'deit.pth', {'model': deit_state})
    resformer = build(num_classes=10)
    gpe = resformer.backbone.global_position.conv.weight.clone()
    report = load_pretrained(resformer, path)
    assert 'pos_embed' in report.reasons and len(report.missing) == 6
    assert torch.equal(resformer.backbone.global_position.conv.weight, gpe)
    learned = dict(type='LearnedPositionEmbedding', grid_size=7)
    deit = build(num_classes=10, global_position=learned, local_position=None)
    report = load_pretrained(deit, path)
    assert not report.missing and not report.unexpected
    position = deit.backbone.global_position
    square = deit_state['pos_embed'][:, 1:].transpose(1, 2).reshape(1, 48, 4, 4)
    resized = nn.functional.interpolate(square, (7, 7), mode='bicubic', align_corners=False)
    torch.testing.assert_close(position.table, resized.flatten(2).transpose(1, 2))
    assert torch.equal(position.cls_token_table, deit_state['pos_embed'][:, :1])


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(arch={**ARCH, 'embed_dims': 96}), r'cls_token has shape \(1, 1, 48\).*needs \(1, 1, 96\)'),
        (dict(arch={**ARCH, 'num_heads': 6}), 'get_v.weight has shape .16, .*needs .8, '),
        (dict(arch={**ARCH, 'num_layers': 1}), 'no place for blocks.1.norm1.weight'),
        (dict(arch={**ARCH, 'num_layers': 3}), 'lacks backbone.blocks.2.norm1.weight'),
        (dict(patch_size=8), r'patch_embed.proj.weight has shape \(48, 3, 16, 16\)'),
        (dict(local_position=None), 'no place for blocks.0.attn.get_v.weight'),
        (dict(num_classes=20), r'head.weight has shape \(10, 48\), the model needs \(20, 48\)'),
    ],
    ids=str,
)
def test_load_into_another_model(official_state: State, tmp_path: Path, config: dict, message: str) -> None:
    path = save(tmp_path / 'src.pth', {'model': official_state})
    model = build(**config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=rf'src\.pth.*{message}'):
        load_pretrained(model, path)
    assert same(before, model.state_dict())  # nothing was loaded by halves


def test_load_into_something_else(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match='Linear is not a ResFormer'):
        load_pretrained(nn.Linear(1, 1), tmp_path / 'any.pth')


# ------------------------------------------------------------------------------- the command line


@pytest.mark.slow
def test_command_line(official_state: State, tmp_path: Path) -> None:
    official_state['odd'] = torch.zeros(2)
    source = save(tmp_path / 'src.pth', {'model': official_state, 'epoch': 3})
    destination = tmp_path / 'new' / 'ours.pth'

    refused = run_tool(source, destination)
    assert refused.returncode == 1 and not destination.exists()
    for line in ('ignored: epoch', 'matched: 37', 'missing: 0', 'unexpected: 1', 'odd (2,)'):
        assert line in refused.stdout
    # Warnings that imports show come first.
    assert re.search(f'^error: {source}', refused.stderr, re.M) and 'Traceback' not in refused.stderr

    allowed = run_tool(source, destination, '--allow-unexpected')
    assert allowed.returncode == 0 and 'error' not in allowed.stderr, allowed.stderr
    assert len(torch.load(destination, weights_only=True)['state_dict']) == 37
    assert [path.name for path in destination.parent.iterdir()] == ['ours.pth']


def test_command_line_refuses_bad_input(
    official_state: State, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    main = runpy.run_path(str(TOOL))['main']  # here: a new interpreter takes seconds to start
    source = save(tmp_path / 'src.pth', {'model': official_state})
    before = source.read_bytes()
    (tmp_path / 'file').write_text('in the way')
    link = tmp_path / 'link.pth'
    link.symlink_to(source)
    for arguments, message in [
        ((source, source), 'would overwrite the source'),
        ((source, link), 'would overwrite the source'),
        ((source, tmp_path), f'cannot write {tmp_path}'),
        ((source, tmp_path / 'file' / 'out.pth'), 'cannot write'),
        ((tmp_path / 'absent.pth', tmp_path / 'out.pth'), 'absent.pth does not exist'),
        ((tmp_path / 'file', tmp_path / 'out.pth'), 'file is corrupt'),
        ((source, tmp_path / 'out.pth', '--reverse', '--position', 'gpe'), 'does not go with'),
        ((source, tmp_path / 'out.pth', '--num-heads', '0'), 'has 3 heads, not 0'),
    ]:
        assert main([str(argument) for argument in arguments]) == 1
        error = capsys.readouterr().err
        assert error.startswith('error: ') and message in error, error
    assert source.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {'src.pth', 'file', 'link.pth'}
