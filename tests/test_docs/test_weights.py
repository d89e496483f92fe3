"""The table of weights and tasks is what loading does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pages import DOCS, blocks, tables
from torch import Tensor, nn
from vit_states import ARCH, dino_v3, renamed, timm_state

from resformer_mm.checkpoints import CheckpointError, load_pretrained
from resformer_mm.models import ResFormer, VideoResFormer

[TABLE] = [rows for rows in tables(DOCS / 'weights.md') if rows[0][1:2] == ['classification']]
TASKS = {
    'classification': lambda: ResFormer(ARCH),
    'segmentation': lambda: ResFormer(ARCH, out_type='featmap', final_norm=False),
    'detection': lambda: ResFormer(ARCH, out_type='featmap', final_norm=False, with_cls_token=False),
    'video': lambda: VideoResFormer(ARCH),
}


def classifier(name: str) -> nn.Module:
    model = nn.Module()
    model.backbone, model.head = TASKS[name](), nn.Module()
    model.head.fc = nn.Linear(48, 5)
    return model


def vit(*dropped: str, **added: Tensor) -> dict[str, Tensor]:
    state = {name: value for name, value in timm_state().items() if not name.startswith(dropped or ('-',))}
    return state | added


def layer_scale() -> dict[str, Tensor]:
    return {f'blocks.{index}.gamma_{part}': torch.ones(48) for index in (0, 1) for part in (1, 2)}


def published() -> dict[str, Tensor]:
    names = {'backbone.': '', 'head.fc': 'head', '.local_position.conv.': '.get_v.'}
    names['global_position.conv.'] = 'pos_embed.embed_layer.'
    state = {}
    for name, value in classifier('classification').state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        state[name] = value
    return state


def mae() -> dict[str, Tensor]:
    decoder = {'decoder_embed.weight': torch.ones(32, 48), 'decoder_pos_embed': torch.ones(1, 17, 32)}
    decoder |= {'decoder_blocks.0.attn.qkv.weight': torch.ones(96, 32)}
    return vit('head.') | decoder | {'mask_token': torch.ones(1, 1, 32)}


def saved(folder: Path) -> str:
    TASKS['classification']().save_pretrained(folder / 'saved')
    return str(folder / 'saved')


ROWS: dict[str, Callable] = {
    'ResFormer of the authors; a classifier trained here': published,
    'a backbone of `save_pretrained`': saved,
    'a `VideoResFormer`': lambda: TASKS['video']().state_dict(),
    'ViT and DeiT of timm': vit,
    'ViT of mmpretrain': lambda: renamed('mmpretrain or mmseg'),
    'ViT of Hugging Face': lambda: renamed('Hugging Face'),
    'ViT of mmseg': lambda: renamed('mmseg'),
    'DeiT III': lambda: vit() | layer_scale(),
    'DINO': lambda: renamed('DINO'),
    'MoCo v3': lambda: renamed('MoCo'),
    'MAE': mae,
    'MAE, fine-tuned on the mean of the patches (`fc_norm`)': lambda: (
        vit('norm.') | {'fc_norm.weight': torch.ones(48), 'fc_norm.bias': torch.ones(48)}
    ),
    'DINOv2': lambda: vit('head.') | layer_scale() | {'pos_embed': torch.ones(1, 1370, 48)},
    'DINOv2 with registers': lambda: (
        vit('head.')
        | layer_scale()
        | {'register_tokens': torch.ones(1, 4, 48), 'mask_token': torch.ones(1, 48)}
    ),
    'DINOv3': lambda: dino_v3('Meta'),
    'DINOv2 giant, DINOv3 S+, H+ and 7B (gated MLPs)': lambda: (
        vit('head.') | {'blocks.0.mlp.w12.weight': torch.ones(96, 48)}
    ),
    'DeiT with a distillation token': lambda: vit() | {'dist_token': torch.ones(1, 1, 48)},
    'BEiT, CLIP, SigLIP, SAM, Swin, convolutional networks': lambda: (
        vit() | {'blocks.0.attn.relative_position_bias_table': torch.ones(4, 3)}
    ),
}


def what_starts(path: Path | str, task: str) -> str:
    """The word of the table for what a model of a task takes from a file."""
    model = classifier(task)
    if task != 'classification':
        model.head = None
    try:
        report = load_pretrained(model, path)
    except CheckpointError as error:
        assert 'not a plain ViT' in str(error) or 'distilled' in str(error)
        return 'no'
    assert not report.unexplained_missing and not report.unexplained_unexpected
    missing = [name for name in report.missing if '.temporal_' not in name and not name.startswith('head.')]
    positions = [name for name in missing if '_position.' in name]
    rest = {name.split('.')[1] for name in missing} - {'global_position', 'blocks'}
    assert not [name for name in missing if name not in positions and '.norm.' not in f'.{name}']
    word = {(False, ()): 'backbone', (True, ()): 'ViT', (True, ('norm',)): 'blocks'}[
        bool(positions), (*rest,)
    ]
    if 'head.fc.weight' in report.matched:
        return 'all' if word == 'backbone' else f'{word}, head'
    return word


@pytest.mark.parametrize('row', TABLE[1:], ids=lambda row: row[0][:30])
def test_a_row_is_what_loading_does(row: list[str], tmp_path: Path) -> None:
    make = ROWS[row[0]]
    if make is saved:
        path = saved(tmp_path)
    else:
        path = tmp_path / 'a.pth'
        torch.save(make(), path)
    assert row[1:] == [what_starts(path, task) for task in TABLE[0][1:]]


def test_every_row_is_tried() -> None:
    assert TABLE[0] == ['weights', *TASKS]
    assert [row[0] for row in TABLE[1:]] == list(ROWS)


@pytest.mark.slow
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip('timm')
    monkeypatch.chdir(tmp_path)
    ResFormer('small').save_pretrained('vit.safetensors')
    namespace: dict = {}
    for code in blocks(DOCS / 'weights.md', 'python'):
        exec(compile(code, 'weights.md', 'exec'), namespace)
    assert [tuple(out.shape) for out in namespace['maps']] == [(1, 384, 14, 20)] * 4
    assert namespace['again'].out_type == 'featmap' and namespace['classifier'].num_classes == 10
