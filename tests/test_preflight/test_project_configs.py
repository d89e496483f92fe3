"""The check before training says nothing about the configs of the project, on small data of their layouts."""

from __future__ import annotations

from copy import deepcopy
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_files import write_clip
from detection_files import annotation, write_content
from domain_files import SIZE, write_class_folders, write_domains
from mmdet.datasets import CocoDataset
from mmengine.registry import MODELS
from runs import ROOT, data_roots
from segmentation_files import write_image, write_mask
from torch import nn
from torch.utils.data import DataLoader

from resformer_mm.apis import check_config, make_train_config
from resformer_mm.preflight import batch_norm, classes, initial_weights, run, samples, subject
from resformer_mm.preflight.subject import Subject

CONFIGS = sorted(
    path.relative_to(ROOT / 'configs').as_posix()
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)
LOADERS: dict[str, dict[str, DataLoader]] = {}
OF_THE_DATA = (
    batch_norm.check_batch_norm,
    classes.check_labels,
    samples.check_annotations,
    samples.check_loaders,
    samples.check_values,
)


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small data where the configs look for it, with every class."""
    root = tmp_path_factory.mktemp('data')
    write_class_folders(root / 'data' / 'imagenet', 1000)
    write_class_folders(root / 'data' / 'mini', 10, number=10)  # as many as few labels are chosen from
    write_domains(root)
    write_label_maps(root / 'data' / 'ade' / 'ADEChallengeData2016', list(range(151)))
    maps = root / 'data' / 'mini_segmentation'
    write_label_maps(maps, list(range(12)))
    (maps / 'classes.txt').write_text('\n'.join(f'class {n}' for n in range(12)))
    write_objects(root / 'data' / 'coco', CocoDataset.METAINFO['classes'])
    write_objects(root / 'data' / 'mini_detection', tuple('abcde'))
    write_list(root / 'data' / 'kinetics400', 400, 'kinetics400_{}_list_videos.txt', 'videos_{}')
    write_list(root / 'data' / 'mini_video', 6, '{}_list.txt', '')
    return root


def write_label_maps(root: Path, values: list[int]) -> None:
    mask = np.resize(values, SIZE).astype(np.uint8)
    for split in ('training', 'validation'):
        for name in 'abcdefgh':
            write_image(root / 'images' / split / f'{name}.jpg', SIZE)
            write_mask(root / 'annotations' / split / f'{name}.png', mask)


def write_objects(root: Path, names: tuple[str, ...]) -> None:
    images = [dict(id=n, file_name=f'{n}.jpg', height=SIZE[0], width=SIZE[1]) for n in range(1, 9)]
    objects = [annotation(n, n % 8 + 1, n) for n in range(1, len(names) + 1)]
    categories = [dict(id=n, name=name) for n, name in enumerate(names, 1)]
    for split in ('train2017', 'val2017'):
        for image in images:
            write_image(root / split / image['file_name'], SIZE)
        write_content(root, dict(images=images, annotations=objects, categories=categories), split)


def write_list(root: Path, num_classes: int, name: str, folder: str) -> None:
    for split in ('train', 'val'):
        path = Path(folder.format(split)) / f'{split}.mp4'
        write_clip(root / path, 24)
        lines = [f'{path.name} {label}\n' for label in range(num_classes)]
        (root / name.format(split)).write_text(''.join(lines))


class Sketch(Subject):
    """A run whose weights are not computed, of many samples; runs on the same data share loaders."""

    loaders: dict[str, DataLoader] = {}

    @cached_property
    def _built_model(self) -> nn.Module:
        # Backbones of mmpretrain read their rates of stochastic depth out of a tensor.
        backbone = self.cfg.model.get('backbone', {}).get('type', 'resformer_mm.')
        with torch.device('meta' if backbone.startswith('resformer_mm.') else 'cpu'):
            model = MODELS.build(deepcopy(self.cfg.model))
        preprocessor = MODELS.build(deepcopy(self.cfg.model.data_preprocessor))
        for name, part in preprocessor.named_modules():
            model.data_preprocessor.get_submodule(name)._buffers.update(part._buffers)
        return model

    @property
    def samples_per_process(self) -> int:
        return 100_000  # a warm-up is longer than a training on so few images

    def loader(self, split: str) -> DataLoader:
        if split not in self.loaders:
            self.loaders[split] = super().loader(split)
        return self.loaders[split]


@pytest.mark.parametrize('name', CONFIGS)
def test_the_configs_of_the_project_have_no_findings(name: str, data: Path, monkeypatch) -> None:
    """Configs of the same data differ in the rest alone, so their data are read once."""
    monkeypatch.chdir(data)
    for variable in data_roots(data):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(run, 'Subject', Sketch)
    monkeypatch.setattr(subject, 'NUM_SAMPLES', 1)
    cfg = make_train_config(ROOT / 'configs' / name, cfg_options={'train_dataloader.num_workers': 0})
    loaders = [cfg[f'{split}_dataloader'] for split in ('train', 'val', 'test')]
    data_of_the_run = str([*loaders, cfg.model.data_preprocessor])
    left_out = OF_THE_DATA if data_of_the_run in LOADERS else ()
    # The checkpoints that they start from are those of other runs.
    left_out = (initial_weights.check_start, *left_out)
    monkeypatch.setattr(run, 'CHECKS', [check for check in run.CHECKS if check not in left_out])
    monkeypatch.setattr(Sketch, 'loaders', LOADERS.setdefault(data_of_the_run, {}))
    assert check_config(cfg).findings == []
