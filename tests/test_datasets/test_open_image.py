"""JPEG files are decoded no larger than their crops need, and every other file as ever."""

from __future__ import annotations

import io
import random
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmcv.transforms import BaseTransform
from mmengine.fileio import BaseStorageBackend, register_backend
from mmpretrain.registry import TRANSFORMS
from PIL import Image, ImageOps
from torch.utils.data import DataLoader

from resformer_mm.datasets.collate import multi_resolution_collate
from resformer_mm.datasets.crops import Crop
from resformer_mm.datasets.decoding import decode_image
from resformer_mm.datasets.image_files import opened_image
from resformer_mm.datasets.jpeg import decode_jpeg, read_jpeg_header
from resformer_mm.datasets.loading import ImageReadError, LoadImage
from resformer_mm.datasets.multi_resolution import MultiResolution
from resformer_mm.datasets.opening import EncodedImage, OpenImage
from resformer_mm.datasets.samplers import ResolutionIndex
from resformer_mm.tasks.classification.folders import ImageFolder

CROP = dict(type='resformer_mm.RandomResizedCrop', scale='{resolution}')
ORIENTATION = 0x0112


@cache
def photo(height: int = 480, width: int = 640) -> np.ndarray:
    """Noise of all scales, stronger at the coarse ones, as in photos: RGB."""
    rng = np.random.default_rng(0)
    pixels = np.full((height, width, 3), 128.0, np.float32)
    for scale in (256, 128, 64, 32, 16, 8, 4, 2, 1):
        noise = rng.normal(0, 10 * scale**0.25, (height // scale + 1, width // scale + 1, 3))
        pixels += cv2.resize(noise.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def jpeg(pixels: np.ndarray, mode: str | None = None, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels, mode).save(buffer, 'jpeg', **{'quality': 90, **options})
    return buffer.getvalue()


def rotated(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def pillow(content: bytes) -> np.ndarray:
    """What Pillow decodes, BGR."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert('RGB')
    return np.asarray(image)[..., ::-1]


def header_of(content: bytes):
    with opened_image(content) as image:
        return read_jpeg_header(image, content)


def write(folder: Path, content: bytes, name: str = 'image.jpg') -> str:
    (folder / name).write_bytes(content)
    return str(folder / name)


def seeded(transforms: list, path: str, seed: int) -> dict | None:
    random.seed(seed)
    np.random.seed(seed)
    results = dict(img_path=path)
    for transform in transforms:
        results = transform(results)
    return results


# Decoding


@pytest.mark.parametrize(
    'options',
    [
        dict(subsampling=0),
        dict(subsampling=1),
        dict(subsampling=2),
        dict(progressive=True),
        dict(quality=30, optimize=True),
        dict(restart_marker_blocks=5),
        dict(keep_rgb=True),
        dict(comment=b'\xff\xd9 \xff\xda' * 50),
    ],
    ids=str,
)
@pytest.mark.parametrize('shape', [(48, 64), (37, 51), (1, 9)])
def test_the_pixels_are_those_of_pillow(options: dict, shape: tuple[int, int]) -> None:
    colour = photo()[: shape[0], : shape[1]].copy()
    for content in (jpeg(colour, **options), jpeg(colour[..., 0].copy(), **options)):
        header = header_of(content)
        assert header == (*shape, 1)
        # Both are made with libjpeg-turbo, of which some versions differ by a grey level.
        assert np.abs(decode_jpeg(content, header).astype(int) - pillow(content)).max() <= 1
        assert np.array_equal(decode_image(content), decode_jpeg(content, header))


@pytest.mark.parametrize('orientation', range(1, 9))
def test_rotated_files_at_full_and_reduced_size(orientation: int) -> None:
    content = jpeg(photo()[:40, :72].copy(), exif=rotated(orientation))
    header = header_of(content)
    full = pillow(content)
    assert (header.height, header.width, header.orientation) == (*full.shape[:2], orientation)
    assert np.abs(decode_jpeg(content, header).astype(int) - full).max() <= 1
    for denominator in (2, 4, 8):
        assert header.allows(denominator)
        reduced = decode_jpeg(content, header, denominator)
        height, width = full.shape[0] // denominator, full.shape[1] // denominator
        means = full.reshape(height, denominator, width, denominator, 3).mean(axis=(1, 3))
        assert reduced.shape == means.shape
        assert np.abs(reduced - means).mean() < 4


@pytest.mark.parametrize('orientation', range(1, 9))
def test_reduced_pixels_begin_at_multiples(orientation: int) -> None:
    """With 41 x 73 pixels, the last reduced pixels cover one only; flipped, they would come first."""
    header = header_of(jpeg(photo()[:41, :73].copy(), exif=rotated(orientation)))
    assert header.allows(1)
    assert header.allows(2) == header.allows(8) == (orientation in (1, 5))


def test_files_that_pillow_alone_decodes_right() -> None:
    pixels = photo()[:48, :64].copy()
    cmyk = np.concatenate([pixels, pixels[..., :1]], axis=-1)
    for content in (
        jpeg(cmyk, 'CMYK'),
        jpeg(pixels)[:-200],
        jpeg(pixels, exif=b'Exif\0\0' + jpeg(pixels[:8, :8].copy()))[:-200],  # a preview, which is complete
    ):
        assert header_of(content) is None
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, 'png')
    assert header_of(buffer.getvalue()) is None


def test_what_follows_the_image_does_not_matter() -> None:
    content = jpeg(photo()[:48, :64].copy())
    assert header_of(content + b'a video of the phone') == (48, 64, 1)
    buffer = io.BytesIO()
    first, second = (Image.fromarray(photo()[i : i + 48, :64].copy()) for i in (0, 100))
    first.save(buffer, 'mpo', save_all=True, append_images=[second], quality=90)
    content = buffer.getvalue()
    assert header_of(content) == (48, 64, 1)
    assert np.abs(decode_image(content).astype(int) - np.asarray(first)[..., ::-1]).mean() < 8


# Scales


CROPS = [
    ([(0, 0, 480, 640, (32, 32))], 4),  # 15 pixels per pixel; 8 would leave 1.9
    ([(0, 0, 480, 640, (30, 30))], 8),  # 2 remain
    ([(0, 0, 480, 640, (224, 224))], 1),
    ([(0, 0, 480, 640, (120, 120))], 2),
    ([(0, 0, 480, 640, (121, 120))], 1),
    ([(0, 0, 480, 640, (24, 24)), (90, 10, 100, 200, (25, 25))], 2),  # the one with the fewest decides
    ([(90, 10, 400, 64, (10, 16))], 2),
    (None, 1),
]


@pytest.mark.parametrize(('crops', 'expected'), CROPS, ids=str)
def test_the_crops_decide_the_scale(crops, expected: int, tmp_path: Path) -> None:
    results = OpenImage()(dict(img_path=write(tmp_path, jpeg(photo()))))
    assert isinstance(results['img'], EncodedImage)
    assert results['img'].size == results['img_shape'] == results['ori_shape'] == (480, 640)
    image, denominator = results['img'].decode(crops and [Crop(*crop) for crop in crops])
    assert denominator == expected and image.shape == (480 // expected, 640 // expected, 3)


def test_rounding_of_crops() -> None:
    crop = Crop(11, 21, 118, 200, (24, 32))
    assert crop.oversampling == 118 / 24
    assert crop.reduced(1) == crop
    assert crop.reduced(4) == Crop(3, 5, 32 - 3, 55 - 5, (24, 32))


@pytest.mark.parametrize('oversampling', [1.0, 2.0])
@pytest.mark.parametrize('resolution', [48, 24])
def test_a_reduced_image_gives_the_copies_of_a_full_one(
    resolution: int, oversampling: float, tmp_path: Path
) -> None:
    """On average over its pixels, to one grey level by default, and to four with the fewest pixels."""
    path = write(tmp_path, jpeg(photo()))
    copies = MultiResolution([resolution], [dict(CROP, crop_ratio_range=(0.5, 1.0))])
    differences, scales = [], set()
    for seed in range(20):
        results = OpenImage(oversampling=oversampling)(dict(img_path=path))
        np.random.seed(seed)
        crops = [copies.pipelines[resolution].transforms[0].draw_crop(480, 640)]
        denominator = results['img'].decode(crops)[1]
        scales.add(denominator)
        # The same box of the full image, with edges where the reduced image has them.
        top, left, height, width = (denominator * side for side in crops[0].reduced(denominator)[:4])
        box = (left, top, left + width, top + height)
        full = Image.fromarray(photo())
        assert full.crop(box).size == (width, height)
        decoded = Image.fromarray(LoadImage()(dict(img_path=path))['img']).crop(box)
        expected = np.asarray(decoded.resize((resolution, resolution), Image.Resampling.BICUBIC))
        np.random.seed(seed)
        (actual,) = copies(results)['img']
        differences.append(np.abs(actual.astype(int) - expected).mean())
    assert scales <= {2, 4, 8}
    assert max(differences) < (1 if oversampling == 2 else 4)


@pytest.mark.parametrize('oversampling', [0, 0.5, float('nan')])
def test_copies_are_not_enlarged(oversampling: float) -> None:
    with pytest.raises(ValueError, match=r'OpenImage.oversampling=.* at least 1'):
        OpenImage(oversampling=oversampling)


# In a pipeline


@pytest.mark.parametrize('name', ['small.jpg', 'gray.png', 'cmyk.jpg', 'sixteen.png', 'damaged.jpg'])
def test_other_files_give_the_copies_of_load_image(name: str, tmp_path: Path) -> None:
    pixels = photo()[:60, :80].copy()
    path = str(tmp_path / name)
    if name == 'sixteen.png':
        cv2.imwrite(path, pixels.astype(np.uint16) << 8)
    elif name == 'damaged.jpg':  # its size is known, its data ends in the middle and at the end of the file
        content = jpeg(photo(), restart_marker_blocks=40)
        half = len(content) // 2
        write(tmp_path, content[:half] + content[half + 99 :], name)
    else:
        mode = dict(gray='L', cmyk='CMYK').get(name[:4], 'RGB')
        Image.fromarray(pixels).convert(mode).save(path)
    copies = MultiResolution([64, 48], [CROP])
    for seed in range(3):
        ours = seeded([OpenImage(oversampling=99), copies], path, seed)
        plain = seeded([LoadImage(), copies], path, seed)
        assert ours['ori_shape'] == plain['ori_shape'] and 'crop' not in ours
        for one, other in zip(ours['img'], plain['img'], strict=True):
            assert np.array_equal(one, other)


class Sum(BaseTransform):
    """Notes what it gets, and spoils it."""

    def __init__(self, size: int) -> None:
        self.size = size

    def transform(self, results: dict) -> dict:
        results['sum'] = int(results['img'].sum())
        results['img'][:] = 0
        return results


def test_transforms_without_crops_get_the_full_image(tmp_path: Path) -> None:
    TRANSFORMS.register_module(name='SpoilingSum', module=Sum, force=True)
    try:
        copies = MultiResolution([9, 8], [dict(type='mmpretrain.SpoilingSum', size='{resolution}')])
    finally:
        TRANSFORMS.module_dict.pop('SpoilingSum')
    path = write(tmp_path, jpeg(photo()))
    results = seeded([OpenImage(), copies], path, 0)
    assert results['sum'] == int(LoadImage()(dict(img_path=path))['img'].sum())
    assert [image.shape for image in results['img']] == [(480, 640, 3)] * 2


def test_one_resolution_decides_alone(tmp_path: Path) -> None:
    path = write(tmp_path, jpeg(photo()))
    seen = []
    opened = OpenImage()
    decode = opened.decode
    opened.decode = lambda *args: seen.append(decode(*args)) or seen[-1]
    copies = MultiResolution([224, 24], [dict(CROP, crop_ratio_range=(0.9, 1.0))])
    for resolution, denominator in ((224, 1), (24, 8)):
        results = opened(dict(img_path=path, sample_idx=ResolutionIndex(0, resolution)))
        assert [image.shape for image in copies(results)['img']] == [(resolution, resolution, 3)]
        assert seen[-1][1] == denominator


def test_a_transform_in_between_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, jpeg(photo()))
    for settings in (
        dict(type='mmpretrain.RandomFlip', prob=1.0),
        dict(type='mmpretrain.ResizeEdge', scale=8),
        dict(type='mmpretrain.RandomResizedCrop', scale=8),
    ):
        with pytest.raises(TypeError, match=r'MultiResolution directly behind resformer_mm\.OpenImage'):
            TRANSFORMS.build(settings)(OpenImage()(dict(img_path=path)))
    with pytest.raises(TypeError, match='not decoded yet'):
        OpenImage()(dict(img_path=path))['img'][0]


@pytest.mark.parametrize(
    'content', [b'', b'\xff\xd8', b'no image', jpeg(photo())[:-200], None], ids=len and str
)
def test_unreadable_files(content: bytes | None, tmp_path: Path) -> None:
    path = str(tmp_path / 'missing.jpg') if content is None else write(tmp_path, content)
    with pytest.raises(ImageReadError) as caught:
        OpenImage()(dict(img_path=path))
    assert path in str(caught.value) and "'resformer_mm.OpenImage', on_error='skip'" in str(caught.value)
    opened = OpenImage(on_error='skip')
    assert opened(dict(img_path=path)) is None and opened.num_skipped == 1


def test_a_file_whose_decoding_fails_is_skipped_or_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr('resformer_mm.datasets.opening.decode_jpeg', lambda *args: None)
    monkeypatch.setattr('resformer_mm.datasets.opening.decode_pixels', lambda _: int('broken'))
    path = write(tmp_path, jpeg(photo()))
    copies = MultiResolution([8], [CROP])
    with pytest.raises(ImageReadError, match='image.jpg.*broken'):
        copies(OpenImage()(dict(img_path=path)))
    opened = OpenImage(on_error='skip')
    assert copies(opened(dict(img_path=path))) is None and opened.num_skipped == 1


def test_the_size_of_the_annotations_is_checked(tmp_path: Path) -> None:
    path = write(tmp_path, jpeg(photo(), exif=rotated(6)))
    assert OpenImage()(dict(img_path=path, height=640, width=480))['img_shape'] == (640, 480)
    with pytest.raises(ImageReadError, match='640 x 480 pixels.*annotations are for 480 x 640'):
        OpenImage()(dict(img_path=path, height=480, width=640))


def test_storage_other_than_files(tmp_path: Path) -> None:
    """As of memcached or Petrel, which return the content for a name."""
    content = jpeg(photo())

    class Store(BaseStorageBackend):
        def get(self, filepath: str) -> memoryview:
            return memoryview({'bucket/image': content}[filepath])  # as those backends do

        def get_text(self, filepath: str) -> str:
            raise NotImplementedError

    register_backend('opened_images', Store, force=True)
    for transform in (OpenImage, LoadImage):
        load = transform(backend_args=dict(backend='opened_images'))
        out = seeded(
            [load, MultiResolution([24], [dict(CROP, crop_ratio_range=(0.9, 1))])], 'bucket/image', 0
        )
        assert out['img'][0].shape == (24, 24, 3)


def test_loader_workers_replace_unreadable_images(tmp_path: Path) -> None:
    for label in ('a', 'b'):
        (tmp_path / label).mkdir()
        for number in range(4):
            content = jpeg(photo()[:200, : 200 + number].copy())
            write(tmp_path / label, content[:-99] if number == 3 else content, f'{number}.jpg')
    pipeline = [
        dict(type='resformer_mm.OpenImage', on_error='skip'),
        dict(type='resformer_mm.MultiResolution', resolutions=[32, 24], transforms=[CROP]),
        dict(type='mmpretrain.PackInputs'),
    ]
    dataset = ImageFolder(data_root=str(tmp_path), pipeline=pipeline)
    loader = DataLoader(
        dataset,
        batch_size=4,
        num_workers=2,
        collate_fn=multi_resolution_collate,
        multiprocessing_context='fork',
    )
    batches = list(loader)
    assert [tuple(copies.shape) for copies in batches[0]['inputs']] == [(4, 3, 32, 32), (4, 3, 24, 24)]
    assert sum(len(batch['data_samples']) for batch in batches) == 8
    assert dataset.pipeline.transforms[0].num_skipped >= 2


def test_the_settings_are_shown() -> None:
    text = repr(OpenImage(on_error='skip', oversampling=1.5))
    assert text.startswith('OpenImage(') and "on_error='skip'" in text and 'oversampling=1.5' in text
