"""Images of every kind are read right, and files that cannot be read are named or counted."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmpretrain.registry import TRANSFORMS
from PIL import Image
from torch.utils.data import DataLoader

from resformer_mm import repairs
from resformer_mm.datasets.checks.images import read_facts
from resformer_mm.datasets.collate import multi_resolution_collate
from resformer_mm.datasets.decoding import decode_image
from resformer_mm.datasets.image_files import without_pixel_limit
from resformer_mm.datasets.loading import ImageReadError, LoadImage
from resformer_mm.datasets.unreadable import MOST_NAMED, UnreadableFiles
from resformer_mm.engine import SkippedImagesHook
from resformer_mm.tasks.classification.folders import ImageFolder

HEIGHT, WIDTH = 20, 30


def smooth_rgb() -> np.ndarray:
    """Gradients, which JPEG keeps within a few grey levels, ``(20, 30, 3)``."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([8 * x, 12 * y, 4 * (x + y)], axis=-1).astype(np.uint8)


def noise_rgb(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def read(path: Path, **kwargs) -> np.ndarray:
    results = LoadImage(**kwargs)(dict(img_path=str(path)))
    image = results['img']
    assert image.dtype == np.uint8 and image.flags['C_CONTIGUOUS']
    assert results['img_shape'] == results['ori_shape'] == image.shape[:2]
    return image


def save(path: Path, image: Image.Image, **kwargs) -> Path:
    image.save(path, **kwargs)
    return path


def assert_close(actual: np.ndarray, expected: np.ndarray, atol: int) -> None:
    assert actual.shape == expected.shape
    assert np.abs(actual.astype(int) - expected.astype(int)).max() <= atol


def test_an_rgb_image_becomes_bgr(tmp_path: Path) -> None:
    rgb = noise_rgb()
    path = save(tmp_path / 'rgb.png', Image.fromarray(rgb))
    assert np.array_equal(read(path), rgb[..., [2, 1, 0]])
    assert np.array_equal(read(path), cv2.imread(str(path)))


def test_a_jpeg_is_what_opencv_reads(tmp_path: Path) -> None:
    path = save(tmp_path / 'rgb.jpg', Image.fromarray(smooth_rgb()), quality=95, subsampling=0)
    assert_close(read(path), cv2.imread(str(path)), 2)
    assert_close(read(path), smooth_rgb()[..., ::-1], 6)


def test_grayscale(tmp_path: Path) -> None:
    gray = noise_rgb()[..., 0]
    for name in ('gray.png', 'gray.bmp'):
        image = read(save(tmp_path / name, Image.fromarray(gray)))
        assert np.array_equal(image, np.stack([gray] * 3, axis=-1))
    jpeg = save(tmp_path / 'gray.jpg', Image.fromarray(smooth_rgb()[..., 0]), quality=95)
    assert_close(read(jpeg), cv2.imread(str(jpeg)), 1)


def test_grayscale_with_transparency(tmp_path: Path) -> None:
    gray = noise_rgb()[..., :2]
    image = read(save(tmp_path / 'la.png', Image.fromarray(gray, 'LA')))
    assert np.array_equal(image, np.stack([gray[..., 0]] * 3, axis=-1))


@pytest.mark.parametrize('transparency', [None, 3, bytes(range(0, 256, 2))], ids=['none', 'one', 'many'])
def test_palette(tmp_path: Path, transparency) -> None:
    rng = np.random.default_rng(1)
    palette = rng.integers(0, 256, (128, 3), dtype=np.uint8)
    indices = rng.integers(0, 128, (HEIGHT, WIDTH), dtype=np.uint8)
    image = Image.fromarray(indices, 'P')
    image.putpalette(palette.tobytes())
    options = {} if transparency is None else dict(transparency=transparency)
    for name in ('palette.png', *(['palette.gif'] if not isinstance(transparency, bytes) else [])):
        path = save(tmp_path / name, image, **options)
        assert np.array_equal(read(path), palette[indices][..., ::-1]), name


def test_transparency_is_dropped(tmp_path: Path) -> None:
    rgba = np.random.default_rng(2).integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8)
    path = save(tmp_path / 'rgba.png', Image.fromarray(rgba, 'RGBA'))
    assert np.array_equal(read(path), rgba[..., [2, 1, 0]])
    assert np.array_equal(read(path), cv2.imread(str(path)))


