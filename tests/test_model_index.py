"""The index by which MIM finds the models agrees with the configs."""

from __future__ import annotations

from pathlib import Path

import modelindex
import pytest
import torch
import yaml
from mmengine.config import ConfigDict
from mmengine.registry import MODELS

from resformer_mm.apis import enter_scope, read_config

ROOT = Path(__file__).parents[1]
INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text())
MODELS_OF = {name: yaml.safe_load((ROOT / name).read_text())['Models'] for name in INDEX['Import']}
ENTRIES = [model for models in MODELS_OF.values() for model in models]


def without_initial_weights(config: object) -> object:
    """The config of a model without the files that it would start from."""
    if isinstance(config, dict):
        kept = {key: without_initial_weights(value) for key, value in config.items() if key != 'init_cfg'}
        return ConfigDict(kept)
    return config


def test_every_task_is_there() -> None:
    assert sorted(INDEX['Import']) == sorted(
        str(path.relative_to(ROOT)) for path in (ROOT / 'configs').glob('*/metafile.yml')
    )
    for file, models in MODELS_OF.items():
        assert models and {str(Path(model['Config']).parent) for model in models} == {str(Path(file).parent)}
    assert {Path(file).parent.name for file in MODELS_OF} == {
        'classification',
        'segmentation',
        'detection',
        'video',
    }
    names = [model['Name'] for model in ENTRIES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize('folder', ['.', 'resformer_mm/.mim'])
def test_the_library_of_mim_reads_it_without_complaint(folder: str) -> None:
    index = modelindex.load(str(ROOT / folder / 'model-index.yml'))
    assert [model.name for model in index.models] == [model['Name'] for model in ENTRIES]
    assert not [item for item in (index, *index.models, *index.collections) if item.check_errors]
    for model in index.models:
        assert model.full_model.metadata.data['Architecture'][0] == 'Vision Transformer'
        assert (ROOT / folder / model.config).is_file()


@pytest.mark.slow
@pytest.mark.parametrize('entry', ENTRIES, ids=lambda entry: entry['Name'])
def test_an_entry_is_its_config(entry: dict) -> None:
    assert Path(entry['Config']).stem == entry['Name']
    assert entry['In Collection'] in [collection['Name'] for collection in INDEX['Collections']]
    cfg = read_config(ROOT / entry['Config'])
    enter_scope(cfg)
    with torch.device('meta'):
        model = MODELS.build(without_initial_weights(cfg.model))
    assert sum(value.numel() for value in model.parameters()) == entry['Metadata']['Parameters']
