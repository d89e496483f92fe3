"""What browsing shows against the files on disk: copies, mixtures, labels, annotations, pictures."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement, InstanceData
from mmpretrain.structures import DataSample
from PIL import Image

from resformer_mm.analysis.browsing import BrowsedSample, SampleBrowser, label_texts, to_pictures
from resformer_mm.analysis.sample_pictures import annotate, build_visualizer, draw_copies, sample_drawer
from resformer_mm.apis import load_model

ARCH = dict(embed_dims=32, num_layers=1, num_heads=2, feedforward_channels=32)
PALETTE = [[255, 0, 0], [0, 0, 255]]
RESIZE = [dict(type='Resize', scale='{resolution}')]


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> Path:
    """Three classes of two noisy pictures of 64 x 64 pixels each, ``ROOT/{train,val}/CLASS/*.png``."""
    root, rng = tmp_path_factory.mktemp('data'), np.random.default_rng(0)
    for split in ('train', 'val'):
        for number in range(6):
            path = root / split / f'class_{number // 2}' / f'{split}_{number}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    return root


def config(root: Path, mix: dict | None = None, top_level: bool = False, **fields) -> Config:
    def loader(split: str, pipeline: list[dict]) -> dict:
        pipeline = [dict(type='resformer_mm.LoadImage'), *pipeline, dict(type='PackInputs')]
        return dict(
            batch_size=4,
            num_workers=2,
            persistent_workers=True,
            sampler=dict(type='DefaultSampler', shuffle=split == 'train'),
            collate_fn=dict(type='resformer_mm.multi_resolution_collate'),
            dataset=dict(
                type='resformer_mm.ImageFolder', data_root=str(root), data_prefix=split, pipeline=pipeline
            ),
        )

    preprocessor = dict(
        type='resformer_mm.MultiResolutionDataPreprocessor',
        num_classes=3,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
        mix=mix,
    )
    model = dict(
        type='resformer_mm.MultiResolutionClassifier',
        backbone=dict(type='resformer_mm.ResFormer', arch=ARCH),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=32),
    )
    (fields if top_level else model)['data_preprocessor'] = preprocessor
    copies = dict(type='resformer_mm.MultiResolution', resolutions=[64, 48, 32], transforms=RESIZE)
    evaluated = [dict(type='resformer_mm.ResizeCenterCrop', resolution=64, crop_pct=1.0)]
    return Config(
        dict(
            default_scope='mmpretrain',
            model=model,
            train_dataloader=loader('train', [copies]),
            val_dataloader=loader('val', evaluated),
            val_cfg=dict(type='resformer_mm.MultiResolutionValLoop', resolutions=[32, 64]),
            **fields,
        )
    )


def browse(cfg: Config, phase: str = 'train', number: int = 6) -> list[BrowsedSample]:
    return list(SampleBrowser(load_model(cfg, device='cpu'), phase, number))


def pixels(root: Path, name: str) -> np.ndarray:
    (path,) = root.glob(f'*/*/{name}.png')
    return np.asarray(Image.open(path))


def resized(image: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)


def test_copies_are_the_pixels_of_the_files(root):
    samples = browse(config(root))
    assert sorted(sample.name for sample in samples) == [f'train_{number}' for number in range(6)]
    for sample in samples:
        assert [image.shape for image in sample.copies] == [(64, 64, 3), (48, 48, 3), (32, 32, 3)]
        for image in sample.copies:
            np.testing.assert_array_equal(image, resized(pixels(root, sample.name), len(image)))
        assert sample.labels == [f'class_{int(sample.name[-1]) // 2}']


def test_the_seed_decides(root):
    cfg = config(root, dict(mixup_alpha=0.8))

    def seen(seed: int) -> list[tuple]:
        browser = SampleBrowser(load_model(cfg, device='cpu'), 'train', 6, seed)
        return [(sample.name, sample.labels, sample.copies[0].sum()) for sample in browser]

    assert seen(0) == seen(0) != seen(1)


def test_asking_for_fewer(root):
    assert len(browse(config(root), number=3)) == 3
    assert len(browse(config(root), number=100)) == 6
    with pytest.raises(ValueError, match='0 samples'):
        browse(config(root), number=0)


