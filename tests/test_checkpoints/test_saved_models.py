"""Backbones saved with their settings and built in one line, also from files of others."""

from __future__ import annotations

import json
import logging
import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from resformer_mm import ResFormer, VideoResFormer
from resformer_mm.checkpoints import CheckpointError, read_weights, sources
from resformer_mm.checkpoints.conversion import write_checkpoint
from resformer_mm.checkpoints.reading import secure_runner_loading
from resformer_mm.models import FrameResFormer, GlobalPosition
from resformer_mm.registry import MODELS

pytest.importorskip('safetensors')
ARCH = dict(embed_dims=48, num_layers=2, num_heads=3, feedforward_channels=96)
LEARNED = dict(type='LearnedPositionEmbedding', grid_size=5)
NO_LPE = dict(global_position=None, local_position=None)
KINDS = {
    'two maps': (ResFormer, dict(out_type='featmap', out_indices=(0, 1), drop_path_rate=0.1)),
    'a table': (ResFormer, dict(global_position=LEARNED, local_position=None)),
    'no class token': (ResFormer, dict(with_cls_token=False, out_type='raw', final_norm=False, **NO_LPE)),
    'windows': (
        ResFormer,
        dict(window_size=2, window_block_indices=[0], in_channels=1, with_cls_token=False, out_type='raw'),
    ),
    'frames': (FrameResFormer, dict(num_segments=3, out_type='avg_featmap')),
    'clips': (VideoResFormer, dict(num_frames=4, attention_type='divided_space_time')),
    'joint': (VideoResFormer, dict(num_frames=4, attention_type='joint_space_time')),
    'subsets': (ResFormer, dict(drop_path_rate=0.2, drop_path=dict(type='SubsetDropPath'))),
}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network: what opens a connection fails."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError('a connection was opened')

    monkeypatch.setattr(socket.socket, 'connect', refuse)
    monkeypatch.setattr(socket, 'getaddrinfo', refuse)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """What is logged, with its level."""
    records: list[tuple[int, str]] = []
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'callHandlers', lambda r: records.append((r.levelno, r.getMessage())))
    return records


def build(kind: type[ResFormer] = ResFormer, **settings) -> ResFormer:
    """A backbone with random weights, also where they start at zero."""
    model = kind(**{'arch': ARCH, 'patch_size': 8, **settings}).eval()
    generator = torch.Generator().manual_seed(0)
    for value in model.parameters():
        value.data.normal_(0, 0.2, generator=generator)
    return model


def outputs(model: ResFormer, height: int = 40, width: int = 24) -> list[Tensor]:
    shape = [2, model.patch_embed.proj.in_channels, height, width]
    if isinstance(model, VideoResFormer):
        shape.insert(2, 4)
    with torch.no_grad():
        result = model(torch.randn(shape, generator=torch.Generator().manual_seed(1)))
    return [result] if isinstance(result, Tensor) else list(result)


def same(first: ResFormer, second: ResFormer) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def edit(folder: Path, **changes: object) -> None:
    """Change the settings of a saved model."""
    path = folder / 'config.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize('target', ['folder', 'a.safetensors', 'b.pth'])
@pytest.mark.parametrize('kind', KINDS)
def test_round_trip(kind: str, target: str, tmp_path: Path, told: list) -> None:
    cls, settings = KINDS[kind]
    model = build(cls, **settings)
    file = model.save_pretrained(tmp_path / target)
    assert file == (tmp_path / target / 'model.safetensors' if target == 'folder' else tmp_path / target)
    assert len(list(file.parent.iterdir())) == 2  # the weights and their settings
    loaded = cls.from_pretrained(tmp_path / target)
    assert type(loaded) is cls and same(model, loaded) and not loaded.training
    assert all(torch.equal(one, two) for one, two in zip(outputs(model), outputs(loaded)))
    assert [level for level, _ in told if level > logging.DEBUG] == [logging.INFO]