def test_cmyk_jpeg(tmp_path: Path) -> None:
    cmyk = np.concatenate([smooth_rgb(), np.full((HEIGHT, WIDTH, 1), 40, np.uint8)], axis=-1)
    path = save(tmp_path / 'cmyk.jpg', Image.fromarray(cmyk, 'CMYK'), quality=95, subsampling=0)
    ink = cmyk.astype(float) / 255
    rgb = 255 * (1 - ink[..., :3]) * (1 - ink[..., 3:])
    assert_close(read(path), np.rint(rgb[..., ::-1]), 8)
    assert_close(read(path), cv2.imread(str(path)), 8)


def test_16_bit_grayscale(tmp_path: Path) -> None:
    gray = np.random.default_rng(3).integers(0, 2**16, (HEIGHT, WIDTH), dtype=np.uint16)
    gray[0, :3] = 0, 255, 65535
    expected = np.stack([gray // 256] * 3, axis=-1)
    for name in ('gray16.png', 'gray16.tif'):
        path = tmp_path / name
        assert cv2.imwrite(str(path), gray)
        assert np.array_equal(read(path), expected), name
    assert np.array_equal(read(tmp_path / 'gray16.png'), cv2.imread(str(tmp_path / 'gray16.png')))


def test_16_bit_colour(tmp_path: Path) -> None:
    bgr = np.random.default_rng(3).integers(0, 2**16, (HEIGHT, WIDTH, 3), dtype=np.uint16)
    path = tmp_path / 'colour16.png'
    assert cv2.imwrite(str(path), bgr)
    assert_close(read(path), bgr // 256, 1)


def test_1_bit(tmp_path: Path) -> None:
    bits = noise_rgb()[..., 0] > 127
    path = save(tmp_path / 'bits.png', Image.fromarray(bits))
    assert np.array_equal(read(path), np.stack([255 * bits] * 3, axis=-1))


# What a viewer does to the stored pixels, by the value of the EXIF orientation.
ORIENTATIONS = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: np.rot90(image),
}


@pytest.mark.parametrize('orientation', ORIENTATIONS)
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = smooth_rgb()
    stored[:8, :8] = 255
    expected = ORIENTATIONS[orientation](stored)[..., ::-1]
    png = save(tmp_path / 'rotated.png', Image.fromarray(stored), exif=exif)
    assert np.array_equal(read(png), expected)
    jpeg = save(tmp_path / 'rotated.jpg', Image.fromarray(stored), exif=exif, quality=95, subsampling=0)
    assert_close(read(jpeg), cv2.imread(str(jpeg)), 3)


# Files that cannot be read


def png_bytes() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise_rgb()).save(buffer, 'png')
    return buffer.getvalue()


def jpeg_bytes() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise_rgb()).save(buffer, 'jpeg', quality=95)
    return buffer.getvalue()


def float_tiff() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)).save(buffer, 'tiff')
    return buffer.getvalue()


def wide_tiff() -> bytes:
    buffer = io.BytesIO()
    pixels = np.arange(600, dtype=np.int32).reshape(20, 30) * 1000
    Image.fromarray(pixels, 'I').save(buffer, 'tiff')
    return buffer.getvalue()


UNREADABLE = {
    'truncated.jpg': (lambda: jpeg_bytes()[:-200], 'truncated'),
    'truncated.png': (lambda: png_bytes()[:-200], 'truncated'),
    'corrupt.png': (lambda: png_bytes()[:60] + b'\x00' * 40 + png_bytes()[100:], ''),
    'text.jpg': (lambda: b'this is not an image', 'cannot identify'),
    'empty.jpg': (lambda: b'', 'the file is empty'),
    'missing.jpg': (None, 'No such file'),
    'float.tif': (float_tiff, 'no known range'),
    'wide.tif': (wide_tiff, 'no known range'),
}


