"""The experiments on blood cells and on changes of scale: their data, and what their tests show a model."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from resformer_mm.apis import enter_scope
from resformer_mm.config.resolutions import pipeline_at_resolution

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / 'benchmarks' / 'experiments'


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)


@pytest.fixture
def experiment() -> ModuleType:
    return importlib.import_module('experiment')


def config(variant: object, path: Path) -> Config:
    path.write_text(variant.config_text(ROOT))
    cfg = Config.fromfile(path)
    enter_scope(cfg)
    return cfg


def through(transforms: list[dict], results: dict) -> dict:
    from mmengine.registry import TRANSFORMS

    for step in transforms:
        results = TRANSFORMS.build(step)(results)
    return results


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A smooth picture of 224 x 224 pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    path = tmp_path / 'picture.png'
    Image.fromarray(noise).resize((224, 224), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.mark.parametrize('side', [64, 24])
def test_shrunk_images_are_enlarged_again(experiment: ModuleType, picture: Path, side: int, tmp_path) -> None:
    variants = experiment.find_experiment('change_of_scale').variants
    with Image.open(picture) as image:
        short = int(side * 256 / 224)
        small = image.resize((short, short), Image.Resampling.BICUBIC)
    left = round((short - side) / 2)
    small = small.crop((left, left, left + side, left + side))
    for name, expected in (
        ('plain', small),
        ('plain+enlarged', small.resize((64, 64), Image.Resampling.BICUBIC)),
    ):
        cfg = config(variants[name], tmp_path / 'variant.py')
        pipeline = pipeline_at_resolution(cfg.test_dataloader.dataset.pipeline, side)
        found = through(pipeline, dict(img_path=str(picture), gt_label=0))['inputs'].permute(1, 2, 0).numpy()
        assert found.shape == (expected.height, expected.width, 3)
        # Images are BGR until the data preprocessor.
        assert np.abs(found[..., ::-1].astype(int) - np.asarray(expected, int)).max() <= 1


def test_half_of_the_training_images_are_shrunk_and_enlarged(
    experiment: ModuleType, picture: Path, tmp_path: Path
) -> None:
    variant = experiment.find_experiment('change_of_scale').variants['rescaled']
    cfg = config(variant, tmp_path / 'variant.py')
    _, copies, _ = cfg.train_dataloader.dataset.pipeline
    *_, choice, jitter = copies.transforms
    assert jitter.type == 'resformer_mm.ColorJitter'
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    changed = 0
    for seed in range(100):
        np.random.seed(seed)
        found = through([choice], dict(img=pixels.copy()))['img']
        assert found.shape == pixels.shape
        changed += not np.array_equal(found, pixels)
    assert 35 <= changed <= 65
    sample = through(cfg.train_dataloader.dataset.pipeline, dict(img_path=str(picture), gt_label=0))
    assert [tuple(copy.shape) for copy in sample['inputs']] == [(3, 64, 64)]


@pytest.mark.operators('mmseg')
def test_shrunk_pictures_with_label_maps_are_enlarged_again(experiment: ModuleType, tmp_path: Path) -> None:
    from segmentation_files import write_image, write_mask

    variants = experiment.find_experiment('change_of_scale_segmentation').variants
    image, mask = write_image(tmp_path / 'a.png', (256, 300)), write_mask(tmp_path / 'b.png', (256, 300))
    info = dict(img_path=str(image), seg_map_path=str(mask), reduce_zero_label=True, label_map=None)
    for name, height in (('mr', 64), ('mr+enlarged', 128)):
        cfg = config(variants[name], tmp_path / 'variant.py')
        pipeline = pipeline_at_resolution(cfg.test_dataloader.dataset.pipeline, 64)
        packed = through(pipeline, dict(info, seg_fields=[], num_classes=11))
        assert packed['inputs'].shape[1] == height
        assert packed['data_samples'].gt_sem_seg.data.shape == (1, 256, 300)


@pytest.mark.operators('mmdet')
def test_variants_on_blood_cells(experiment: ModuleType, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv('BCCD_ROOT', str(tmp_path))
    declared = experiment.find_experiment('blood_cells')
    for name, variant in declared.variants.items():
        cfg = config(variant, tmp_path / 'variant.py')
        sizes = next(step for step in cfg.train_pipeline if 'scales' in step).scales
        assert {min(size) for size in sizes} == set(variant.trained_on), name
        assert cfg.train_dataloader.dataset.pipeline == cfg.train_pipeline
        start = cfg.model.backbone.init_cfg
        assert (start is None) == (variant.starts_from is None)
        assert start is None or start.checkpoint == experiment.CHECKPOINT
        assert cfg.test_dataloader.dataset.data_root == str(tmp_path)
        assert cfg.test_evaluator.ann_file == str(tmp_path / 'annotations' / 'instances_test.json')


def test_a_folder_with_annotations(tmp_path: Path) -> None:
    image_data = importlib.import_module('image_data')
    data = image_data.AnnotatedFolder('BCCD_ROOT')
    with pytest.raises(image_data.DataError, match='--train-data is missing'):
        data.find(None, None)
    with pytest.raises(image_data.DataError, match=r'no .*instances_test\.json: .*convert_annotations\.py'):
        data.find(tmp_path, None)
    (tmp_path / 'annotations').mkdir()
    file = tmp_path / 'annotations' / 'instances_test.json'
    file.write_text(json.dumps(dict(images=[{}, {}, {}], annotations=[], categories=[])))
    found = data.find(tmp_path, None)
    assert found.test_images == 3
    assert found.train_variables == found.test_variables == {'BCCD_ROOT': str(tmp_path)}