def test_names_and_content_of_the_hub(tmp_path: Path) -> None:
    """What huggingface_hub's mixin for PyTorch writes and reads."""
    from huggingface_hub import PyTorchModelHubMixin, constants
    from safetensors import safe_open

    model = build(out_indices=(0, 1), out_type='featmap')
    model.save_pretrained(tmp_path)
    names = {constants.CONFIG_NAME, constants.SAFETENSORS_SINGLE_FILE}
    assert {path.name for path in tmp_path.iterdir()} == names
    with safe_open(tmp_path / 'model.safetensors', 'pt') as file:
        assert file.metadata() == {'format': 'pt'}
        assert set(file.keys()) == set(model.state_dict())

    class Mixed(PyTorchModelHubMixin, ResFormer):
        pass

    mixed = PyTorchModelHubMixin.from_pretrained.__func__(Mixed, str(tmp_path))
    assert same(model, mixed) and mixed.out_type == 'featmap'


def test_settings_may_be_replaced(tmp_path: Path, told: list) -> None:
    model = build(out_type='cls_token')
    model.save_pretrained(tmp_path)
    maps = ResFormer.from_pretrained(tmp_path, out_type='featmap', out_indices=(0, 1), final_norm=False)
    assert [tuple(out.shape) for out in outputs(maps)] == [(2, 48, 5, 3)] * 2
    level, text = told[-1]
    assert (
        level == logging.WARNING and 'norm.bias, norm.weight (left out, the model has no final norm)' in text
    )
    clips = VideoResFormer.from_pretrained(tmp_path, num_frames=4)
    assert torch.equal(clips.blocks[1].mlp.fc1.weight, model.blocks[1].mlp.fc1.weight)
    assert 'images have no time' in told[-1][1]
    with pytest.raises(CheckpointError, match='does not fit: .* has shape'):
        ResFormer.from_pretrained(tmp_path, arch={**ARCH, 'feedforward_channels': 100})
    with pytest.raises(ValueError, match='pretrained and the first argument both say'):
        ResFormer.from_pretrained(tmp_path, pretrained='x.pth')
    with pytest.raises(ValueError, match="has the settings of its model: leave out position='gpe'"):
        ResFormer.from_pretrained(tmp_path, position='gpe')


def test_bfloat16(tmp_path: Path) -> None:
    model = build().bfloat16().to(memory_format=torch.channels_last)
    for target in ('folder', 'a.pth'):
        model.save_pretrained(tmp_path / target)
        loaded = ResFormer.from_pretrained(tmp_path / target)
        assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}
        assert same(model, loaded.bfloat16())


def test_a_saved_folder_starts_another_model(tmp_path: Path) -> None:
    model = build()
    model.save_pretrained(tmp_path)
    other = ResFormer(
        ARCH, 8, init_cfg=dict(type='resformer_mm.PretrainedResFormer', checkpoint=str(tmp_path))
    )
    other.init_weights()
    assert same(model, other)


# ---------------------------------------------------------------------- files without saved settings


def test_settings_follow_from_the_shapes(tmp_path: Path, told: list) -> None:
    for cls, settings in (KINDS['clips'], KINDS['no class token'], (ResFormer, {})):
        model = build(cls, **settings)
        torch.save(
            {'state_dict': {f'backbone.{k}': v for k, v in model.state_dict().items()}}, tmp_path / 'a'
        )
        loaded = cls.from_pretrained(tmp_path / 'a', arch=ARCH, out_type='raw')
        assert same(model, loaded)
    assert ResFormer.from_pretrained(str(tmp_path / 'a'), key='state_dict').settings['arch'] == ARCH
    assert any('patch_size=8; without a file of settings, windows and' in text for _, text in told)
    with pytest.raises(CheckpointError, match="has the positions of a ResFormer: leave out position='gpe'"):
        ResFormer.from_pretrained(tmp_path / 'a', position='gpe')


