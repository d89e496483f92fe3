"""Diagnoses of a small classifier, compared with the predictions of the inferencer."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import small_models
import torch
from PIL import Image
from runs import write_data

from resformer_mm.analysis.size_diagnosis import PARTS, Diagnosis, Scope, Subject, diagnose
from resformer_mm.analysis.size_diagnosis_pictures import draw_diagnoses
from resformer_mm.analysis.size_diagnosis_tables import format_tables, write_tables
from resformer_mm.apis import ClassificationInferencer, load_model

SIDES = [32, 64, 96]


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Config and checkpoint of a classifier, with 20 test images of ten classes."""
    folder = tmp_path_factory.mktemp('model')
    data = write_data(folder / 'data', num_train=10)
    config = small_models.classifier(10, data_root=str(data), data_prefix='val')
    config.resolutions = [64, 32]
    config.dump(folder / 'config.py')
    torch.manual_seed(0)
    torch.save(load_model(config).state_dict(), folder / 'weights.pth')
    return folder / 'config.py', folder / 'weights.pth'


@pytest.fixture(scope='module')
def diagnosis(model: tuple[Path, Path]) -> Diagnosis:
    return diagnose('small', Subject(*model), Scope(SIDES, batch_size=8, attention_images=6))


def row_of(diagnosis: Diagnosis, part: str, **identity: object) -> dict:
    rows = [row for row in diagnosis.rows[part] if identity.items() <= row.items()]
    assert len(rows) == 1
    return rows[0]


def test_accuracies_are_those_of_the_inferencer(model: tuple[Path, Path], diagnosis: Diagnosis) -> None:
    config, checkpoint = map(str, model)
    subject = Subject(config, checkpoint)
    assert (diagnosis.reference, list(diagnosis.trained_on)) == (64, [64, 32])
    inferencer = ClassificationInferencer(config, checkpoint)
    for side in SIDES:
        predicted = inferencer(subject.paths.tolist(), resolution=side)['predictions']
        right = [
            one['pred_label'] == label for one, label in zip(predicted, subject.labels.tolist(), strict=True)
        ]
        expected = pytest.approx(5 * sum(right))  # 20 images
        assert row_of(diagnosis, 'calibration', resolution=side)['accuracy'] == expected
        if side != 64:
            row = row_of(diagnosis, 'causes', resolution=side)
            assert row['accuracy_small' if side < 64 else 'accuracy_large'] == expected
            assert row['accuracy_large' if side < 64 else 'accuracy_small'] == pytest.approx(
                row_of(diagnosis, 'calibration', resolution=64)['accuracy']
            )


def test_causes_add_up(diagnosis: Diagnosis) -> None:
    assert [row['resolution'] for row in diagnosis.rows['causes']] == [32, 96]
    accuracies = {row['resolution']: row['accuracy'] for row in diagnosis.rows['calibration']}
    for row in diagnosis.rows['causes']:
        parts = [row[name] for name in ('positions', 'number_of_tokens', 'object_size', 'detail')]
        assert sum(parts) == pytest.approx(row['loss'])
        assert row['loss'] == pytest.approx(accuracies[64] - accuracies[row['resolution']])
        assert row['images'] == 20


def test_attention_and_features_have_every_block(diagnosis: Diagnosis) -> None:
    heads = {(row['resolution'], row['block'], row['head']) for row in diagnosis.rows['attention']}
    assert heads == {(side, block, head) for side in SIDES for block in (0, 1) for head in (0, 1)}
    assert all(0 < row['entropy'] <= 1.0001 for row in diagnosis.rows['attention'])
    for row in diagnosis.rows['features']:
        if row['resolution'] == 64:
            assert (row['cosine'], row['cka']) == (pytest.approx(1, abs=1e-4), pytest.approx(1, abs=1e-4))
        else:
            assert row['cka'] < 0.9999


def test_a_part_of_the_images(model: tuple[Path, Path]) -> None:
    subject = Subject(*model)
    found = diagnose('small', subject, Scope([48], reference=48, parts=['calibration'], max_images=5))
    assert list(found.rows) == ['calibration']
    assert subject.select(5).tolist() == [0, 5, 10, 14, 19]
    assert row_of(found, 'calibration', resolution=48)['images'] == 5


def test_tables_and_pictures(diagnosis: Diagnosis, tmp_path: Path) -> None:
    text = format_tables([diagnosis])
    for words in ('Points of accuracy lost', 'Calibration', 'Entropy of the attention', 'last block'):
        assert words in text
    files = write_tables([diagnosis, diagnosis], tmp_path)
    assert [file.name for file in files] == [f'{part}.csv' for part in PARTS]
    with open(files[0], newline='') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(diagnosis.rows['causes'])
    assert float(rows[0]['loss']) == pytest.approx(diagnosis.rows['causes'][0]['loss'], abs=1e-3)
    for file in draw_diagnoses([diagnosis, diagnosis], tmp_path / 'new'):
        with Image.open(file) as picture:
            assert min(picture.size) > 300
            assert len(picture.convert('RGB').getcolors(maxcolors=1 << 24)) > 50


def test_wrong_uses_are_named(model: tuple[Path, Path], tmp_path: Path) -> None:
    config, checkpoint = model
    with pytest.raises(ValueError, match='--parts: colour is not one of'):
        diagnose('small', Subject(config, checkpoint), Scope([64], parts=['colour']))
    bare = tmp_path / 'bare.py'
    bare.write_text(f'_base_ = {str(config)!r}\nresolutions = None\n')
    with pytest.raises(ValueError, match='give --reference'):
        diagnose('small', Subject(bare, checkpoint), Scope([64]))
    ragged = tmp_path / 'ragged.py'
    ragged.write_text(
        f'_base_ = {str(config)!r}\ntest_dataloader = dict(dataset=dict(pipeline=['
        "dict(type='resformer_mm.LoadImage'), dict(type='ResizeEdge', scale=64), dict(type='PackInputs')]))\n"
    )
    subject = Subject(ragged, checkpoint)
    Image.new('RGB', (80, 60)).save(tmp_path / 'wide.png')
    subject.paths[0] = str(tmp_path / 'wide.png')
    with pytest.raises(ValueError, match='different shapes'):
        diagnose('small', subject, Scope([64], parts=['calibration']))
    other = small_models.segmentor()
    other.dump(tmp_path / 'segmentor.py')
    torch.save(load_model(other).state_dict(), tmp_path / 'segmentor.pth')
    with pytest.raises(ValueError, match='but model is EncoderDecoder'):
        Subject(tmp_path / 'segmentor.py', tmp_path / 'segmentor.pth')
