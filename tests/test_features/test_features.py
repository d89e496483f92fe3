"""Features of images: what is extracted, stored and said of them."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import Compose, pseudo_collate
from PIL import Image
from small_models import classifier, save_checkpoint, segmentor

from resformer_mm.apis import load_model
from resformer_mm.features import (
    Features,
    FrozenBackbone,
    LabelledImages,
    backbone,
    evaluate,
    extract,
    patch_map,
    read_features,
)
from resformer_mm.inference.sources import InputError
from resformer_mm.models import ResFormer

for library in ('mmpretrain', 'sklearn'):
    pytest.importorskip(library)


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> LabelledImages:
    """Noise of other sizes and shapes than the model sees, `{train,val}/{a,b}/*.png`."""
    root = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for name in ('a', 'b'):
            (root / split / name).mkdir(parents=True)
            for index in range(3):
                pixels = rng.integers(0, 256, (50 + 20 * index, 90, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / name / f'{index}.png')
    settings = dict(type='resformer_mm.ImageFolder', data_root=str(root))
    return LabelledImages.of_settings(dict(settings, data_prefix='train'), dict(settings, data_prefix='val'))


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(classifier(), tmp_path_factory.mktemp('weights') / 'classifier.pth')


def test_images_of_data_sets(images):
    assert images.classes == ('a', 'b') and images.splits == ['train'] * 6 + ['val'] * 6
    assert images.labels == [0, 0, 0, 1, 1, 1] * 2 and images.paths[4].endswith('train/b/1.png')


@pytest.mark.parametrize('block', [-1, 0])
def test_features_are_the_tokens_of_the_model(images, trained, block):
    model = FrozenBackbone.of_config(classifier(), trained, 'cpu')
    features = extract(model, images, [32, 48], block, batch_size=5)
    assert features.resolutions == [32, 48] and features.settings['block'] == block % 2
    reference = load_model(classifier(), trained, 'cpu')
    reference.backbone.out_type, reference.backbone.out_indices = 'raw', (block % 2,)
    for side in (32, 48):
        crop = dict(type='resformer_mm.ResizeCenterCrop', resolution=side)
        pipeline = Compose([dict(type='resformer_mm.LoadImage'), crop, dict(type='PackInputs')])
        for place in (0, 5, 11):
            sample = pseudo_collate([pipeline(dict(img_path=images.paths[place]))])
            with torch.no_grad():
                (tokens,) = reference.backbone(reference.data_preprocessor(sample)['inputs'])
            expected = dict(class_token=tokens[0, 0], patch_mean=tokens[0, 1:].mean(0))
            for kind, value in expected.items():
                found = torch.from_numpy(features.values[side, kind][place])
                torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_features_in_sixteen_bits_are_those_of_autocast(images, trained, monkeypatch):
    one = LabelledImages(images.paths[:1], [0], ['train'], ('a',))
    expected = extract(FrozenBackbone.of_config(classifier(), trained, 'cpu'), one, [48])
    reference = load_model(classifier(), trained, 'cpu')
    crop = dict(type='resformer_mm.ResizeCenterCrop', resolution=48)
    pipeline = Compose([dict(type='resformer_mm.LoadImage'), crop, dict(type='PackInputs')])
    sample = pseudo_collate([pipeline(dict(img_path=one.paths[0]))])
    with torch.autocast('cpu', torch.bfloat16):
        (tokens,), _ = reference.backbone.forward_tokens(reference.data_preprocessor(sample)['inputs'])
    cast = dict(class_token=tokens[:, 0].numpy(), patch_mean=tokens[:, 1:].mean(1).numpy())

    monkeypatch.setattr(backbone, 'half_pays', lambda *_: True)
    options = {'inference_dtype': 'bfloat16'}
    configured = FrozenBackbone.of_config(classifier(), trained, 'cpu', options)
    alone = FrozenBackbone.of_weights(trained, device='cpu', dtype='bfloat16')
    assert configured.sha256 == expected.settings['weights_sha256']
    for model in (configured, alone):
        features = extract(model, one, [48])
        assert features.settings['dtype'] == 'bfloat16' and expected.settings['dtype'] == 'float32'
        for (side, kind), value in features.values.items():
            np.testing.assert_allclose(value, cast[kind], rtol=1e-4, atol=1e-4)
            wanted = expected.values[side, kind]
            assert np.linalg.norm(value - wanted) > 3 * np.linalg.norm(value - cast[kind])
            assert np.linalg.norm(value - wanted) < 0.02 * np.linalg.norm(wanted)
    assert patch_map(configured, one.paths[0], 48).features.dtype == np.float32
    monkeypatch.setattr(backbone, 'half_pays', lambda *_: False)  # where it would be emulated
    model = FrozenBackbone.of_config(classifier(), trained, 'cpu', options)
    np.testing.assert_array_equal(
        extract(model, one, [48]).values[48, 'patch_mean'], expected.values[48, 'patch_mean']
    )


@pytest.mark.operators('mmseg')
def test_weights_alone_and_dense_models_are_cropped(images, trained, tmp_path):
    model = FrozenBackbone.of_weights(trained, device='cpu')
    configured = FrozenBackbone.of_config(classifier(), trained, 'cpu')
    assert model.sha256 == configured.sha256 and model.is_cropped
    two = LabelledImages(images.paths[:2], [0, 1], ['train', 'val'], ('a', 'b'))
    expected = extract(configured, two, [48]).values
    for key, value in extract(model, two, [48]).values.items():
        np.testing.assert_allclose(value, expected[key], rtol=1e-4, atol=1e-4)
    (tokens,) = patch_map(model, two.paths[0], 48).features.mean(axis=(0, 1))[None]
    np.testing.assert_allclose(tokens, expected[48, 'patch_mean'][0], rtol=1e-4, atol=1e-4)

    dense = FrozenBackbone.of_config(segmentor(), save_checkpoint(segmentor(), tmp_path / 's.pth'), 'cpu')
    assert dense.is_cropped and dense.to_rgb and dense.mean == pytest.approx(model.mean)
    assert extract(dense, two, [32]).values[32, 'patch_mean'].shape == (2, 32)
    with pytest.raises(ValueError, match='of a ResFormer for images'):
        cfg = classifier()
        cfg.model.backbone = dict(type='VisionTransformer', arch='deit-tiny', img_size=32, patch_size=16)
        cfg.model.head.in_channels = 192
        FrozenBackbone.of_config(cfg, save_checkpoint(cfg, tmp_path / 'v.pth'), 'cpu')


def test_an_image_that_cannot_be_read_is_named(images, trained, tmp_path):
    (tmp_path / 'broken.png').write_bytes(b'not an image')
    broken = LabelledImages([str(tmp_path / 'broken.png')], [0], ['train'], ('a',))
    with pytest.raises(InputError, match='cannot read .*broken.png .* repair or remove'):
        extract(FrozenBackbone.of_weights(trained, device='cpu'), broken, [32])


def made_up(number: int = 40) -> Features:
    """Features that tell three classes apart at 32 pixels, and not at 16."""
    rng = np.random.default_rng(0)
    labels = np.array([0, 0, 1, 2] * (number // 4))
    noise = rng.normal(size=(number, 4)).astype(np.float32)
    apart = 0.01 * noise + np.eye(4, dtype=np.float32)[labels]
    values = {(16, 'patch_mean'): noise, (32, 'patch_mean'): apart}
    splits = ['train'] * (number // 2) + ['val'] * (number // 2)
    paths = [f'/data/{"abc"[label]}/{place:02}x.png' for place, label in enumerate(labels)]
    return Features(paths, labels, splits, ('a', 'b', 'c'), values, dict(model='m', mean=(1.0,), std=None))


def test_scores(tmp_path):
    evaluation = evaluate(made_up(), number=3)
    scores = {(score.resolution, score.classifier): score for score in evaluation.scores}
    assert scores[32, 'k-NN'].accuracy == scores[32, 'linear probe'].accuracy == 100
    assert scores[32, 'k-NN'].standard_error == 0 and evaluation.majority == 50
    weak = scores[16, 'k-NN']
    share = weak.correct / 20
    assert weak.samples == 20 and 0 < share < 1
    # That of the mean of as many zeros and ones.
    outcomes = np.repeat([1.0, 0.0], [weak.correct, 20 - weak.correct])
    assert weak.standard_error == pytest.approx(100 * outcomes.std() / np.sqrt(20))
    text = evaluation.text()
    assert '100.0 ± 0.0' in text and '20 training and 20 validation images of 3 classes' in text
    evaluation.write(tmp_path, dict(weights_sha256='abc'))
    rows = list(csv.DictReader((tmp_path / 'scores.csv').open()))
    content = json.loads((tmp_path / 'scores.json').read_text())
    assert [float(row['accuracy']) for row in rows] == [score['accuracy'] for score in content['scores']]
    assert content['settings'] == dict(weights_sha256='abc') and len(rows) == 4


def test_validation_images_choose_nothing():
    known, changed = made_up(), made_up()
    changed.labels[20:] = 0
    settings = [[score.setting for score in evaluate(one, 3).scores] for one in (known, changed)]
    assert settings[0] == settings[1]


def test_files_of_features(tmp_path, monkeypatch):
    features = made_up()
    features.save(tmp_path / 'features.npz')
    stored = read_features(tmp_path / 'features.npz')
    for name in ('paths', 'splits', 'classes'):
        assert getattr(stored, name) == getattr(features, name)
    assert stored.settings == dict(model='m', mean=[1.0], std=None)
    assert (stored.labels == features.labels).all() and stored.values.keys() == features.values.keys()
    for key, value in features.values.items():
        assert np.array_equal(stored.values[key], value) and stored.values[key].dtype == np.float32
    np.savez(tmp_path / 'other.npz', x=np.ones(2))
    with pytest.raises(ValueError, match='other.npz is not a file of features'):
        read_features(tmp_path / 'other.npz')
    with pytest.raises(ValueError, match='end in .npz or .parquet'):
        features.save(tmp_path / 'features.csv')
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    with pytest.raises(ImportError, match='pip install pyarrow'):
        features.save(tmp_path / 'features.parquet')
    assert not (tmp_path / 'features.parquet').exists()


def test_parquet(tmp_path):
    parquet = pytest.importorskip('pyarrow.parquet')
    features = made_up()
    features.save(tmp_path / 'features.parquet')
    table = parquet.read_table(tmp_path / 'features.parquet')
    rows = table.to_pylist()
    assert len(rows) == 80 and rows[41]['resolution'] == 32 and rows[41]['path'] == features.paths[1]
    assert rows[42]['class'] == 'b' and rows[42]['split'] == 'train'
    assert rows[45]['patch_mean'] == features.values[32, 'patch_mean'][5].tolist()
    assert json.loads(table.schema.metadata[b'settings'])['model'] == 'm'


def test_a_backbone_without_a_class_token(images, tmp_path):
    arch = dict(embed_dims=32, num_layers=1, num_heads=2, feedforward_channels=64)
    weights = ResFormer(arch, with_cls_token=False, out_type='featmap').save_pretrained(tmp_path)
    two = LabelledImages(images.paths[:2], [0, 1], ['train', 'val'], ('a', 'b'))
    features = extract(FrozenBackbone.of_weights(weights, device='cpu'), two, [32])
    assert list(features.values) == [(32, 'patch_mean')]