def test_a_vit_keeps_its_table_or_not(tmp_path: Path, told: list) -> None:
    timm = pytest.importorskip('timm.models.vision_transformer')
    vit = timm.VisionTransformer((40, 40), 8, embed_dim=48, depth=2, num_heads=3, mlp_ratio=2, num_classes=5)
    nn.init.normal_(vit.pos_embed)
    torch.save(vit.state_dict(), tmp_path / 'vit.pth')
    (tmp_path / 'vit.json').write_text('{"epochs": 3}')  # of another program
    with pytest.raises(CheckpointError, match=r'not a multiple of the head width 64.*arch=dict'):
        ResFormer.from_pretrained(tmp_path / 'vit.pth')
    kept = ResFormer.from_pretrained(tmp_path / 'vit.pth', position='learned', arch=ARCH, out_type='raw')
    image = torch.randn(2, 3, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(kept(image)[0], vit.eval().forward_features(image), rtol=1e-5, atol=1e-5)
    assert 'head.weight, head.bias (left out, the model has no such head)' in told[-1][1]
    started = ResFormer.from_pretrained(tmp_path / 'vit.pth', arch=ARCH)
    assert torch.equal(started.norm.weight, kept.norm.weight)
    assert 'backbone.global_position.conv.weight' in told[-1][1] and 'pos_embed (dropped' in told[-1][1]


def test_incomplete_files_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    build().save_pretrained(tmp_path)
    state = load_file(tmp_path / 'model.safetensors')
    state.pop('blocks.1.mlp.fc1.bias')
    save_file(state, tmp_path / 'model.safetensors')
    with pytest.raises(
        CheckpointError, match='does not describe model.safetensors: blocks.1.mlp.fc1.bias is missing'
    ):
        ResFormer.from_pretrained(tmp_path)
    assert ResFormer.from_pretrained(tmp_path, allow_missing=True)
    state['blocks.1.gate.weight'] = torch.ones(3)
    save_file(state, tmp_path / 'model.safetensors')
    with pytest.raises(CheckpointError, match='no place for blocks.1.gate.weight'):
        ResFormer.from_pretrained(tmp_path, allow_missing=True)


# --------------------------------------------------------------------------------------- saving


class Unregistered(GlobalPosition):
    """A position embedding that no file can name."""

    def __init__(self, embed_dims: int, with_cls_token: bool = True) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1, 1, embed_dims))

    def forward(self, grid: tuple[int, int]) -> Tensor:
        return self.shift.expand(-1, grid[0] * grid[1], -1)


def test_position_modules_of_others(tmp_path: Path) -> None:
    model = build(global_position=dict(type=Unregistered))
    with pytest.raises(CheckpointError, match='global_position: Unregistered is not registered'):
        model.save_pretrained(tmp_path)
    MODELS.register_module(name='Shift', module=Unregistered)
    try:
        model.save_pretrained(tmp_path)
        assert json.loads((tmp_path / 'config.json').read_text())['global_position'] == {'type': 'Shift'}
        assert same(model, ResFormer.from_pretrained(tmp_path))
    finally:
        del MODELS.module_dict['Shift']
    with pytest.raises(CheckpointError, match="global_position.type='Shift' is not a registered GlobalPos"):
        ResFormer.from_pretrained(tmp_path)
    assert same(model, ResFormer.from_pretrained(tmp_path, global_position=dict(type=Unregistered)))


class WithoutToken(ResFormer):
    """A class of a user, with an argument of its own and others that it passes on."""

    def __init__(self, width: int = 48, **kwargs) -> None:
        super().__init__(
            {**ARCH, 'embed_dims': width}, **{'with_cls_token': False, 'out_type': 'raw', **kwargs}
        )


