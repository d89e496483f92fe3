"""Strict loading of segmentation masks, compared with mmsegmentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mmengine.dataset import pseudo_collate
from mmseg.datasets.transforms import LoadAnnotations, PackSegInputs, RandomCrop
from mmseg.models import SegDataPreProcessor
from PIL import Image
from segmentation_files import write_image, write_mask

from resformer_mm import repairs
from resformer_mm.datasets.loading import LoadImage
from resformer_mm.registry import TRANSFORMS
from resformer_mm.tasks.segmentation.label_maps import LabelValues
from resformer_mm.tasks.segmentation.load_seg_map import LoadSegMap, SegMapError

SHAPE = (20, 30)


def sample(tmp_path: Path, values=SHAPE, mode=None, shape=SHAPE, orientation: int = 1, **info) -> dict:
    """Write a pair and return what the data set and the loading of the image give."""
    image = write_image(tmp_path / 'a.jpg', shape, orientation)
    mask = write_mask(tmp_path / 'a.png', values, mode)
    results = dict(img_path=str(image), seg_map_path=str(mask), seg_fields=[])
    defaults = dict(reduce_zero_label=False, label_map=None, num_classes=4)
    return LoadImage()({**results, **defaults, **info})


def random_values(highest: int, seed: int = 0) -> np.ndarray:
    """Values 0 to ``highest``, each occurring, and 255."""
    choice = np.r_[np.arange(highest + 1), 255].astype(np.uint8)
    values = np.random.default_rng(seed).choice(choice, SHAPE)
    values.ravel()[: len(choice)] = choice
    return values


# Sound masks


def test_zero_is_ignored_and_one_is_the_first_class(tmp_path: Path) -> None:
    values = np.array([[0, 1, 2], [150, 255, 149]], np.uint8)
    results = sample(tmp_path, values, shape=(2, 3), reduce_zero_label=True, num_classes=150)
    results = LoadSegMap()(results)
    assert results['gt_seg_map'].tolist() == [[255, 0, 1], [149, 255, 148]]
    assert results['gt_seg_map'].dtype == np.uint8 and results['gt_seg_map'].flags.writeable
    assert results['seg_fields'] == ['gt_seg_map']
    results = sample(tmp_path, values, shape=(2, 3), num_classes=151)
    assert np.array_equal(LoadSegMap()(results)['gt_seg_map'], values)


@pytest.mark.parametrize('label_map', [None, {0: 1, 1: 255, 2: 0}], ids=['all', 'some'])
@pytest.mark.parametrize('reduce_zero_label', [False, True])
@pytest.mark.parametrize('mode', ['L', 'P', 'I;16'])
def test_the_labels_are_those_of_mmsegmentation(tmp_path, mode, reduce_zero_label, label_map) -> None:
    values = random_values(2 + reduce_zero_label)
    info = dict(reduce_zero_label=reduce_zero_label, label_map=label_map)
    results = sample(tmp_path, values.astype(np.uint16) if mode == 'I;16' else values, mode, **info)
    with Image.open(results['seg_map_path']) as image:
        assert image.mode == mode
    num_classes = 3 if label_map is None else 2
    ours = LoadSegMap()({**results, 'num_classes': num_classes, 'seg_fields': []})
    theirs = LoadAnnotations()({**results, 'seg_fields': []})
    assert np.array_equal(ours['gt_seg_map'], theirs['gt_seg_map'])
    assert ours['gt_seg_map'].shape == SHAPE and len(np.unique(ours['gt_seg_map'])) == num_classes + 1


def test_a_two_level_mask(tmp_path: Path) -> None:
    results = sample(tmp_path, random_values(1) % 2 * 255, '1')
    assert np.array_equal(LoadSegMap()(results)['gt_seg_map'], random_values(1) % 2)


def test_one_row_or_column(tmp_path: Path) -> None:
    for shape in ((1, 9), (9, 1), (1, 1)):
        assert LoadSegMap()(sample(tmp_path, shape, shape=shape))['gt_seg_map'].shape == shape


def test_evaluation_resizes_the_image_before(tmp_path: Path) -> None:
    results = sample(tmp_path)
    resize = TRANSFORMS.build(dict(type='mmcv.Resize', scale=(60, 40)))
    results = LoadSegMap()(resize(results))
    assert results['img'].shape[:2] == (40, 60) and results['gt_seg_map'].shape == SHAPE
    with pytest.raises(SegMapError, match='40 x 60 pixels'):
        LoadSegMap()(resize(sample(tmp_path, (40, 60))))


def test_a_turned_image_and_a_mask_of_what_is_seen(tmp_path: Path) -> None:
    results = sample(tmp_path, (30, 20), shape=(20, 30), orientation=6)
    assert LoadSegMap()(results)['gt_seg_map'].shape == results['img'].shape[:2] == (30, 20)
    with pytest.raises(SegMapError, match='20 x 30 pixels.*30 x 20.*EXIF orientation'):
        LoadSegMap()(sample(tmp_path, (20, 30), shape=(20, 30), orientation=6))


def test_an_image_smaller_than_the_crop_is_padded_with_ignored_pixels(tmp_path: Path) -> None:
    results = PackSegInputs()(RandomCrop((32, 32), cat_max_ratio=0.75)(LoadSegMap()(sample(tmp_path))))
    preprocessor = SegDataPreProcessor(size=(32, 32), pad_val=0, seg_pad_val=255)
    batch = preprocessor(pseudo_collate([results]), training=True)
    labels = batch['data_samples'][0].gt_sem_seg.data[0].numpy()
    assert batch['inputs'].shape == (1, 3, 32, 32) and labels.shape == (32, 32)
    inside = np.zeros((32, 32), bool)
    inside[:20, :30] = True
    assert (labels[inside] == 1).all() and (labels[~inside] == 255).all()


def test_a_file_backend(tmp_path: Path) -> None:
    transform = LoadSegMap(backend_args=dict(backend='local'))
    assert transform(sample(tmp_path))['gt_seg_map'].shape == SHAPE
    assert 'num_classes=4' in repr(LoadSegMap(num_classes=4))


# Masks that cannot be used


def assert_named(results: dict, *words: str, **kwargs) -> None:
    """Check that the error names the mask, the image, the check command and further words."""
    with pytest.raises(SegMapError) as caught:
        LoadSegMap(**kwargs)(results)
    for word in (results['seg_map_path'], results['img_path'], 'check_segmentation.py', *words):
        assert word in str(caught.value)


def test_a_missing_mask(tmp_path: Path) -> None:
    results = sample(tmp_path)
    Path(results['seg_map_path']).unlink()
    assert_named(results, 'there is no mask', 'add it, or remove the image')


@pytest.mark.parametrize('content', [lambda data: data[:-40], lambda data: b'', lambda data: b'text'])
def test_an_unreadable_mask(tmp_path: Path, content) -> None:
    results = sample(tmp_path, random_values(3))
    mask = Path(results['seg_map_path'])
    mask.write_bytes(content(mask.read_bytes()))
    assert_named(results, 'cannot read the mask', 'repair it')


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'LA'])
def test_a_mask_of_equal_channels(tmp_path: Path, mode: str, monkeypatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(repairs, '_told', set())
    monkeypatch.setattr(repairs, 'print_log', lambda text, **_: lines.append(text))
    values = random_values(3)
    for _ in range(2):
        results = sample(tmp_path, values, mode)
        assert np.array_equal(LoadSegMap()(results)['gt_seg_map'], values)
    assert lines == [f'repaired: {tmp_path}: masks of several equal channels: one of them is read']
    monkeypatch.setenv('RESFORMER_MM_STRICT_DATA', '1')
    with pytest.raises(repairs.StrictError, match='several equal channels'):
        LoadSegMap()(sample(tmp_path, values, mode))


def test_a_mask_of_colours_or_opacity(tmp_path: Path) -> None:
    results = sample(tmp_path)
    pixels = np.zeros((*SHAPE, 4), np.uint8)
    pixels[:5, :, 0] = 200
    for channels, words in ((3, ('(0, 0, 0), (200, 0, 0)', 'masks_from_colours.py')), (4, ('with colours',))):
        Image.fromarray(pixels[..., :channels]).save(results['seg_map_path'])
        assert_named(results, 'cannot use the mask', 'one integer label', *words)
    pixels[..., 0], pixels[:5, :, 3] = 0, 255
    Image.fromarray(pixels).save(results['seg_map_path'])
    assert_named(results, 'transparent pixels')


@pytest.mark.parametrize(
    ('values', 'hint'),
    [
        (
            (0, 128, 255),
            'The values 0, 128, 255 look like classes stretched for viewing: save them as 0, 1, 2',
        ),
        ((0, 50, 100), 'save them as 0, 1, 2'),
        ((0, 100), 'save them as 0, 1'),
        ((0, 65535), 'save them as 0, 1'),
        (range(40), 'So many values are soft edges'),
        ((0, 5), 'If 5 marks pixels to ignore, set ignore_index=5 of the data set'),
        ((0, 5, 255), 'If 5 marks pixels to ignore, set ignore_index=[5, 255] of the data set'),
        ((0, 1, 2, 3), 'If the classes have the values 1 to 3, set reduce_zero_label=True'),
        ((0, 5, 7), None),
    ],
)
def test_what_other_values_look_like(tmp_path: Path, values, hint: str | None) -> None:
    kind = np.uint16 if max(values) > 255 else np.uint8
    pixels = np.resize(np.array(values, kind), SHAPE)
    results = sample(tmp_path, pixels, num_classes=4 if hint is None else 3)
    assert_named(results, *([hint] if hint else []))
    if hint is None:
        with pytest.raises(SegMapError, match=r'of the data set\. tools'):
            LoadSegMap()(results)


def test_a_mask_of_fractions_or_with_an_orientation(tmp_path: Path) -> None:
    results = sample(tmp_path)
    Image.fromarray(np.ones(SHAPE, np.float32)).save(tmp_path / 'a.tif')
    assert_named({**results, 'seg_map_path': str(tmp_path / 'a.tif')}, "'F'")
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(np.ones(SHAPE, np.uint8)).save(results['seg_map_path'], exif=exif)
    assert_named(results, 'EXIF orientation, which masks must not have')


@pytest.mark.parametrize('shape', [(30, 20), (20, 31), (10, 15)])
def test_another_size(tmp_path: Path, shape: tuple[int, int]) -> None:
    assert_named(sample(tmp_path, shape), f'{shape[0]} x {shape[1]} pixels (height x width)', '20 x 30')


@pytest.mark.parametrize(
    ('highest', 'reduce_zero_label', 'unknown'),
    [(4, False, '[4]'), (6, False, '[4, 5, 6]'), (5, True, '[5]'), (20, True, 'and more')],
)
def test_a_value_of_no_class(tmp_path: Path, highest: int, reduce_zero_label: bool, unknown: str) -> None:
    results = sample(tmp_path, random_values(highest), reduce_zero_label=reduce_zero_label)
    known = '0 is ignored, 1..4 are classes' if reduce_zero_label else '(0..3 are classes, 255 is ignored)'
    assert_named(results, unknown, known)
    results = sample(tmp_path, random_values(3 + reduce_zero_label), reduce_zero_label=reduce_zero_label)
    assert set(np.unique(LoadSegMap()(results)['gt_seg_map'])) == {0, 1, 2, 3, 255}


@pytest.mark.parametrize('value', [254, 256, 259, 2**16 - 1])
def test_a_wide_value_does_not_wrap(tmp_path: Path, value: int) -> None:
    values = random_values(3).astype(np.uint16)
    values[5, 5] = value
    results = sample(tmp_path, values)
    assert_named(results, f'[{value}]')
    if value > 255:  # mmsegmentation reads another class
        assert LoadAnnotations()({**results, 'seg_fields': []})['gt_seg_map'][5, 5] == value % 256


def test_a_value_of_no_class_with_a_choice_of_classes(tmp_path: Path) -> None:
    info = dict(label_map={0: 1, 1: 255, 2: 0}, num_classes=2)
    results = LoadImage()({**sample(tmp_path, random_values(2)), **info})
    assert set(np.unique(LoadSegMap()(results)['gt_seg_map'])) == {0, 1, 255}
    results = LoadImage()({**sample(tmp_path, random_values(3)), **info})
    assert_named(results, '[3]', '0..2 are classes')


# The number of classes and the ignored label


def test_the_number_of_classes_comes_from_somewhere(tmp_path: Path) -> None:
    results = sample(tmp_path, random_values(3))
    del results['num_classes']
    with pytest.raises(ValueError, match='needs the number of classes.*num_classes=...'):
        LoadSegMap()(results)
    assert LoadSegMap(num_classes=4)(results)['gt_seg_map'].shape == SHAPE
    assert_named({**results, 'seg_fields': []}, '[3]', num_classes=3)
    with pytest.raises(ValueError, match='num_classes is 150, but the data set has 4 classes'):
        LoadSegMap(num_classes=150)({**results, 'num_classes': 4})


def test_another_ignored_label(tmp_path: Path) -> None:
    values = np.full(SHAPE, 200, np.uint8)
    for kwargs, info in ((dict(ignore_index=200), {}), ({}, dict(ignore_index=200))):
        assert (LoadSegMap(**kwargs)(sample(tmp_path, values, **info))['gt_seg_map'] == 255).all()
    assert_named(sample(tmp_path, np.full(SHAPE, 255, np.uint8), ignore_index=200), '[255]')
    both = np.where(np.arange(SHAPE[1]) % 2, values, 255).astype(np.uint8)
    assert (LoadSegMap()(sample(tmp_path, both, ignore_index=[200, 255]))['gt_seg_map'] == 255).all()
    assert_named(sample(tmp_path, both - 9, ignore_index=[200, 255]), '[191, 246]', '200 and 255 are ignored')
    with pytest.raises(
        ValueError, match='ignore_index is 200, so they would not be ignored. Set ignore_index=255'
    ):
        LoadSegMap()({**sample(tmp_path, values, ignore_index=200), 'reduce_zero_label': True})


def test_more_classes_than_a_mask_can_tell() -> None:
    assert LabelValues(254, reduce_zero_label=True).unknown(range(256)) == []
    assert LabelValues(255).unknown(range(256)) == []
    for num_classes, reduce_zero_label in ((255, True), (256, False), (0, False)):
        with pytest.raises(ValueError, match=f'num_classes must be in 1..25[45] .*got {num_classes}'):
            LabelValues(num_classes, reduce_zero_label)


def test_the_order_of_the_pipeline(tmp_path: Path) -> None:
    results = sample(tmp_path)
    del results['ori_shape']
    with pytest.raises(ValueError, match='has not been loaded yet: put resformer_mm.LoadImage before'):
        LoadSegMap()(results)
    results = sample(tmp_path)
    del results['seg_map_path']
    with pytest.raises(ValueError, match='has no mask for .*a.jpg.*data_prefix.seg_map_path'):
        LoadSegMap()(results)