@pytest.mark.parametrize('name', UNREADABLE)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    content, reason = UNREADABLE[name]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content())
    with pytest.raises(ImageReadError) as caught:
        LoadImage()(dict(img_path=str(path)))
    message = str(caught.value)
    assert str(path) in message and reason in message
    remedy = 'Add it, or correct the path' if content is None else 'Repair or remove'
    assert "on_error='skip'" in message and remedy in message

    loader = LoadImage(on_error='skip')
    assert loader(dict(img_path=str(path))) is None
    assert loader(dict(img_path=str(path))) is None
    assert loader.num_skipped == 2


def test_unknown_on_error() -> None:
    with pytest.raises(ValueError, match="on_error='ignore'.*'raise'.*'skip'"):
        LoadImage(on_error='ignore')


def broken_folder(root: Path, broken: int = 4, whole: int = 12) -> ImageFolder:
    for label in ('a', 'b'):
        (root / label).mkdir(parents=True)
    for number in range(whole):
        Image.fromarray(noise_rgb(number)).save(root / 'ab'[number % 2] / f'whole_{number:02d}.png')
    for number in range(broken):
        (root / 'ab'[number % 2] / f'broken_{number:02d}.png').write_bytes(png_bytes()[:-200])
    pipeline = [
        dict(type='resformer_mm.LoadImage', on_error='skip'),
        dict(type='mmpretrain.PackInputs'),
    ]
    return ImageFolder(data_root=str(root), pipeline=[TRANSFORMS.build(step) for step in pipeline])


@pytest.mark.slow
@pytest.mark.parametrize('num_workers', [0, 2])
def test_skipped_files_are_counted_across_workers(tmp_path: Path, num_workers: int) -> None:
    dataset = broken_folder(tmp_path / 'images')
    loader = DataLoader(
        dataset,
        batch_size=4,
        num_workers=num_workers,
        collate_fn=multi_resolution_collate,
        multiprocessing_context='fork' if num_workers else None,
    )
    transform = dataset.pipeline.transforms[0]
    counts = []
    for _ in range(2):
        paths = [sample.img_path for batch in loader for sample in batch['data_samples']]
        assert len(paths) == len(dataset) == 16
        assert not [path for path in paths if 'broken' in path]
        counts.append(transform.num_skipped)
    # Every broken file once per epoch, and again where chance took one in place of another.
    assert counts[0] >= 4 and counts[1] >= counts[0] + 4

    class Runner:
        train_dataloader = loader

    messages = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('resformer_mm.engine.hooks.print_log', lambda text, **kwargs: messages.append(text))
        SkippedImagesHook().after_train_epoch(Runner())
        assert f'{counts[1]} reads' in messages[0] and 'check_data.py' in messages[0]
        transform.unreadable._skipped.zero_()
        SkippedImagesHook().after_train_epoch(Runner())
    assert len(messages) == 1  # silent when there is nothing to say


def test_skipped_files_are_named_once_and_not_without_end(monkeypatch) -> None:
    named = []
    monkeypatch.setattr(repairs, '_told', set())
    monkeypatch.setattr(repairs, 'print_log', lambda text, **_: named.append(text))
    files = UnreadableFiles('LoadImage', 'skip')
    for number in [*range(3), *range(MOST_NAMED + 10)]:
        files.skip_or_raise(f'cannot read {number}.png', ImageReadError, OSError())
    assert named == [f'skipped: cannot read {number}.png' for number in range(MOST_NAMED)]
    assert files.num_skipped == MOST_NAMED + 13


def test_the_default_stops_a_worker_with_the_name(tmp_path: Path) -> None:
    dataset = broken_folder(tmp_path / 'images', broken=1, whole=2)
    dataset.pipeline.transforms[0] = LoadImage()
    loader = DataLoader(
        dataset, num_workers=1, collate_fn=multi_resolution_collate, multiprocessing_context='fork'
    )
    with pytest.raises(ImageReadError, match='broken_00.png'):
        list(loader)


@pytest.mark.slow
def test_a_skipped_image_has_a_stand_in_only_in_training(tmp_path: Path) -> None:
    dataset = broken_folder(tmp_path / 'images', broken=1)
    dataset.test_mode = True
    broken = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
    index = next(number for number, path in enumerate(broken) if 'broken' in path)
    with pytest.raises(Exception, match='None'):
        dataset[index]


