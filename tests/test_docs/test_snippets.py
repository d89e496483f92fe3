"""The Python of the pages that a newcomer follows runs as it is printed."""

from __future__ import annotations

import importlib
import runpy
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATA_SAMPLERS, DATASETS, MODELS, DefaultScope, init_default_scope
from pages import DOCS, README, ROOT, blocks
from PIL import Image
from torch import Tensor

from resformer_mm import libraries
from resformer_mm.apis import load_model, make_train_config
from resformer_mm.engine import TurnByTurnEpochLoop
from resformer_mm.models import LearnedPositionEmbedding
from resformer_mm.sweep import Point, SweepRecord, SweptModel

for library in ('mmpretrain', 'mmseg', 'mmdet'):
    pytest.importorskip(library)
# The recipes are one module, which has a task of mmseg.
recipes = pytest.mark.operators('mmseg')
PURE = '# pure-Python config'
ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
GRIDS = [(1, 1), (3, 5), (6, 2)]


def execute(page: Path) -> dict:
    """Run all Python of a page in one namespace, which is returned."""
    namespace: dict = {}
    for number, code in enumerate(blocks(page, 'python')):
        exec(compile(code, f'{page.name}, block {number}', 'exec'), namespace)
    return namespace


@pytest.mark.slow
def test_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    namespace = execute(README)
    assert capsys.readouterr().out == 'torch.Size([2, 384, 14, 20])\ntorch.Size([2, 384, 6, 6])\n'
    assert len(README.read_text(encoding='utf-8').splitlines()) < 120
    # The last snippet is what a config of a dense task holds.
    dense = MODELS.build(namespace['backbone'])
    assert [tuple(out.shape) for out in dense(torch.zeros(1, 3, 64, 32))] == [(1, 384, 4, 2)] * 4


def test_frozen_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip('sklearn')
    monkeypatch.chdir(tmp_path)
    execute(DOCS / 'frozen_features.md')
    assert '24 training and 16 validation images of 2 classes' in capsys.readouterr().out


