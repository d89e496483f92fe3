"""The video configs: sizes, recipe, the rules of the optimiser, pipelines at every resolution, swaps."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import TRANSFORMS
from torch import nn

from resformer_mm.apis import enter_scope, load_model, read_config
from resformer_mm.compat import prepare_mmaction
from resformer_mm.config.resolutions import pipeline_at_resolution

prepare_mmaction()
import mmaction  # noqa: E402
import mmaction.datasets  # noqa: E402, F401
from mmaction.structures import ActionDataSample  # noqa: E402

FOLDER = Path(__file__).parents[3] / 'configs' / 'video'
CONFIGS = sorted(path.name for path in FOLDER.glob('*kinetics400*.py'))
OURS = [name for name in CONFIGS if 'mmaction' not in name]
MR = 'resformer-base_mr-224-160-128_divST_8xb8-8x32x1-15e_kinetics400-rgb.py'
SPACE_TIME = 'resformer-base_mr-16x224-8x160-4x128_divST_8xb8-15e_kinetics400-rgb.py'
TEST_RESOLUTIONS = [96, 128, 160, 224, 288]

WIDTH, BLOCKS, CLASSES = 768, 12, 400
IMAGE_BACKBONE = 86_431_720 - (WIDTH + 1) * 1000  # ResFormer-B without its ImageNet head
HEAD = (WIDTH + 1) * CLASSES
TEMPORAL_BLOCK = 2 * WIDTH + 5 * WIDTH * (WIDTH + 1)  # norm; query, key, value, proj and temporal_fc
DIVIDED = IMAGE_BACKBONE + HEAD + BLOCKS * TEMPORAL_BLOCK
GPE, LPE = 10 * WIDTH, 10 * 64  # 3x3 depthwise convolutions with bias
TIMESFORMER = DIVIDED - GPE - BLOCKS * LPE + 197 * WIDTH + 8 * WIDTH


def read(name: str) -> Config:
    cfg = read_config(FOLDER / name)
    enter_scope(cfg)
    return cfg


def trained_resolutions(name: str) -> list[int]:
    """What the name of a config says."""
    sizes = re.search(r'_(?:mr-)?([\dx-]+)_', name)[1]
    return [int(size.rpartition('x')[2]) for size in sizes.split('-')]


@pytest.mark.parametrize('name', CONFIGS)
def test_number_of_parameters(name: str) -> None:
    with torch.device('meta'):  # counts need no memory
        model = load_model(read(name), device='meta')
    frames = 16 if name == SPACE_TIME else 8
    expected = DIVIDED + frames * WIDTH
    if 'spaceOnly' in name:
        expected = IMAGE_BACKBONE + HEAD
    elif 'jointST' in name:
        expected = IMAGE_BACKBONE + HEAD + 8 * WIDTH
    elif name.startswith('timesformer'):
        expected = TIMESFORMER
    number = sum(parameter.numel() for parameter in model.parameters())
    assert number == expected
    stated = re.search(r'([\d,]+) parameters', (FOLDER / name).read_text())
    assert stated is None or int(stated[1].replace(',', '')) == number


@pytest.mark.parametrize('name', CONFIGS)
def test_recipe(name: str) -> None:
    """That of mmaction2's own config of TimeSformer, wherever both say something."""
    cfg = read(name)
    theirs = Config.fromfile(
        Path(mmaction.__file__).parent
        / '.mim/configs/recognition/timesformer/timesformer_divST_8xb8-8x32x1-15e_kinetics400-rgb.py'
    )
    for field in ('optimizer', 'clip_grad'):
        assert cfg.optim_wrapper[field] == theirs.optim_wrapper[field]
    by_turns = 'turn-by-turn' in name or name == SPACE_TIME
    loop = dict(type='resformer_mm.TurnByTurnEpochLoop') if by_turns else {}
    assert cfg.param_scheduler == theirs.param_scheduler and cfg.train_cfg == {**theirs.train_cfg, **loop}
    assert cfg.auto_scale_lr == theirs.auto_scale_lr
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 64
    for loader, pipeline in ((cfg.val_dataloader, 'val_pipeline'), (cfg.test_dataloader, 'test_pipeline')):
        assert loader.dataset.pipeline[-4:-1] == theirs[pipeline][-4:-1]  # what follows decoding
        (sampling,) = (step for step in loader.dataset.pipeline if step['type'] == 'SampleFrames')
        assert sampling == theirs[pipeline][1]
    if name in OURS:
        assert cfg.model.backbone.get('drop_path_rate') == 0.1
        assert cfg.test_cfg.resolutions == TEST_RESOLUTIONS
        assert cfg.val_cfg.resolutions == cfg.resolutions == trained_resolutions(name)