def test_reads_through_a_file_backend(tmp_path: Path) -> None:
    path = save(tmp_path / 'rgb.png', Image.fromarray(noise_rgb()))
    assert np.array_equal(read(path, backend_args=dict(backend='local')), noise_rgb()[..., ::-1])
    assert "on_error='skip'" in repr(LoadImage('skip'))
    assert torch.is_tensor(LoadImage().unreadable._skipped)


def test_large_images_have_no_limit_except_from_strangers(tmp_path: Path, monkeypatch) -> None:
    path = save(tmp_path / 'large.png', Image.fromarray(noise_rgb()))
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)  # Pillow refuses twice that number
    assert read(path).shape == (HEIGHT, WIDTH, 3)
    assert read_facts(path).shape == (HEIGHT, WIDTH)
    with pytest.raises(ValueError, match='30 x 20 pixels are more than the limit of 599'):
        decode_image(path.read_bytes(), max_pixels=599)
    assert Image.MAX_IMAGE_PIXELS == 100
    with without_pixel_limit():
        with without_pixel_limit():
            pass
        assert Image.MAX_IMAGE_PIXELS is None  # another thread may still be inside
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize('suffix', ['png', 'tif'])
@pytest.mark.parametrize('channels', [1, 3])
def test_twelve_bits_in_sixteen(tmp_path: Path, suffix: str, channels: int, caplog) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4096, (HEIGHT, WIDTH, channels), dtype=np.uint16)
    values[0, 0] = 4095
    path = tmp_path / f'camera.{suffix}'
    cv2.imwrite(str(path), values)
    assert read(path).max() == 15
    expected = np.broadcast_to(values, (HEIGHT, WIDTH, 3)) * (255 / 4095)
    assert_close(read(path, value_range=(0, 4095)), expected.round(), 0)
    assert 'no value exceeds 4095 of 65535' in read_facts(path).darkness
    assert 'value_range=(0, 4095)' in read_facts(path).darkness
    full = tmp_path / f'full.{suffix}'
    cv2.imwrite(str(full), values * 16)
    assert read_facts(full).darkness is None
    assert_close(read(full), np.broadcast_to(values // 16, (HEIGHT, WIDTH, 3)), 0)


def test_dark_values_are_told_once_per_run(tmp_path: Path, monkeypatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(repairs, '_told', set())
    monkeypatch.setattr(repairs, 'print_log', lambda text, **_: told.append(text))
    paths = []
    for number in range(2):
        paths.append(tmp_path / f'{number}.png')
        Image.fromarray((noise_rgb(number) > 127).astype(np.uint8)).save(paths[-1])
    for transform in (LoadImage(), LoadImage()):  # of the training and of the validation
        for path in paths:
            transform(dict(img_path=str(path)))
    assert len(told) == 1 and 'value_range=(0, 1)' in told[0] and str(paths[0]) in told[0]
    assert set(np.unique(read(paths[0], value_range=(0, 1)))) == {0, 255}
    assert len(told) == 1


@pytest.mark.parametrize('channels', [1, 3])
def test_floating_point_numbers_need_their_range(tmp_path: Path, channels: int) -> None:
    values = np.random.default_rng(0).random((HEIGHT, WIDTH, channels), dtype=np.float32)
    path = tmp_path / 'depth.tif'
    cv2.imwrite(str(path), values, [cv2.IMWRITE_TIFF_COMPRESSION, 1])
    with pytest.raises(
        ImageReadError, match=r'floating-point numbers from 0\.\d+ to 0\.9\d+.*value_range.*\(0, 1\)'
    ):
        read(path)
    assert 'floating-point numbers' in read_facts(path).darkness
    expected = np.broadcast_to(values, (HEIGHT, WIDTH, 3)) * 255
    assert_close(read(path, value_range=(0, 1)), expected.round(), 1)


def test_a_range_of_sixteen_bits_leaves_eight_bits_alone(tmp_path: Path) -> None:
    path = save(tmp_path / 'rgb.png', Image.fromarray(noise_rgb()))
    assert np.array_equal(read(path, value_range=(0, 4095)), read(path))
    for wrong in ((1,), (5, 5), (9, 2)):
        with pytest.raises(ValueError, match='values of black and white'):
            LoadImage(value_range=wrong)