@pytest.mark.parametrize('shared', [True, False])
def test_mixed_copies_are_the_mixture_that_their_label_says(root, shared):
    mix = dict(mixup_alpha=0.8, cutmix_alpha=0, shared=shared)
    samples = browse(config(root, mix), number=4)
    names = [sample.name for sample in samples]
    num_mixed = 0
    for index, sample in enumerate(samples):
        partner = names[-1 - index]
        classes = [f'class_{int(name[-1]) // 2}' for name in (sample.name, partner)]
        assert len(sample.labels) == (1 if shared else 3)
        for number, image in enumerate(sample.copies):
            label = sample.labels[0 if shared else number]
            share = dict(re.findall(r'(class_\d) (\d\.\d\d)', label))
            if classes[0] == classes[1]:
                assert label == classes[0]
                continue
            lam = float(share.get(classes[0], 0))
            assert lam + float(share.get(classes[1], 0)) == pytest.approx(1, abs=0.011)
            own, other = (resized(pixels(root, name), len(image)) for name in (sample.name, partner))
            expected = lam * own.astype(float) + (1 - lam) * other
            assert np.abs(image - expected).max() <= 0.005 * 255 + 1  # the label has two digits
            num_mixed += 0.05 < lam < 0.95
    assert num_mixed


def test_evaluation_shows_the_resolutions_of_its_loop(root):
    samples = browse(config(root), 'val')
    assert [sample.name for sample in samples] == [f'val_{number}' for number in range(6)]
    for sample in samples:
        assert [image.shape for image in sample.copies] == [(32, 32, 3), (64, 64, 3)]
        np.testing.assert_array_equal(sample.copies[1], pixels(root, sample.name))


def test_shuffled_evaluation_shows_the_same_image_at_all_resolutions(root):
    cfg = config(root)
    cfg.val_dataloader.sampler.shuffle = True
    samples = browse(cfg, 'val')
    assert [sample.name for sample in samples] != sorted(sample.name for sample in samples)
    for sample in samples:
        np.testing.assert_array_equal(sample.copies[1], pixels(root, sample.name))


def test_a_data_preprocessor_at_the_top_level_of_the_config(root):
    """The place of mmpretrain's own configs; MMEngine's runner puts it into the model."""
    (sample,) = browse(config(root, top_level=True), number=1)
    np.testing.assert_array_equal(sample.copies[0], pixels(root, sample.name))


def test_configs_that_cannot_be_browsed(root):
    cfg = config(root)
    with pytest.raises(ValueError, match='the config has no `test_dataloader`'):
        browse(cfg, 'test')
    with pytest.raises(ValueError, match="phase='all' is unknown"):
        browse(cfg, 'all')
    browser = SampleBrowser(load_model(cfg, device='cpu'), 'val', 6)
    browser.loaders[1] = list(browser.loaders[1])[::-1]
    with pytest.raises(ValueError, match='do not show the same images'):
        list(browser)


@pytest.mark.operators('mmdet')
def test_annotations_of_evaluation_are_not_shown(root):
    cfg = config(root)
    cfg.model.type = 'mmdet.RetinaNet'
    with pytest.raises(ValueError, match="phase='val': annotations of evaluation"):
        SampleBrowser(SimpleNamespace(cfg=cfg), 'val', 1)


@pytest.mark.parametrize(
    ('settings', 'order'),
    [(dict(to_rgb=True), [2, 1, 0]), (dict(bgr_to_rgb=True), [2, 1, 0]), (dict(), [0, 1, 2])],
)
@pytest.mark.parametrize('normalised', [True, False])
def test_colours_and_normalisation_are_undone(settings, order, normalised):
    """Red stays red, whatever order of channels the model works in."""
    bgr = torch.tensor([10.0, 120.0, 250.0]).view(1, 3, 1, 1)
    preprocessor = SimpleNamespace()
    images = bgr[:, order]
    if normalised:
        preprocessor = SimpleNamespace(
            mean=torch.tensor([1.0, 2.0, 3.0]).view(-1, 1, 1), std=torch.tensor([4.0, 5, 6]).view(-1, 1, 1)
        )
        images = (images - preprocessor.mean) / preprocessor.std
    model = SimpleNamespace(
        data_preprocessor=preprocessor, cfg=Config(dict(model=dict(data_preprocessor=settings)))
    )
    assert to_pictures(images, model)[0, 0, 0].tolist() == [250, 120, 10]
    if not normalised:
        gray = torch.tensor([300.0, -4.0]).view(2, 1, 1, 1)
        assert to_pictures(gray, model)[:, 0, 0].tolist() == [[255] * 3, [0] * 3]
        with pytest.raises(ValueError, match=r'\(2, 3, 3, 8, 8\): only images'):
            to_pictures(torch.zeros(2, 3, 3, 8, 8), model)