def test_classes_of_users(tmp_path: Path) -> None:
    model = WithoutToken(96, patch_size=8, frozen_stages=1)
    model.save_pretrained(tmp_path)
    loaded = WithoutToken.from_pretrained(tmp_path)
    assert same(model, loaded) and loaded.frozen_stages == 1 and not loaded.with_cls_token
    edit(tmp_path, width=48 * 10**6)
    with pytest.raises(
        CheckpointError, match=r'proj.weight is \(96, 3, 8, 8\) instead of \(48000000, 3, 8, 8\)'
    ):
        WithoutToken.from_pretrained(tmp_path)
    edit(tmp_path, width=96, depth=3)
    with pytest.raises(CheckpointError, match='config.json has depth, which WithoutToken does not have'):
        WithoutToken.from_pretrained(tmp_path)


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    changed = build()
    del changed.blocks[1]
    with pytest.raises(
        CheckpointError, match='do not describe it any more: blocks.1.norm1.weight is missing'
    ):
        changed.save_pretrained(tmp_path / 'folder')
    assert not (tmp_path / 'folder').exists()
    (tmp_path / 'file').touch()
    with pytest.raises(CheckpointError, match='cannot write'):
        build().save_pretrained(tmp_path / 'file')


def test_initial_weights_are_not_settings(tmp_path: Path) -> None:
    model = build(pretrained='somewhere.pth', global_position={**LEARNED, 'init_cfg': dict(type='Constant')})
    model.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / 'config.json').read_text())
    assert 'pretrained' not in settings and 'init_cfg' not in settings
    assert settings['global_position'] == LEARNED


def test_settings_that_json_does_not_hold(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='cannot be saved: it is not a number, text or list'):
        build(drop_rate=torch.tensor(0.0)).save_pretrained(tmp_path)
    build(drop_rate=0.0).save_pretrained(tmp_path)  # as it says


# ------------------------------------------------------------------------------ JSON that is not ours

HOSTILE = [
    (dict(global_position=dict(type='os.system', command='exit')), "type='os.system' is not a registered Gl"),
    (dict(global_position=dict(type='antigravity.fly')), "type='antigravity.fly' is not a registered Glob"),
    (dict(local_position=dict(type='GlobalPositionEmbedding')), 'is not a registered LocalPosition'),
    (dict(global_position=[1]), "type='None' is not a registered GlobalPosition"),
    (
        dict(global_position={**LEARNED, 'init_cfg': dict(type='Pretrained', checkpoint='http://x')}),
        'init_cfg',
    ),
    (dict(global_position=dict(type='GlobalPositionEmbedding', conv=dict(type='x'))), 'has conv, which'),
    (dict(init_cfg=dict(type='Pretrained', checkpoint='http://x/y.pth')), 'has init_cfg, which ResFormer'),
    (
        dict(pretrained='http://x/y.pth'),
        'has pretrained, which ResFormer does not have: its settings are arch',
    ),
    (dict(out_type=dict(type='os.system')), 'out_type is not a number, text or list'),
    (dict(out_type='everything'), "rejects: out_type='everything' is unknown"),
    (dict(drop_rate=float('nan')), 'rejects: drop_rate must be at least 0'),
    (dict(patch_size='8'), 'has settings that ResFormer rejects'),
    (dict(patch_size=16), r'patch_embed.proj.weight is \(48, 3, 8, 8\) instead of \(48, 3, 16, 16\)'),
    (dict(arch='small'), 'arch has embed_dims=384, the weights have 48'),
    (dict(arch={**ARCH, 'num_layers': 10**12}), 'arch has num_layers=1000000000000, the weights have 2'),
    (dict(arch={**ARCH, 'num_heads': 10**12}), 'arch has num_heads=1000000000000, the weights have 3'),
    (dict(arch={**ARCH, 'num_heads': '3'}), "num_heads='3' is not a whole number"),
    (dict(arch={**ARCH, 'depth': 3}), 'rejects: arch must have exactly the keys'),
    (dict(global_position={**LEARNED, 'grid_size': 10**5}), r'global_position.table is missing'),
    (dict(out_indices=[7]), 'rejects: out_indices contains 7'),
    (dict(_class_name='VideoResFormer'), "is of a 'VideoResFormer', not of a ResFormer: use from_pretrained"),
    (dict(_class_name=['os', 'system']), 'not of a ResFormer'),
]


