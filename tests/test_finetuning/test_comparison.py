"""The three models of the quickstart on images of users."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mmengine.config import Config

from resformer_mm.apis import check_config, make_train_config
from resformer_mm.datasets.checks.task_check import CheckOptions
from resformer_mm.finetuning import FinetuningData, check_folder, prepare_data
from resformer_mm.finetuning.comparison import (
    check_splits,
    choose_epochs,
    choose_resolutions,
    choose_test_resolutions,
    compared_models,
    write_comparison,
)
from resformer_mm.synthetic import write_image_folder


def read(root: Path, out: Path) -> FinetuningData:
    task, sources, report = check_folder(root, out, CheckOptions(), 'classification')
    assert report.is_sound, report.text()
    return prepare_data(task, sources, out)


@pytest.fixture(scope='module')
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('photos')
    write_image_folder(root, num_train=40, num_val=20, size=40)
    return root


@pytest.mark.parametrize(
    ('sizes', 'expected'),
    [
        ([(500, 375), (224, 300)], (64, 48, 32)),
        ([(64, 64)], (64, 48, 32)),
        ([(32, 32)], (32, 24, 16)),
        ([(28, 40)], (24, 16)),
        ([(3, 9)], (16, 8)),
    ],
)
def test_resolutions_are_what_the_images_have(sizes, expected):
    assert choose_resolutions(sizes) == expected


def test_tested_sizes_surround_the_trained_ones():
    assert choose_test_resolutions(64) == (24, 32, 40, 48, 56, 64, 80, 96, 128)
    for side in range(2, 9):
        found = choose_test_resolutions(8 * side)
        assert found == tuple(sorted(set(found))) and all(size % 8 == 0 for size in found)
        assert found[0] < 8 * side and 8 * side in found and found[-1] == 16 * side


def test_larger_folders_are_seen_less_often():
    assert [choose_epochs(number) for number in (50, 2000, 2800, 10**6)] == [200, 14, 10, 10]


def test_baselines_see_the_largest_size_alone():
    several, *baselines = compared_models((32, 24, 16))
    assert [model.name for model in baselines] == ['ResFormer on 32', 'DeiT on 32']
    assert several.cost / baselines[0].cost == pytest.approx(1 + 9 / 16 + 1 / 4)
    assert [model.with_table for model in baselines] == [False, True]


@pytest.mark.parametrize('name', ['test', 'photos/test', 'testing'])
def test_a_test_split_alone_is_refused(name):
    with pytest.raises(ValueError, match='nothing is trained on a test split'):
        check_splits([name])
    check_splits([name, 'train'])


def test_configs_train_on_the_images(photos, tmp_path):
    """They pass the check before training, and their splits are those of the folder."""
    data = read(photos, tmp_path / 'data')
    models = write_comparison(tmp_path, data, 3)
    assert [model.resolutions for model in models.values()] == [(40, 32, 16), (40,), (40,)]
    for path, model in models.items():
        cfg = Config.fromfile(path)
        backbone, is_deit = cfg.model.backbone, path.stem == 'deit'
        assert cfg.train_dataloader.dataset.pipeline[1].resolutions == list(model.resolutions)
        assert cfg.model.head.num_classes == len(data.classes)
        assert (backbone.get('local_position', True) is None) == is_deit
        assert not is_deit or backbone.global_position.grid_size == 5
        assert cfg.train_cfg.max_epochs == cfg.param_scheduler[1].end == 3
        assert cfg.train_dataloader.batch_size == 40 and cfg.param_scheduler[0].end == 1
        assert cfg.optim_wrapper.type == 'OptimWrapper'
        for loader, split in (('train', 'train'), ('val', 'val'), ('test', 'val')):
            dataset = cfg[f'{loader}_dataloader'].dataset
            assert Path(dataset.data_root, dataset.data_prefix) == photos / split
        findings = check_config(make_train_config(path, work_dir=tmp_path / 'work'))
        assert findings.is_sound, findings.text()


def test_a_test_split_is_what_is_tested(photos, tmp_path):
    root = tmp_path / 'three'
    shutil.copytree(photos, root)
    shutil.copytree(root / 'val', root / 'test')
    path = next(iter(write_comparison(tmp_path, read(root, tmp_path / 'data'), 1)))
    cfg = Config.fromfile(path)
    assert Path(cfg.test_dataloader.dataset.data_prefix) == Path('test')
    assert Path(cfg.val_dataloader.dataset.data_prefix) == Path('val')


def test_a_folder_without_splits_is_split_alike_each_time(photos, tmp_path):
    texts = []
    for name in ('one', 'two'):
        out = tmp_path / name
        data = read(photos / 'train', out)
        assert data.num_train + data.num_val == 40 and data.num_val >= 6
        files = [set((out / f'{split}.txt').read_text().splitlines()) for split in ('train', 'val')]
        assert not files[0] & files[1] and len(files[0] | files[1]) == 40
        texts.append(files)
    assert texts[0] == texts[1]


def test_results_of_other_settings_are_not_taken_over(photos, tmp_path):
    data = read(photos, tmp_path / 'data')
    first = write_comparison(tmp_path, data, 3)
    assert list(write_comparison(tmp_path, data, 3)) == list(first)
    texts = [path.read_text() for path in first]
    with pytest.raises(FileExistsError, match='give another --work-dir'):
        write_comparison(tmp_path, data, 4)
    assert texts == [path.read_text() for path in first]
