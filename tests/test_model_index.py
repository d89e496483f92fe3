"""The index by which MIM finds the models agrees with the configs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import ConfigDict
from mmengine.registry import MODELS

from resformer_mm.apis import enter_scope, read_config

ROOT = Path(__file__).parents[1]
INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text())


def without_initial_weights(config: object) -> object:
    """The config of a model without the files that it would start from."""
    if isinstance(config, dict):
        kept = {key: without_initial_weights(value) for key, value in config.items() if key != 'init_cfg'}
        return ConfigDict(kept)
    return config


def test_every_task_is_there() -> None:
    tasks = {Path(model['Config']).parent.name for model in INDEX['Models']}
    assert tasks == {'classification', 'segmentation', 'detection', 'video'}
    names = [model['Name'] for model in INDEX['Models']]
    assert len(set(names)) == len(names)


@pytest.mark.slow
@pytest.mark.parametrize('entry', INDEX['Models'], ids=lambda entry: entry['Name'])
def test_an_entry_is_its_config(entry: dict) -> None:
    assert Path(entry['Config']).stem == entry['Name']
    assert entry['In Collection'] in [collection['Name'] for collection in INDEX['Collections']]
    cfg = read_config(ROOT / entry['Config'])
    enter_scope(cfg)
    with torch.device('meta'):
        model = MODELS.build(without_initial_weights(cfg.model))
    assert sum(value.numel() for value in model.parameters()) == entry['Metadata']['Parameters']