def test_labels_in_words():
    classes = ['cat', 'dog', 'owl']
    assert label_texts(DataSample(), classes) == []
    assert label_texts(BaseDataElement(), classes) == []
    assert label_texts(DataSample().set_gt_label(1), classes) == ['dog']
    assert label_texts(DataSample().set_gt_label([2, 0]), classes) == ['owl + cat']
    assert label_texts(DataSample().set_gt_label(2), None) == ['2']
    mixed = DataSample().set_gt_label(0).set_gt_score(torch.tensor([0.3, 0.0, 0.7]))
    assert label_texts(mixed, classes) == ['owl 0.70 + cat 0.30']
    mixed.set_field(torch.tensor([[0.3, 0.0, 0.7], [0.0, 1.0, 0.0]]), 'gt_scores')
    assert label_texts(mixed, classes) == ['owl 0.70 + cat 0.30', 'dog']


@pytest.mark.parametrize(
    ('sizes', 'zoom'), [([(64, 64), (48, 48), (32, 32)], 4), ([(300, 200), (31, 47)], 1), ([(9, 7)], 28)]
)
@pytest.mark.parametrize('labels', [[], ['short'], ['cat 0.51 + a class with quite a long name 0.49'] * 3])
def test_picture_holds_every_copy_pixel_by_pixel(sizes, zoom, labels):
    rng = np.random.default_rng(1)
    copies = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    labels = labels if len(labels) < 2 else labels[: len(copies)]
    picture = draw_copies(BrowsedSample('a_file', copies, labels, None))
    right = 0
    floors = set()
    for image in copies:
        enlarged = image.repeat(zoom, axis=0).repeat(zoom, axis=1)
        height, width = enlarged.shape[:2]
        for top, left in zip(*np.nonzero((picture == image[0, 0]).all(axis=-1))):
            if np.array_equal(picture[top : top + height, left : left + width], enlarged):
                break
        else:
            pytest.fail(f'a copy of {image.shape} is not in the picture')
        assert left > right
        right, floors = left + width, floors | {top + height}
    assert len(floors) == 1  # all stand on one line
    (floor,) = floors
    assert (picture[floor:] < 128).any(), 'no caption'
    assert (picture[0] == 255).all() and (picture[:, 0] == 255).all()