@pytest.mark.slow
def test_the_story_of_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace = execute(DOCS / 'index.md')
    assert sorted(namespace['losses']) == [
        'loss_cls_32',
        'loss_cls_48',
        'loss_cls_64',
        'loss_consistency_32',
        'loss_consistency_48',
    ]
    assert [copy.shape for copy in namespace['sample']['img']] == [(64, 64, 3), (48, 48, 3), (32, 32, 3)]
    assert [tuple(copy.shape) for copy in namespace['batch']['inputs']] == [
        (2, 3, size, size) for size in (64, 48, 32)
    ]
    model = namespace['model']
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.fixture(scope='module')
def extension(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The module that the recipes build up, imported from a folder of its own."""
    folder = tmp_path_factory.mktemp('extension')
    blocks_ = blocks(DOCS / 'extending.md', 'python')
    snippets = [code for code in blocks_ if not code.startswith(('# config', PURE))]
    (folder / 'my_package.py').write_text('\n'.join(snippets), encoding='utf-8')
    tasks = dict(libraries.TASKS)
    sys.path.insert(0, str(folder))
    module = importlib.import_module('my_package')
    sys.path.remove(str(folder))
    yield module
    del sys.modules['my_package']
    libraries.TASKS.clear()
    libraries.TASKS.update(tasks)
    for registry in (MODELS, DATASETS, DATA_SAMPLERS):
        for key in [key for key, kind in registry.module_dict.items() if kind.__module__ == 'my_package']:
            del registry.module_dict[key]


@pytest.fixture(scope='module')
def configs() -> Config:
    """The configs of the recipes, merged."""
    snippets = [code for code in blocks(DOCS / 'extending.md', 'python') if code.startswith('# config')]
    merged = Config()
    for code in snippets:
        parsed = Config.fromstring(code.replace('custom_imports', 'imported'), '.py')
        merged.merge_from_dict(parsed.to_dict())
    return merged


def backbone(**kwargs) -> torch.nn.Module:
    model = MODELS.build(dict(type='resformer_mm.ResFormer', arch=ARCH, patch_size=8, **kwargs))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


@recipes
def test_recipes_are_named_by_their_config(extension: ModuleType, configs: Config) -> None:
    assert configs.imported.imports == [extension.__name__]
    with torch.device('meta'):
        model = MODELS.build(configs.model.backbone)
    assert type(model.global_position) is extension.LinearPosition
    assert {type(block.attn.local_position) for block in model.blocks} == {extension.NearnessBias}


@recipes
@pytest.mark.parametrize('kind', ['NeighbourMean', 'NearnessBias'])
def test_local_positions_start_without_effect_and_learn(extension: ModuleType, kind: str) -> None:
    torch.manual_seed(0)
    settings = dict(arch=ARCH, patch_size=8, type='resformer_mm.ResFormer')
    plain = MODELS.build(dict(settings, local_position=None))
    model = MODELS.build(dict(settings, local_position=dict(type=kind), out_type='featmap'))
    plain.out_type = 'featmap'
    model.load_state_dict(plain.state_dict(), strict=False)
    image = torch.randn(2, 3, 40, 24)
    (expected,), (out,) = plain(image), model(image)
    torch.testing.assert_close(out, expected)
    out.square().sum().backward()
    learned = [value for name, value in model.named_parameters() if 'local_position' in name]
    assert len(learned) == 2 and all(value.grad.abs().sum() > 0 for value in learned)


@recipes
def test_a_term_and_a_bias_are_what_they_say(extension: ModuleType) -> None:
    term = extension.NeighbourMean(8, 2)
    torch.nn.init.ones_(term.share)
    value = torch.randn(1, 12, 8)
    as_map = value.view(1, 3, 4, 8)
    torch.testing.assert_close(
        term(value, (3, 4)).view(1, 3, 4, 8)[:, 1, 2], as_map[:, 0:3, 1:4].mean((1, 2))
    )
    bias = extension.NearnessBias(8, 2)
    torch.nn.init.ones_(bias.slopes)
    scores = bias.attention_bias((3, 4), with_cls_token=True)
    assert scores.shape == (1, 2, 13, 13) and scores[0, 0, 0].abs().max() == 0
    torch.testing.assert_close(scores[0, 1, 1, 12], -torch.tensor(13.0).sqrt())  # two rows, three columns


@recipes
def test_a_rotation_makes_scores_depend_on_differences_of_places(extension: ModuleType) -> None:
    rotation = extension.AxialRotation(32, 2)
    query, key = (torch.randn(1, 2, 1, 16).expand(1, 2, 12, 16) for _ in range(2))
    query, key = rotation.rotate(query, key, (3, 4))
    scores = (query @ key.transpose(2, 3)).view(2, 3, 4, 3, 4)
    torch.testing.assert_close(scores[:, 0, 0, 1, 2], scores[:, 1, 1, 2, 3])
    torch.testing.assert_close(scores[:, 2, 0, 0, 1], scores[:, 2, 2, 0, 3])
    assert (scores[:, 0, 0, 1, 2] - scores[:, 0, 0, 2, 1]).abs().min() > 1e-4


@recipes
@pytest.mark.parametrize('kind', ['NeighbourMean', 'NearnessBias', 'AxialRotation'])
def test_local_positions_work_in_windows_and_padded_batches(extension: ModuleType, kind: str) -> None:
    windows = dict(window_size=3, window_block_indices=(0,))
    model = backbone(local_position=dict(type=kind), out_type='featmap', with_cls_token=False, **windows)
    small, large = torch.randn(1, 3, 24, 40), torch.randn(1, 3, 48, 40)
    batch = torch.cat((torch.nn.functional.pad(small, (0, 0, 0, 24)), large))
    (together,), (alone,) = model(batch, [(24, 40), (48, 40)]), model(small)
    torch.testing.assert_close(together[:1, :, :3], alone, atol=1e-4, rtol=1e-4)


@recipes
@pytest.mark.parametrize('kind', ['NeighbourMean', 'NearnessBias', 'AxialRotation'])
def test_local_positions_see_the_grid_of_a_frame(extension: ModuleType, kind: str) -> None:
    settings = dict(arch=ARCH, patch_size=8, local_position=dict(type=kind))
    image_model = backbone(local_position=dict(type=kind))
    video_model = MODELS.build(dict(type='resformer_mm.VideoResFormer', num_frames=4, **settings))
    video_model.load_state_dict(image_model.state_dict(), strict=False)
    image = torch.randn(2, 3, 24, 40)
    (expected,) = image_model(image)
    still = image[:, :, None].expand(-1, -1, 4, -1, -1)  # all of a fresh model's attention over time is zero
    torch.testing.assert_close(video_model(still), expected, atol=1e-5, rtol=1e-5)


@recipes
@pytest.mark.parametrize('grid', GRIDS)
def test_the_global_position_is_linear(extension: ModuleType, grid: tuple[int, int]) -> None:
    model = backbone(global_position=dict(type='LinearPosition'))
    position = model.global_position(grid)
    assert position.shape == (1, grid[0] * grid[1], 32)
    if min(grid) > 1:  # opposite corners are opposite places
        torch.testing.assert_close(position[0, 0], -position[0, -1])


@recipes
def test_the_consistency_loss(extension: ModuleType, configs: Config) -> None:
    loss = MODELS.build(configs.model.consistency)
    student, teacher = torch.randn(4, 8, requires_grad=True), torch.randn(4, 8, requires_grad=True)
    loss(student, teacher).backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None
    rotation, _ = torch.linalg.qr(torch.randn(8, 8))
    torch.testing.assert_close(loss(student @ rotation, 3 * student), torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(2 * loss(student, teacher), loss.distance(student, teacher))


@recipes
def test_the_schedule_rises_and_draws_as_configured(extension: ModuleType, configs: Config) -> None:
    settings = configs.train_dataloader.batch_sampler.to_dict()
    rising = DATA_SAMPLERS.get(settings.pop('type'))(range(100), batch_size=4, seed=0, **settings)
    drawn = [batch[0].resolution for batch in rising]
    assert len(drawn) == 25 and set(drawn) <= {64, 48, 32}
    rng = np.random.default_rng(0)
    assert {rising.draw(rng, 0, batch) for batch in range(50)} == {32}
    assert {rising.draw(rng, 20, batch) for batch in range(50)} == {32, 48}
    assert {rising.draw(rng, 200, batch) for batch in range(100)} == {32, 48, 64}


@recipes
def test_the_figure_shows_every_model_of_a_sweep(extension: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip('plotly')
    conditions = {'device': 'abacus', 'threads': 1, 'precision': 'float32', 'batch_size': 1, 'torch': '2'}
    record = SweepRecord(conditions)
    for name, offset in (('one', 0), ('two', 10)):
        points = {
            size: Point({'accuracy/top1': offset + size / 2}, size * 1e9, size * 2**20, [[0.01]])
            for size in (32, 64)
        }
        record.models.append(SweptModel(name, 'a.py', 'a.pth', 'x', [64], 1000, 100, points))
    record.save(tmp_path / 'sweep.json')
    figure = extension.draw_memory(tmp_path, tmp_path / 'memory.png')
    lines = {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in figure.axes[0].lines
    }
    assert lines == {'one': ([32, 64], [16, 32]), 'two': ([32, 64], [26, 42])}
    assert figure.axes[0].get_ylabel() == 'accuracy/top1'
    assert Image.open(tmp_path / 'memory.png').size[0] > 300


def depth_model() -> dict:
    """Config of a small depth estimator."""
    return dict(
        type='MultiResolutionDepth',
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[0.0] * 3, std=[1.0] * 3),
        backbone=dict(
            type='resformer_mm.ResFormer', arch=ARCH, patch_size=8, out_type='featmap', with_cls_token=False
        ),
        neck=dict(type='resformer_mm.SimpleFeaturePyramid', in_channels=32, out_channels=16, num_outs=4),
        decode_head=dict(
            type='VPDDepthHead', in_channels=[16] * 4, max_depth=10.0, embed_dim=8, feature_dim=64,
            num_deconv_layers=1, num_deconv_filters=(16,), loss_decode=dict(type='SiLogLoss'),
        ),
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    )  # fmt: skip


@recipes
def test_the_task_trains_on_copies_and_is_recognised(extension: ModuleType) -> None:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    init_default_scope('mmseg')
    model = MODELS.build(depth_model())
    sample = SegDataSample(gt_depth_map=PixelData(data=1 + 8 * torch.rand(1, 64, 64)))
    losses = model.loss([torch.randn(1, 3, size, size) for size in (64, 32)], [sample])
    assert set(losses) == {'loss_silog_64', 'loss_silog_32', 'loss_consistency_32'}
    sum(losses.values()).backward()
    task = libraries.task_of(Config(dict(model=depth_model(), default_scope='mmseg')))
    assert libraries.import_name(task.inferencer) is extension.DepthInferencer
    DefaultScope._instance_dict.clear()


@recipes
@pytest.mark.slow
def test_the_data_set_gives_copies(extension: ModuleType, configs: Config, tmp_path: Path) -> None:
    from mmpretrain.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    init_default_scope('mmpretrain')
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    (tmp_path / 'train.csv').write_text('path,label\na.png,3\n')
    settings = configs.train_dataloader.dataset.to_dict()
    dataset = DATASETS.build(
        {**settings, 'data_root': str(tmp_path), 'ann_file': str(tmp_path / 'train.csv')}
    )
    sample = dataset[0]
    copies: list[Tensor] = sample['inputs']
    assert [tuple(copy.shape) for copy in copies] == [(3, size, size) for size in (64, 48, 32)]
    assert sample['data_samples'].gt_label.item() == 3


@recipes
@pytest.mark.slow
def test_the_pure_python_config(
    extension: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    [command] = [code for code in blocks(DOCS / 'extending.md', 'bash') if 'print_config' in code]
    _, tool, *arguments = command.replace('\\\n', ' ').split()
    monkeypatch.setattr(sys, 'argv', [tool, str(ROOT / arguments[0]), *arguments[1:]])
    runpy.run_path(str(ROOT / tool), run_name='__main__')
    [code] = [code for code in blocks(DOCS / 'extending.md', 'python') if code.startswith(PURE)]
    (tmp_path / 'pure.py').write_text(code)
    cfg = make_train_config(tmp_path / 'pure.py', amp=True, auto_scale_lr=True)
    assert cfg.train_cfg.type is TurnByTurnEpochLoop and cfg.train_cfg.max_epochs == 30
    assert cfg.optim_wrapper.type == 'resformer_mm.AutocastOptimWrapper'
    model = load_model(cfg, device='cpu')
    assert type(model.consistency) is extension.RelationConsistency
    assert type(model.backbone.global_position) is LearnedPositionEmbedding
    again = Config.fromstring(cfg.pretty_text, '.py')
    assert again.model.consistency.type == 'my_package.RelationConsistency'
    assert again.optim_wrapper.optimizer.type == 'torch.optim.SGD'