@pytest.fixture(scope='module')
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('saved')
    build().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(('changes', 'message'), HOSTILE, ids=lambda value: str(value)[:50])
def test_settings_are_data(changes: dict, message: str, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, config = set(sys.modules), (saved / 'config.json').read_bytes()
    monkeypatch.setattr('os.system', lambda *args: pytest.fail('it was run'))
    edit(saved, **changes)
    try:
        with pytest.raises(CheckpointError, match=f'(config.json|safetensors).*{message}'):
            ResFormer.from_pretrained(saved)
    finally:
        (saved / 'config.json').write_bytes(config)
    assert set(sys.modules) == before  # nothing was imported


def test_a_table_of_another_size_is_not_resized(tmp_path: Path) -> None:
    build(global_position=LEARNED, local_position=None).save_pretrained(tmp_path)
    edit(tmp_path, global_position={**LEARNED, 'grid_size': 10**5})
    with pytest.raises(CheckpointError, match=r'table is \(1, 25, 48\) instead of \(1, 10000000000, 48\)'):
        ResFormer.from_pretrained(tmp_path)


def test_frames_that_the_weights_do_not_have(tmp_path: Path) -> None:
    build().save_pretrained(tmp_path)
    edit(tmp_path, _class_name='VideoResFormer', num_frames=10**9, attention_type='joint_space_time')
    missing = 'config.json does not describe model.safetensors: temporal_position.table is missing'
    for allow_missing in (False, True):
        with pytest.raises(CheckpointError, match=missing):
            VideoResFormer.from_pretrained(tmp_path, allow_missing=allow_missing)


@pytest.mark.parametrize(
    'text', [b'', b'{"arch": ', b'\xff\xfe\x00', b'[' * 100_000, b'1' * 5000, b' ' * 2**21]
)
def test_what_is_not_json(text: bytes, saved: Path) -> None:
    config = (saved / 'config.json').read_bytes()
    (saved / 'config.json').write_bytes(text)
    try:
        with pytest.raises(
            CheckpointError, match='config.json (is not valid JSON|has 2,097,152 bytes, too many)'
        ):
            ResFormer.from_pretrained(saved)
    finally:
        (saved / 'config.json').write_bytes(config)


# ------------------------------------------------------------------------------------ names


def test_names_of_the_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = sources.zoo_weights()
    assert zoo['resformer-small_mr-224-160-128_8xb128-300e_in1k'] is None
    with pytest.raises(
        CheckpointError, match='x is neither a file .*: .*resformer-tiny_mr-224-160-128_8xb128'
    ):
        ResFormer.from_pretrained('x')
    with pytest.raises(CheckpointError, match='for which no weights are published'):
        ResFormer.from_pretrained('resformer-base_224_8xb128-200e_in1k')
    with pytest.raises(
        CheckpointError, match="does not exist: give a path, or 'hf-hub:facebook/dinov2-small'"
    ):
        ResFormer.from_pretrained('facebook/dinov2-small')
    for name in ('a.pth', 'deep/er/a.safetensors', Path('resformer-base_224_8xb128-200e_in1k')):
        with pytest.raises(CheckpointError, match='does not exist: give the path of a checkpoint file'):
            ResFormer.from_pretrained(name)
    # With published weights: only from the cache.
    (tmp_path / 'meta.yml').write_text('Models: [{Name: ours, Weights: "https://host/a/ours-1234.pth"}]')
    (tmp_path / 'index.yml').write_text('Import: [meta.yml]')
    monkeypatch.setattr(sources, '_INDEX', tmp_path / 'index.yml')
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path))
    with pytest.raises(CheckpointError, match='at https://host/a/ours-1234.pth, and names are never downl'):
        ResFormer.from_pretrained('ours')
    model = build()
    write_checkpoint(dict(state_dict=model.state_dict()), tmp_path / 'checkpoints' / 'ours-1234.pth')
    assert same(model, ResFormer.from_pretrained('ours'))


