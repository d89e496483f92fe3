"""Aerial and medical segmentation: data and labels as mmsegmentation has them, and a training step."""

from __future__ import annotations

from pathlib import Path

import mmseg
import numpy as np
import pytest
import torch
from domain_files import write_domain_pairs
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import DATASETS, TRANSFORMS

from resformer_mm.apis import enter_scope, load_model, read_config

FOLDER = Path(__file__).parents[3] / 'configs' / 'segmentation'
STEM = 'resformer-small_mr-224-160-128_upernet'
# Data set -> config, file of mmsegmentation, transforms of the training that are those of mmsegmentation.
DOMAINS = {
    'loveDA': (f'{STEM}_8xb2-80k_loveda-512x512.py', 'loveda', slice(2, 5)),
    'potsdam': (f'{STEM}_8xb2-80k_potsdam-512x512.py', 'potsdam', slice(2, 5)),
    'iSAID': (f'{STEM}_8xb2-80k_isaid-896x896.py', 'isaid', slice(2, 5)),
    'synapse': (f'{STEM}_8xb3-80k_synapse-224x224.py', 'synapse', slice(2, 5)),
    'REFUGE': (f'{STEM}_8xb2-80k_refuge-512x512.py', 'refuge', slice(3, 5)),
}
SEVERAL = f'{STEM}-mr-512-384-256_8xb2-80k_loveda-512x512.py'


def read(name: str) -> Config:
    cfg = read_config(FOLDER / name)
    enter_scope(cfg)
    return cfg


def make_small(cfg: Config) -> None:
    """Make the model narrow, so that it can be trained here."""
    cfg.model.backbone.update(
        arch=dict(embed_dims=24, num_layers=12, num_heads=2, feedforward_channels=48), init_cfg=None
    )
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        channels = [24] * 4 if head is cfg.model.decode_head else 24
        head.update(channels=8, in_channels=channels, norm_cfg=dict(type='BN'))


def data_set(cfg: Config, loader: str, data: Path) -> object:
    settings = cfg[f'{loader}_dataloader'].dataset.to_dict()
    return DATASETS.build(dict(settings, data_root=str(data)))


@pytest.mark.parametrize('name', DOMAINS)
def test_all_but_the_loading_is_that_of_mmsegmentation(name: str) -> None:
    file, theirs, same = DOMAINS[name]
    ours = read(file)
    theirs = Config.fromfile(
        Path(mmseg.__file__).parent / '.mim' / 'configs' / '_base_' / 'datasets' / f'{theirs}.py'
    )
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        own, expected = ours[loader].dataset, theirs[loader].dataset
        assert own.type == expected.type and own.data_prefix == expected.data_prefix
        assert own.data_root == expected.data_root.rstrip('/') == f'data/{name}'
    assert ours.train_dataloader.dataset.pipeline[same] == theirs.train_pipeline[same]
    if name != 'REFUGE':  # whose images are made smaller here
        assert ours.test_pipeline[1] == theirs.test_pipeline[1]
    assert ours.test_evaluator == ours.val_evaluator == theirs.test_evaluator


@pytest.mark.parametrize('name', DOMAINS)
def test_labels_are_those_of_mmsegmentation(name: str, tmp_path: Path) -> None:
    cfg = read(DOMAINS[name][0])
    dataset = data_set(cfg, 'train', write_domain_pairs(tmp_path / name, 2))
    num_classes = len(dataset.metainfo['classes'])
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head.num_classes == num_classes
    load, load_labels = map(TRANSFORMS.build, cfg.train_dataloader.dataset.pipeline[:2])
    for index in range(len(dataset)):
        expected = LoadAnnotations()(load(dataset.get_data_info(index)))['gt_seg_map']
        found = load_labels(load(dataset.get_data_info(index)))['gt_seg_map']
        assert np.array_equal(found, expected)
        assert set(np.unique(found)) - {255} == set(range(num_classes))


@pytest.mark.parametrize('name', [*DOMAINS, SEVERAL])
def test_a_training_step_and_a_prediction(name: str, tmp_path: Path) -> None:
    file, folder = (DOMAINS[name][0], name) if name in DOMAINS else (name, 'loveDA')
    cfg, data = read(file), write_domain_pairs(tmp_path / folder, 2)
    make_small(cfg)
    torch.manual_seed(0)
    model = load_model(cfg, device='cpu').train()
    dataset = data_set(cfg, 'train', data)
    batch = model.data_preprocessor(pseudo_collate([dataset[0], dataset[1]]), training=True)
    loss, parts = model.parse_losses(model(**batch, mode='loss'))
    loss.backward()
    assert loss.isfinite() and ('loss_consistency_256' in parts) == (name == SEVERAL)
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
    model.eval()
    with torch.no_grad():
        (result,) = model.test_step(pseudo_collate([data_set(cfg, 'test', data)[0]]))
    assert result.pred_sem_seg.data.shape == result.gt_sem_seg.data.shape == (1, 48, 64)