def test_copies_of_the_space_time_config_cover_the_same_time() -> None:
    cfg = read(SPACE_TIME)
    assert {frames * gap for frames, gap in zip(cfg.num_frames, cfg.frame_interval)} == {256}
    assert len(cfg.num_frames) == len(cfg.frame_interval) == len(cfg.resolutions)
    assert cfg.model.backbone.num_frames == max(cfg.num_frames)


@pytest.mark.parametrize('name', [MR, *(name for name in CONFIGS if name not in OURS)])
def test_learning_rate_and_decay_of_every_parameter(name: str) -> None:
    cfg = read(name)
    with torch.device('meta'):
        model = load_model(cfg, device='meta')
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    found = {id(parameter): group for group in groups for parameter in group['params']}
    words = ('cls_token', 'global_position', 'local_position', 'temporal_position', 'pos_embed', 'time_embed')
    spared = 0
    for key, parameter in model.named_parameters():
        group = found.pop(id(parameter))
        free = any(word in key for word in words)
        spared += free
        assert (group['lr'], group['momentum'], group['nesterov']) == (0.005, 0.9, True), key
        assert group['weight_decay'] == (0.0 if free else 1e-4), key
    assert not found and spared == (2 + 2 * BLOCKS + 2 if name == MR else 3)


@pytest.fixture(scope='module')
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 300 frames of 64 x 48 pixels, which get brighter."""
    path = tmp_path_factory.mktemp('video') / 'clip.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 25, (64, 48))
    for t in range(300):
        writer.write(np.full((48, 64, 3), t * 255 // 300, dtype=np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize('name', CONFIGS)
def test_the_training_pipeline_runs(name: str, video: Path) -> None:
    cfg = read(name)
    pipeline = Compose([TRANSFORMS.build(step) for step in cfg.train_dataloader.dataset.pipeline])
    sample = pipeline(dict(filename=str(video), label=7, start_index=0, modality='RGB'))
    copies = sample['inputs'] if name in OURS else [sample['inputs']]
    frames = cfg.num_frames if name == SPACE_TIME else [8] * len(copies)
    expected = [(1, 3, t, r, r) for t, r in zip(frames, trained_resolutions(name), strict=True)]
    assert [tuple(copy.shape) for copy in copies] == expected
    for copy in copies:
        gaps = copy[0].float().mean(dim=(0, 2, 3)).diff()  # steps of time, as brightness
        assert gaps.min() > 0.7 * 256 / copy.shape[2] * 255 / 300
    assert sample['data_samples'].gt_label.tolist() == [7]
    assert sample['data_samples'].filename == str(video)


def clip(height: int = 90, width: int = 120, frames: int = 8) -> dict:
    imgs = [np.full((height, width, 3), t, dtype=np.uint8) for t in range(frames)]
    return dict(imgs=imgs, img_shape=(height, width), num_clips=1, clip_len=frames, modality='RGB', label=1)


def after_decoding(pipeline: list[dict]) -> Compose:
    decoder = next(i for i, step in enumerate(pipeline) if 'Decode' in step['type'])
    return Compose([TRANSFORMS.build(step) for step in pipeline[decoder + 1 :]])


@pytest.mark.parametrize('size', [(90, 120), (120, 90), (64, 64)], ids=str)
@pytest.mark.parametrize('resolution', TEST_RESOLUTIONS)
def test_three_crops_at_every_resolution(resolution: int, size: tuple[int, int]) -> None:
    cfg = read(MR)
    pipeline = pipeline_at_resolution(cfg.test_dataloader.dataset.pipeline, resolution)
    inputs = after_decoding(pipeline)(clip(*size))['inputs']
    assert tuple(inputs.shape) == (3, 3, 8, resolution, resolution)
    assert [int(value) for value in inputs[1, 0, :, 0, 0]] == list(range(8))
    pipeline = pipeline_at_resolution(cfg.val_dataloader.dataset.pipeline, resolution)
    assert tuple(after_decoding(pipeline)(clip(*size))['inputs'].shape) == (1, 3, 8, resolution, resolution)


def tiny(cfg: Config) -> nn.Module:
    cfg.model.backbone.update(arch=dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48))
    cfg.model.cls_head.in_channels = 24
    cfg.model.backbone.pop('init_cfg', None)
    torch.manual_seed(0)
    return load_model(cfg, device='cpu').train()


@pytest.mark.parametrize('name', OURS)
def test_every_parameter_receives_a_gradient(name: str) -> None:
    model = tiny(read(name))
    for block in model.backbone.blocks:
        if hasattr(block, 'temporal_fc'):
            nn.init.normal_(block.temporal_fc.weight, std=0.1)  # zero at the start, and nothing behind it
    frames = (8, 4, 2) if name == SPACE_TIME else (4, 4, 4)
    inputs = [
        torch.randint(0, 256, (2, 1, 3, t, size, size), dtype=torch.uint8)
        for t, size in zip(frames, (48, 32, 16))
    ]
    samples = [ActionDataSample().set_gt_label(label) for label in (3, 399)]
    data = model.data_preprocessor(dict(inputs=inputs, data_samples=samples), training=True)
    loss, logged = model.parse_losses(model.loss(**data))
    assert len([key for key in logged if key.startswith('loss_')]) == 5
    loss.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        # Behind the last attention over space no patch token reaches the class token.
        assert parameter.grad.abs().max() > 0 or 'blocks.1.attn.local_position' in key, key


@pytest.mark.slow
def test_asking_for_an_adapter_makes_mmaction2_importable() -> None:
    code = (
        "from mmengine.registry import MODELS\nprint(MODELS.get('resformer_mm.MultiResolutionRecognizer'))\n"
        'import mmaction.models'
    )
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=200)
    assert result.returncode == 0 and 'MultiResolutionRecognizer' in result.stdout, result.stderr


def test_the_backbone_in_a_config_of_mmaction2() -> None:
    """One line of mmaction2's own config changes; its resolution is then free."""
    path = '.mim/configs/recognition/timesformer/timesformer_divST_8xb8-8x32x1-15e_kinetics400-rgb.py'
    cfg = Config.fromfile(Path(mmaction.__file__).parent / path)
    cfg.model.backbone = dict(type='resformer_mm.VideoResFormer')
    enter_scope(cfg)
    model = tiny(cfg)
    for size in (48, 32):
        clips = torch.randint(0, 256, (2, 1, 3, 8, size, size), dtype=torch.uint8)
        samples = [ActionDataSample().set_gt_label(label) for label in (3, 399)]
        optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
        logged = model.train_step(dict(inputs=list(clips), data_samples=samples), optimizer)
        assert logged['loss'].isfinite()
    model.eval()
    with torch.no_grad():
        out = model.test_step(dict(inputs=[clips[0].repeat(3, 1, 1, 1, 1)], data_samples=samples[:1]))
    assert out[0].pred_score.shape == (400,) and float(out[0].pred_score.sum()) == pytest.approx(1, abs=1e-4)
