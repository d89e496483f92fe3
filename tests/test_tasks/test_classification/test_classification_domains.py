"""Classification of land and places from above: a training step, and the whole image in the test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from domain_files import write_class_folders
from mmengine.registry import FUNCTIONS
from mmpretrain.registry import DATASETS
from PIL import Image

from resformer_mm.apis import enter_scope, load_model, read_config

FOLDER = Path(__file__).parents[3] / 'configs' / 'classification'
CONFIGS = {
    'resformer-mini_mr-64-48-32_1xb64-10e_eurosat.py': 10,
    'resformer-small_mr-224-160-128_8xb32-50e_resisc45.py': 45,
}


@pytest.mark.parametrize('name', CONFIGS)
def test_a_training_step_and_a_prediction(name: str, tmp_path: Path) -> None:
    cfg, number = read_config(FOLDER / name), CONFIGS[name]
    enter_scope(cfg)
    data = write_class_folders(tmp_path / 'data', number)
    cfg.model.backbone.update(
        arch=dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48), init_cfg=None
    )
    cfg.model.head.in_channels = 24
    torch.manual_seed(0)
    model = load_model(cfg, device='cpu').train()
    dataset = DATASETS.build(dict(cfg.train_dataloader.dataset.to_dict(), data_root=str(data)))
    assert len(dataset.metainfo['classes']) == cfg.model.head.num_classes == number
    collate = FUNCTIONS.get(cfg.train_dataloader.collate_fn.type)
    batch = model.data_preprocessor(collate([dataset[0], dataset[number - 1]]), training=True)
    loss, parts = model.parse_losses(model(**batch, mode='loss'))
    loss.backward()
    assert loss.isfinite() and f'loss_cls_{cfg.resolutions[-1]}' in parts
    tested = DATASETS.build(dict(cfg.test_dataloader.dataset.to_dict(), data_root=str(data)))
    with torch.no_grad():
        (result,) = model.eval().test_step(collate([tested[number - 1]]))
    assert result.pred_score.shape == (number,) and result.gt_label.item() == number - 1


def test_the_test_shows_the_whole_image(tmp_path: Path) -> None:
    """A frame of one pixel around the image is still there."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[1:-1, 1:-1] = 255
    Image.fromarray(pixels).save(tmp_path / 'framed.png')
    cfg = read_config(FOLDER / 'resformer-mini_mr-64-48-32_1xb64-10e_eurosat.py')
    enter_scope(cfg)
    (tmp_path / 'val' / 'class').mkdir(parents=True)
    (tmp_path / 'framed.png').rename(tmp_path / 'val' / 'class' / 'framed.png')
    dataset = DATASETS.build(dict(cfg.test_dataloader.dataset.to_dict(), data_root=str(tmp_path)))
    assert np.array_equal(dataset[0]['inputs'].permute(1, 2, 0), pixels)
