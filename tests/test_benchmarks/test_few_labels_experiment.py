"""The declared trainings with few labels: their data, their lengths, and what they start from."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
from mmengine.config import Config

ROOT = Path(__file__).parents[2]


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / 'benchmarks' / 'experiments')
    return importlib.import_module('few_labels')


def config(variant: object, folder: Path) -> Config:
    (folder / 'variant.py').write_text(variant.config_text(ROOT))
    return Config.fromfile(folder / 'variant.py')


def test_trainings_differ_in_labels_and_starts_alone(declared: ModuleType, tmp_path: Path) -> None:
    variants = declared.EXPERIMENT.variants
    for name, variant in variants.items():
        if not name[0].isdigit():
            continue
        cfg = config(variant, tmp_path)
        number, *parts = name.split('-')
        dataset = cfg.train_dataloader.dataset
        dataset = dataset.get('dataset', dataset)
        assert dataset.per_class == int(number) and 'choice_seed' not in dataset
        assert (cfg.model.type == 'resformer_mm.SemiSupervisedClassifier') == ('semi' in parts)
        starts = [part for part in parts if part in ('byol', 'mae')]
        assert [variant.starts_from] == (starts or [None])
        assert cfg.model.backbone.get('init_cfg', {}).get('checkpoint') == (
            declared.CHECKPOINT if starts else None
        )
        assert tuple(cfg.resolutions) == variant.trained_on


def test_all_take_about_as_many_steps(declared: ModuleType, tmp_path: Path) -> None:
    """Of 64 images, of which a semi-supervised training has 48 unlabelled ones, out of 2,000."""
    experiment = declared.EXPERIMENT
    for name, variant in experiment.variants.items():
        if not variant.is_tested:
            assert variant.starts_from is None
            continue
        cfg = config(variant, tmp_path)
        samples, batch = 2000, cfg.train_dataloader.batch_size
        if 'semi' in name:
            batch -= cfg.train_dataloader.sampler.labelled
        elif name != 'all':
            dataset = cfg.train_dataloader.dataset
            samples = 10 * dataset.dataset.per_class * dataset.times
        steps = (variant.schedule or experiment.schedule).length * samples / batch
        assert steps == pytest.approx(320, rel=0.08), name
