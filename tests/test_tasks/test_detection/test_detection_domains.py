"""Detection from drones and under the microscope: a training step and boxes on data in their layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from detection_models import NUM_CLASSES, losses, read, shrink
from domain_files import CELLS, VISDRONE, write_boxes
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from PIL import Image

from resformer_mm.apis import load_model
from resformer_mm.formats.conversion import read_annotations, write_annotations

DRONES = 'resformer-small_mr-224-160-128_faster-rcnn_8xb2-36e_visdrone.py'
CELLS_FASTER = 'resformer-mini_mr-64-48-32_faster-rcnn_1xb8-12e_bccd.py'
CELLS_FCOS = 'resformer-mini_mr-64-48-32_fcos_1xb8-12e_bccd.py'
CELLS_RETINANET = 'resformer-mini_mr-64-48-32_retinanet_1xb8-12e_bccd.py'
CELLS_ONE_SIZE = 'resformer-mini_64_fcos_1xb8-12e_bccd.py'


def data_set(cfg: Config, loader: str, root: Path) -> object:
    return DATASETS.build(dict(cfg[f'{loader}_dataloader'].dataset.to_dict(), data_root=str(root)))


def step(cfg: Config, data: Path) -> None:
    """Train a step on two images, and predict boxes of a test image."""
    torch.manual_seed(0)
    model = load_model(cfg, device='cpu').train()
    dataset = data_set(cfg, 'train', data)
    loss, _ = losses(model, pseudo_collate([dataset[0], dataset[1]]))
    loss.backward()
    assert loss.isfinite()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
    with torch.no_grad():
        (result,) = model.eval().test_step(pseudo_collate([data_set(cfg, 'test', data)[0]]))
    assert 'bboxes' in result.pred_instances and 'masks' not in result.pred_instances


def write_voc(root: Path) -> Path:
    """Write two photos per split of noise with a cell of each kind, in Pascal VOC's format."""
    for folder in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (root / folder).mkdir(parents=True)
    for number, split in enumerate(['train'] * 2 + ['val'] * 2 + ['test'] * 2):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / 'JPEGImages' / f'{number}.jpg')
        boxes = ''.join(
            f'<object><name>{cell}</name><bndbox><xmin>{1 + 20 * place}</xmin><ymin>{11 + number}</ymin>'
            f'<xmax>{16 + 20 * place}</xmax><ymax>30</ymax></bndbox></object>'
            for place, cell in enumerate(CELLS)
        )
        size = '<size><width>64</width><height>48</height><depth>3</depth></size>'
        text = f'<annotation><filename>{number}.jpg</filename>{size}{boxes}</annotation>'
        (root / 'Annotations' / f'{number}.xml').write_text(text)
        with (root / 'ImageSets' / 'Main' / f'{split}.txt').open('a') as file:
            file.write(f'{number}\n')
    return root


@pytest.fixture(scope='module')
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of cells, converted as docs/domains.md says."""
    root = tmp_path_factory.mktemp('cells')
    out = root / 'coco'
    out.mkdir()
    write_annotations(read_annotations(write_voc(root / 'voc')), out, 'coco', 'copy')
    return out


@pytest.mark.parametrize('name', [CELLS_FASTER, CELLS_FCOS, CELLS_RETINANET])
def test_blood_cells(name: str, cells: Path) -> None:
    cfg = read(name)
    assert cfg.num_classes == NUM_CLASSES == len(CELLS)
    for loader, split in (('train', 'train'), ('val', 'val'), ('test', 'test')):
        dataset = data_set(cfg, loader, cells)
        assert dataset.metainfo['classes'] == CELLS and len(dataset) == 2
        assert all(f'/{split}/' in dataset.get_data_info(index)['img_path'] for index in range(2))
        # Coordinates of VOC count from 1.
        first = dataset.get_data_info(0)['instances'][0]
        assert first['bbox'][0] == 0 and first['bbox'][2] == 16
    step(shrink(cfg), cells)


def test_training_sizes_of_cells(cells: Path) -> None:
    for name, expected in ((CELLS_FCOS, {128, 160, 192}), (CELLS_ONE_SIZE, {192})):
        dataset, seen = data_set(read(name), 'train', cells), set()
        for seed in range(12):
            np.random.seed(seed)
            seen.add(min(dataset[0]['inputs'].shape[1:]))
        assert seen == expected


def test_objects_from_drones(tmp_path: Path) -> None:
    data = write_boxes(tmp_path, VISDRONE, ('train', 'val'), 2)
    cfg = read(DRONES)
    assert data_set(cfg, 'train', data).metainfo['classes'] == tuple(VISDRONE)
    assert cfg.model.roi_head.bbox_head.num_classes == len(VISDRONE)
    assert cfg.model.test_cfg.rcnn.max_per_img == 500
    cfg = shrink(cfg)
    cfg.model.roi_head.bbox_head.num_classes = len(VISDRONE)
    for transform in (cfg.train_dataloader.dataset.pipeline[3], cfg.test_dataloader.dataset.pipeline[1]):
        transform.update(scales=[(96, 64)]) if 'scales' in transform else transform.update(scale=(96, 64))
    step(cfg, data)