def test_weights_in_several_files_are_named(tmp_path: Path) -> None:
    (tmp_path / 'model.safetensors.index.json').write_text('{"weight_map": {}}')
    for read in (ResFormer.from_pretrained, read_weights):
        with pytest.raises(
            CheckpointError, match='has weights in several files .model.safetensors.index.json'
        ):
            read(tmp_path)
    (tmp_path / 'model-00001-of-00002.safetensors').write_bytes(b'')
    (tmp_path / 'model-00001-of-00001.pth').write_bytes(b'')
    with pytest.raises(
        CheckpointError, match='has weights in several files .model-00001-of-00002.safetensors'
    ):
        ResFormer.from_pretrained(tmp_path / 'model-00001-of-00002.safetensors')
    with pytest.raises(CheckpointError, match='is empty'):  # the only part
        ResFormer.from_pretrained(tmp_path / 'model-00001-of-00001.pth')
    with pytest.raises(CheckpointError, match='without model.safetensors or pytorch_model.bin'):
        ResFormer.from_pretrained(tmp_path.parent)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the hub."""
    import huggingface_hub
    from huggingface_hub.utils import EntryNotFoundError

    def download(repo_id: str, filename: str, revision: str | None) -> str:
        file = tmp_path / repo_id / (revision or 'main') / filename
        if not file.is_file():
            raise EntryNotFoundError(filename)
        return str(file)

    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', download)
    return tmp_path


def test_repositories_of_the_hub(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = {name: build(patch_size=size) for name, size in (('main', 8), ('v2', 4))}
    for name, model in models.items():
        model.save_pretrained(hub / 'me' / 'ours' / name)
    assert same(models['main'], ResFormer.from_pretrained('hf-hub:me/ours'))
    assert same(models['v2'], ResFormer.from_pretrained('hf-hub:me/ours@v2'))
    # In a config, where it is written out: of the backbone, and of a runner.
    started = ResFormer(ARCH, 8, init_cfg=dict(type='Pretrained', checkpoint='hf-hub:me/ours'))
    started.init_weights()
    assert same(models['main'], started)
    secure_runner_loading()
    content = CheckpointLoader.load_checkpoint('hf-hub:me/ours@v2', 'cpu')
    assert torch.equal(content['state_dict']['norm.weight'], models['v2'].norm.weight)
    # Of another library: its config.json is not ours.
    other = hub / 'me' / 'other' / 'main'
    other.mkdir(parents=True)
    (other / 'config.json').write_text('{"model_type": "vit", "arch": "small"}')
    torch.save(models['main'].state_dict(), other / 'pytorch_model.bin')
    assert same(models['main'], ResFormer.from_pretrained('hf-hub:me/other'))
    (other / 'pytorch_model.bin').rename(other / 'pytorch_model.bin.index.json')
    with pytest.raises(CheckpointError, match='hf-hub:me/other has weights in several files'):
        ResFormer.from_pretrained('hf-hub:me/other')
    with pytest.raises(CheckpointError, match='hf-hub:me/none has neither model.safetensors nor'):
        ResFormer.from_pretrained('hf-hub:me/none')
    monkeypatch.setitem(sys.modules, 'huggingface_hub', ModuleType('huggingface_hub'))
    with pytest.raises(ImportError, match='hf-hub:me/ours needs the package huggingface_hub: pip install'):
        ResFormer.from_pretrained('hf-hub:me/ours')


def test_the_hub_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
    with pytest.raises(
        CheckpointError, match='hf-hub:me/ours cannot be fetched from the Hugging Face hub: .*'
    ):
        ResFormer.from_pretrained('hf-hub:me/ours')
    with pytest.raises(CheckpointError, match='hf-hub:a/b/c is not hf-hub:owner/name'):
        ResFormer.from_pretrained('hf-hub:a/b/c')