@pytest.fixture
def segmentation(tmp_path) -> Config:
    """A config with two pictures that are red where class 0 is, else blue, cropped and flipped at random."""
    rng = np.random.default_rng(0)
    for number in range(2):
        mask = np.kron(rng.integers(0, 2, (4, 5)), np.ones((16, 16))).astype(np.uint8)
        image = np.array(PALETTE, dtype=np.uint8)[mask]
        for folder, picture in (('img', image), ('ann', mask)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(picture).save(tmp_path / folder / f'{number}.png')
    return Config(
        dict(
            default_scope='mmseg',
            model=dict(
                type='EncoderDecoder',
                data_preprocessor=dict(
                    type='SegDataPreProcessor',
                    mean=[120.0, 110.0, 100.0],
                    std=[50.0, 60.0, 70.0],
                    bgr_to_rgb=True,
                    size=(64, 64),
                ),
                backbone=dict(type='resformer_mm.ResFormer', arch=ARCH, out_type='featmap'),
                decode_head=dict(type='FCNHead', in_channels=32, in_index=0, channels=4, num_classes=2),
            ),
            train_dataloader=dict(
                batch_size=2,
                sampler=dict(type='InfiniteSampler', shuffle=True),
                dataset=dict(
                    type='BaseSegDataset',
                    data_root=str(tmp_path),
                    data_prefix=dict(img_path='img', seg_map_path='ann'),
                    img_suffix='.png',
                    metainfo=dict(classes=('red', 'blue'), palette=PALETTE),
                    pipeline=[
                        dict(type='LoadImageFromFile'),
                        dict(type='LoadAnnotations'),
                        dict(type='RandomCrop', crop_size=(48, 64)),
                        dict(type='RandomFlip', prob=0.5),
                        dict(type='PackSegInputs'),
                    ],
                ),
            ),
            visualizer=dict(
                type='SegLocalVisualizer', alpha=1.0, vis_backends=[dict(type='LocalVisBackend')]
            ),
        )
    )


@pytest.mark.operators('mmseg')
def test_segmentation_samples_lie_on_their_labels(segmentation):
    samples = browse(segmentation, number=5)
    assert len(samples) == 5
    for sample in samples:
        (image,) = sample.copies
        assert image.shape == (64, 64, 3)  # padded at the bottom
        labels = sample.data_sample.gt_sem_seg.data[0].numpy()
        np.testing.assert_array_equal(image[:48], np.array(PALETTE)[labels[:48]])
        assert (labels[48:] == 255).all() and labels[:48].max() == 1


class Recolour:
    """Stands in for the visualizer: red for class 0, blue for class 1, green for no class."""

    dataset_meta = {}

    def add_datasample(self, name, image, data_sample, draw_pred, out_file):
        labels = data_sample.gt_sem_seg.data[0].numpy()
        assert labels.shape == image.shape[:2] and not draw_pred
        colours = np.full((*labels.shape, 3), (0, 255, 0), dtype=np.uint8)
        for label, colour in enumerate(PALETTE):
            colours[labels == label] = colour
        Image.fromarray(colours).save(out_file)


@pytest.mark.operators('mmseg')
def test_annotations_of_every_copy(segmentation):
    """Copies of 64 and 32 pixels of blocks of colour: what is drawn on them is what they look like."""
    preprocessor = segmentation.model.data_preprocessor
    preprocessor.type = 'resformer_mm.MultiResolutionSegDataPreprocessor'
    preprocessor.resolutions = [64, 32]
    segmentation.model.type = 'resformer_mm.MultiResolutionSegmentor'
    num_equal = num_all = 0
    for sample in browse(segmentation, number=4):
        assert [image.shape for image in sample.copies] == [(64, 64, 3), (32, 32, 3)]
        for image in sample.copies:
            drawn = annotate(image, sample, Recolour())
            rows = len(image) * 3 // 4
            assert (drawn[rows:] == (0, 255, 0)).all()
            equal = np.abs(drawn[:rows].astype(int) - image[:rows]).max(axis=-1) < 100
            num_equal, num_all = num_equal + equal.sum(), num_all + equal.size
    assert num_equal > 0.97 * num_all  # all but pixels on an edge, which shrinking blends
    sample.data_sample.gt_instances = InstanceData()
    with pytest.raises(ValueError, match=r'of \(64, 64\) pixels cannot be drawn on a copy of \(32, 32\)'):
        annotate(sample.copies[1], sample, Recolour())


@pytest.mark.operators('mmseg')
def test_the_visualizer_of_the_config_draws(segmentation):
    browser = SampleBrowser(load_model(segmentation, device='cpu'), 'train', 1)
    (sample,) = browser
    drawn = annotate(*sample.copies, sample, build_visualizer(browser))
    assert drawn.shape == (64, 64, 3)
    near = np.abs(drawn[:48].astype(int) - sample.copies[0][:48]).max(axis=-1) < 10
    assert near.mean() > 0.3  # beside the names of the classes, which the library writes
    picture = sample_drawer(browser)(sample)
    enlarged = drawn.repeat(4, axis=0).repeat(4, axis=1)
    top, left = np.argwhere((picture != 255).any(axis=-1) & (picture == drawn[0, 0]).all(axis=-1))[0]
    np.testing.assert_array_equal(picture[top : top + 256, left : left + 256], enlarged)
    segmentation.visualizer = None
    with pytest.raises(ValueError, match='the config has no `visualizer`'):
        sample_drawer(SampleBrowser(load_model(segmentation, device='cpu'), 'train', 1))
