"""Classification: predictions are those of a forward pass made by hand, whatever the form of the input."""

from __future__ import annotations

import json
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample
from pictures import drawn_over
from PIL import Image
from small_models import MEAN, PATCH, STD, classifier, save_checkpoint, segmentor

from resformer_mm import repairs
from resformer_mm.apis.inferencer import make_inferencer
from resformer_mm.checkpoints import CheckpointError
from resformer_mm.inference.sources import InputError
from resformer_mm.tasks.classification.inferencer import ClassificationInferencer

CLASSES = tuple(f'kind {label}' for label in range(7))
SIZES = [(90, 70), (71, 133), (64, 64), (200, 90), (33, 31)]  # width, height


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Return coloured noise with a gradient, RGB ``(H, W, 3)``."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    gradient = np.stack([255 * x / width, 255 * y / height, 127 + 0 * x], axis=-1)
    return (0.5 * gradient + rng.integers(0, 128, (height, width, 3))).astype(np.uint8)


@pytest.fixture(scope='module')
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five picture files of different sizes."""
    folder = tmp_path_factory.mktemp('pictures')
    paths = []
    for index, (width, height) in enumerate(SIZES):
        paths.append(folder / f'{index}.{"png" if index else "jpg"}')
        Image.fromarray(picture(width, height, index)).save(paths[-1])
    return paths


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(classifier(), tmp_path_factory.mktemp('weights') / 'w.pth', classes=CLASSES)


@pytest.fixture(scope='module')
def inferencer(checkpoint: Path) -> ClassificationInferencer:
    made = make_inferencer(classifier(), checkpoint, 'cpu')
    assert type(made) is ClassificationInferencer
    return made


def by_hand(model: torch.nn.Module, path: Path, resolution: int) -> torch.Tensor:
    """Return the class probabilities: Pillow's decoder and resize, and the layers one by one."""
    image = Image.open(path).convert('RGB')
    short = int(resolution * 256 / 224)
    width, height = image.size
    size = (int(short * width / height), short) if height < width else (short, int(short * height / width))
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (round((side - resolution) / 2) for side in size)
    image = image.crop((left, top, left + resolution, top + resolution))
    pixels = (np.asarray(image, dtype=np.float64) - MEAN) / STD
    tensor = torch.from_numpy(pixels.transpose(2, 0, 1)[None]).float()
    with torch.no_grad():
        features = model.backbone(tensor)[-1]
        return (features @ model.head.fc.weight.T + model.head.fc.bias).softmax(-1)[0]


@pytest.mark.parametrize('resolution', [None, 16, 40, 80])
def test_predictions_are_those_of_a_forward_pass_by_hand(inferencer, pictures, resolution) -> None:
    result = inferencer([str(path) for path in pictures], resolution=resolution, batch_size=2)
    assert len(result['predictions']) == len(pictures) and not result['skipped']
    for path, prediction in zip(pictures, result['predictions']):
        scores = by_hand(inferencer.model, path, resolution or 64)
        torch.testing.assert_close(torch.tensor(prediction['pred_scores']), scores, rtol=0, atol=1e-5)
        assert prediction['pred_label'] == int(scores.argmax())
        assert prediction['pred_class'] == CLASSES[prediction['pred_label']]
        assert prediction['pred_score'] == max(prediction['pred_scores'])
        assert prediction['path'] == str(path) and prediction['resolution'] == (resolution or 64)
        best = sorted(range(7), key=lambda label: -prediction['pred_scores'][label])[:5]
        assert [entry['label'] for entry in prediction['topk']] == best
        assert [entry['class'] for entry in prediction['topk']] == [CLASSES[label] for label in best]
    json.dumps(result['predictions'])  # plain


def test_batch_single_array_and_path_agree(inferencer, pictures) -> None:
    singly = [inferencer(path)['predictions'][0] for path in pictures]
    arrays = [np.ascontiguousarray(np.asarray(Image.open(path))[..., ::-1]) for path in pictures]
    copies = [array.copy() for array in arrays]
    assert inferencer(pictures[0].parent)['predictions'] == singly  # a folder, by name
    for batch_size in (2, 8):
        for inputs in (pictures, tuple(map(str, pictures)), arrays, [*arrays[:2], *pictures[2:]]):
            batch = inferencer(inputs, batch_size=batch_size)['predictions']
            for prediction, expected in zip(batch, singly, strict=True):
                scores = prediction['pred_scores'], expected['pred_scores']
                np.testing.assert_allclose(*scores, rtol=0, atol=1e-6)
    assert all(map(np.array_equal, arrays, copies))
    assert inferencer(arrays[0])['predictions'][0]['path'] is None


def seen_sizes(inferencer, *args, **kwargs) -> list[tuple[int, ...]]:
    """Return the shapes of what the patch embedding gets during a call."""
    shapes = []
    hook = inferencer.model.backbone.patch_embed.register_forward_pre_hook(
        lambda module, inputs: shapes.append(tuple(inputs[0].shape))
    )
    inferencer(*args, **kwargs)
    hook.remove()
    return shapes


def test_the_resolution_reaches_the_model(inferencer, pictures) -> None:
    assert seen_sizes(inferencer, pictures[0]) == [(1, 3, 64, 64)]
    for resolution in (16, 50, 96):
        assert seen_sizes(inferencer, pictures[0], resolution=resolution) == [(1, 3, resolution, resolution)]
    sizes = seen_sizes(inferencer, pictures, resolution=32, batch_size=3)
    assert sizes == [(3, 3, 32, 32), (2, 3, 32, 32)]
    assert inferencer.default_resolution == 64 and inferencer.patch_size == PATCH


def test_images_of_several_sizes_are_not_padded(checkpoint, pictures) -> None:
    """A pipeline of mmpretrain that keeps the form of the image, with its own preprocessor."""
    pipeline = [
        dict(type='LoadImageFromFile', to_float32=True),
        dict(type='ResizeEdge', scale=32, edge='short'),
        dict(type='PackInputs'),
    ]
    cfg = classifier(pipeline=pipeline)
    cfg.model.data_preprocessor.type = 'ClsDataPreprocessor'
    inferencer = make_inferencer(cfg, checkpoint, 'cpu')
    sizes = seen_sizes(inferencer, [*pictures, pictures[-1]], batch_size=4)
    assert [shape[0] for shape in sizes] == [1, 1, 1, 1, 2]
    assert sizes[3][2:] == (32, 71)  # of 200 x 90
    assert seen_sizes(inferencer, pictures[3], resolution=64)[0][2:] == (64, 142)
    batch = inferencer(pictures, batch_size=4)['predictions']
    arrays = [cv2.imread(str(path)) for path in pictures]
    for prediction, array in zip(batch, arrays):
        expected = inferencer(array)['predictions'][0]
        np.testing.assert_allclose(prediction['pred_scores'], expected['pred_scores'], rtol=0, atol=1e-6)


def test_the_time_is_that_of_the_model(inferencer, pictures, monkeypatch) -> None:
    step = inferencer.model.test_step
    monkeypatch.setattr(inferencer.model, 'test_step', lambda data: time.sleep(0.05) or step(data))
    start = time.perf_counter()
    spent = inferencer(pictures[:3])['forward_ms']
    assert 150 <= spent <= 1000 * (time.perf_counter() - start)


# Folders with files that cannot be read


@pytest.fixture
def folder(tmp_path: Path, pictures: list[Path]) -> Path:
    """Three pictures, a truncated and a foreign one, and what is none."""
    root = tmp_path / 'folder'
    (root / 'sub').mkdir(parents=True)
    for name, source in (('c.JPG', 0), ('a.png', 1), ('sub/d.png', 2), ('e.png', 3)):
        (root / name).write_bytes(pictures[source].read_bytes())
    (root / 'b.jpg').write_bytes(pictures[0].read_bytes()[:-400])
    (root / '[d].png').write_text('no picture')
    (root / 'notes.txt').write_text('no picture either')
    return root


def test_unreadable_files_of_a_folder_are_named_and_counted(inferencer, folder, monkeypatch) -> None:
    messages = []
    monkeypatch.setattr(repairs, '_told', set())
    for module in ('resformer_mm.inference.sources', 'resformer_mm.repairs'):
        monkeypatch.setattr(f'{module}.print_log', lambda text, **kwargs: messages.append(text))
    result = inferencer(str(folder), batch_size=2)
    assert [Path(entry['path']).name for entry in result['predictions']] == ['a.png', 'c.JPG', 'e.png']
    assert [Path(entry['path']).name for entry in result['skipped']] == ['[d].png', 'b.jpg']
    assert 'cannot identify image file' in result['skipped'][0]['reason']
    assert 'truncated' in result['skipped'][1]['reason']
    assert not [entry for entry in result['skipped'] if '0x' in entry['reason']]
    for prediction in result['predictions']:
        expected = inferencer(prediction['path'])['predictions'][0]['pred_scores']
        np.testing.assert_allclose(prediction['pred_scores'], expected, rtol=0, atol=1e-6)
    text = '\n'.join(messages)
    assert all(word in text for word in ('skipped', '[d].png', 'b.jpg', 'ignored 1 other', 'notes.txt'))


def test_a_folder_without_a_readable_file(inferencer, folder) -> None:
    for name in ('a.png', 'c.JPG', 'e.png'):
        (folder / name).unlink()
    result = inferencer(folder)
    assert not result['predictions'] and len(result['skipped']) == 2


def test_bad_inputs_are_named(inferencer, folder, tmp_path) -> None:
    with pytest.raises(InputError, match=r'cannot read .*b\.jpg \(OSError.*truncated'):
        inferencer(folder / 'b.jpg')
    with pytest.raises(InputError, match=r'b\.jpg'):
        inferencer([folder / 'a.png', folder / 'b.jpg'])
    with pytest.raises(FileNotFoundError, match='nowhere.png'):
        inferencer(str(tmp_path / 'nowhere.png'))
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match='empty has no file that ends in .*.png.*subfolders'):
        inferencer(tmp_path / 'empty')
    with pytest.raises(InputError, match='the list of inputs is empty'):
        inferencer([])
    with pytest.raises(TypeError, match='path or an array, got dict'):
        inferencer([{}])
    for array in (np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((9, 9, 4), np.uint8)):
        with pytest.raises(InputError, match=r'BGR uint8 of shape \(H, W, 3\), got'):
            inferencer(array)


def test_bad_arguments_are_named(inferencer, pictures, tmp_path) -> None:
    with pytest.raises(ValueError, match='8 pixels is below one patch of 16 x 16: choose at least 16'):
        inferencer(pictures[0], resolution=8, out_dir=tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
    for resolution in (0, -32, 'large', 32.5, True):
        with pytest.raises(ValueError, match='resolutions are positive integers'):
            inferencer(pictures[0], resolution=resolution)
    with pytest.raises(ValueError, match='batch_size must be at least 1'):
        inferencer(pictures[0], batch_size=0)
    with pytest.raises(ValueError, match='topk must be at least 1'):
        inferencer(pictures[0], topk=0)
    with pytest.raises(ValueError, match='colour'):
        inferencer(pictures[0], colour='red')


# What it is made of


def test_class_names_come_from_the_checkpoint_then_the_config(checkpoint, pictures, tmp_path) -> None:
    unnamed = save_checkpoint(classifier(), tmp_path / 'unnamed.pth')
    named = classifier(metainfo=dict(classes=list('ABCDEFG')))
    assert make_inferencer(named, checkpoint, 'cpu').classes == CLASSES
    assert make_inferencer(named, unnamed, 'cpu').classes == list('ABCDEFG')
    numbered = make_inferencer(classifier(), unnamed, 'cpu')
    prediction = numbered(pictures[0])['predictions'][0]
    assert prediction['pred_class'] == str(prediction['pred_label'])
    wrong = make_inferencer(classifier(metainfo=dict(classes=['A', 'B'])), unnamed, 'cpu')
    with pytest.raises(ValueError, match='the model has 7 classes, but .* names 2'):
        wrong(pictures[0])
    few = save_checkpoint(classifier(), tmp_path / 'few.pth', classes=['A', 'B'], palette=[[0, 0, 0]] * 2)
    with pytest.raises(ValueError, match=r'set .*\.dataset\.metainfo\.classes to the names of all 7'):
        make_inferencer(classifier(), few, 'cpu')(pictures[0])
    assert make_inferencer(named, few, 'cpu').classes == list('ABCDEFG')  # as the message says


def test_published_names_come_from_the_data_set(monkeypatch) -> None:
    messages = []
    target = 'resformer_mm.inference.base.print_log'
    monkeypatch.setattr(target, lambda text, **kwargs: messages.append(text))
    cfg = classifier(num_classes=1000)
    cfg.test_dataloader.dataset.type = 'resformer_mm.ImageNet'
    assert make_inferencer(cfg, None, 'cpu').classes[1] == 'goldfish, Carassius auratus'
    assert 'no checkpoint' in messages[0]


def test_what_does_not_fit_is_refused(checkpoint, tmp_path) -> None:
    other = save_checkpoint(classifier(num_classes=4), tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match=r'other\.pth'):
        make_inferencer(classifier(), other, 'cpu')
    with pytest.raises(CheckpointError, match=r'missing\.pth'):
        make_inferencer(classifier(), tmp_path / 'missing.pth', 'cpu')
    with pytest.raises(FileNotFoundError, match='there is no config'):
        make_inferencer(tmp_path / 'missing.py', checkpoint, 'cpu')
    cfg = classifier()
    cfg.default_scope = 'mmengine'
    with pytest.raises(
        ValueError, match="model.type='ImageClassifier' is not registered: check .*default_scope"
    ):
        make_inferencer(cfg, checkpoint, 'cpu')
    with pytest.raises(ValueError, match="device 'cuda:77' cannot be used"):
        make_inferencer(classifier(), checkpoint, 'cuda:77')
    cfg = classifier()
    cfg.pop('test_dataloader')
    with pytest.raises(ValueError, match='no `test_dataloader.dataset.pipeline`'):
        make_inferencer(cfg, checkpoint, 'cpu')
    cfg = classifier(pipeline=[dict(type='PackInputs')])
    with pytest.raises(ValueError, match='starts with PackInputs.*loads an image'):
        make_inferencer(cfg, checkpoint, 'cpu')


def test_overrides_and_wrapped_data_sets(checkpoint, pictures) -> None:
    options = {'test_dataloader.dataset.pipeline.1.resolution': 48}
    assert make_inferencer(classifier(), checkpoint, 'cpu', options).default_resolution == 48
    cfg = classifier()
    cfg.test_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=cfg.test_dataloader.dataset)
    assert seen_sizes(make_inferencer(cfg, checkpoint, 'cpu'), pictures[0], resolution=32) == [(1, 3, 32, 32)]


@pytest.mark.operators('mmseg')
def test_two_inferencers_of_different_libraries_side_by_side(inferencer, pictures) -> None:
    expected = inferencer(pictures[0], resolution=32)['predictions']
    other = make_inferencer(segmentor(), None, 'cpu')
    other(pictures[0])
    assert inferencer(pictures[0], resolution=32)['predictions'] == expected


# What comes out on request


def test_data_samples_on_request(inferencer, pictures) -> None:
    samples = inferencer(pictures, return_datasamples=True)['predictions']
    assert [type(sample) for sample in samples] == [DataSample] * len(pictures)
    predictions = inferencer(pictures)['predictions']
    assert [int(sample.pred_label) for sample in samples] == [p['pred_label'] for p in predictions]


def test_drawings_on_request(inferencer, pictures, tmp_path) -> None:
    assert inferencer(pictures)['visualization'] == []
    result = inferencer(pictures, return_vis=True, batch_size=2)
    for drawn, (width, height) in zip(result['visualization'], SIZES, strict=True):
        assert drawn.dtype == np.uint8 and min(drawn.shape[:2]) == 224  # enlarged
        assert drawn.shape[1] / drawn.shape[0] == pytest.approx(width / height, abs=0.02)
    large = picture(400, 300)
    (drawn,) = inferencer(large[..., ::-1].copy(), return_vis=True)['visualization']
    changed = drawn_over(drawn, large, 8)
    assert changed[:40].mean() > 0.2 and not changed[60:].any()  # a line at the top, the rest as it was
    assert not list(tmp_path.iterdir())


def test_the_writing_fits(checkpoint) -> None:
    """A picture's last columns stay free of letters, whose grey box is half transparent."""
    names = [f'a name of medium length {label}' for label in range(7)]
    cfg = classifier(metainfo=dict(classes=names))
    unnamed = save_checkpoint(classifier(), checkpoint.parent / 'unnamed.pth')
    inferencer = make_inferencer(cfg, unnamed, 'cpu')
    (drawn,) = inferencer(np.zeros((224, 224, 3), np.uint8), return_vis=True)['visualization']
    assert drawn[:30].max() > 200 and drawn[:, -4:].max() < 60


def test_a_result_folder(inferencer, pictures, folder, tmp_path) -> None:
    out = tmp_path / 'new' / 'out'
    array = np.ascontiguousarray(picture(300, 250)[..., ::-1])
    result = inferencer([folder, folder / 'a.png', array], out_dir=out, resolution=32, return_vis=True)
    names = ['a.png', 'c.png', 'e.png', 'a_2.png', '000004.png']
    assert sorted(path.name for path in (out / 'vis').iterdir()) == sorted(names)
    for name, drawn in zip(names, result['visualization'], strict=True):
        assert np.array_equal(cv2.imread(str(out / 'vis' / name))[..., ::-1], drawn)
    written = json.loads((out / 'predictions.json').read_text())
    assert written == {'skipped': result['skipped'], 'predictions': result['predictions']}
    assert len(written['skipped']) == 2


def test_show_without_a_display(inferencer, pictures, monkeypatch) -> None:
    monkeypatch.setattr('matplotlib.pyplot.get_backend', lambda: 'agg')
    with pytest.raises(ValueError, match='no display.*out_dir'):
        inferencer(pictures[0], show=True)
    shown = []
    monkeypatch.setattr('matplotlib.pyplot.get_backend', lambda: 'qtagg')
    monkeypatch.setattr(inferencer.visualizer, 'show', lambda *args: shown.append(args))
    inferencer(pictures[:2], show=True, wait_time=3)
    assert [(path, wait) for _, path, wait in shown] == [(str(path), 3) for path in pictures[:2]]


# Videos, frame by frame


def write_video(path: Path, frames: list[np.ndarray], codec: str = 'MJPG') -> Path:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 10.0, (width, height))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    frames = [picture(120, 90, seed) * np.array([0.2, 0.6, 1.0]) for seed in range(7)]  # reddish
    return write_video(tmp_path / 'clip.avi', [frame.astype(np.uint8) for frame in frames])


def test_a_video_is_predicted_frame_by_frame(inferencer, video, pictures, tmp_path) -> None:
    out = tmp_path / 'out'
    result = inferencer([pictures[0], video], resolution=32, batch_size=3, out_dir=out, return_vis=True)
    first, *frames = result['predictions']
    assert 'frame' not in first and not result['skipped']
    assert [prediction['frame'] for prediction in frames] == list(range(7))
    capture = cv2.VideoCapture(str(video))
    for prediction in frames:
        (expected,) = inferencer(capture.read()[1], resolution=32)['predictions']
        assert prediction['path'] == str(video)
        np.testing.assert_allclose(prediction['pred_scores'], expected['pred_scores'], rtol=0, atol=1e-6)
    written = cv2.VideoCapture(str(out / 'vis' / 'clip.mp4'))
    assert written.get(cv2.CAP_PROP_FPS) == 10
    for drawn in result['visualization'][1:]:
        ok, frame = written.read()
        assert ok and frame.shape == drawn.shape
        colours = frame[..., ::-1].mean(axis=(0, 1)), drawn.mean(axis=(0, 1))
        np.testing.assert_allclose(*colours, atol=8)  # as far as the codec loses
    assert not written.read()[0]
    assert sorted(path.name for path in (out / 'vis').iterdir()) == ['0.png', 'clip.mp4']
    assert len(json.loads((out / 'predictions.json').read_text())['predictions']) == 8


def test_a_video_that_ends_early_is_reported(inferencer, video) -> None:
    video.write_bytes(video.read_bytes()[: int(0.6 * video.stat().st_size)])
    result = inferencer(video, resolution=16)
    number = len(result['predictions'])
    assert 0 < number < 7
    assert result['skipped'] == [
        {'path': str(video), 'reason': f'ends after {number} frames, the file header says 7'}
    ]


def test_an_unreadable_video_is_named(inferencer, tmp_path) -> None:
    (tmp_path / 'bad.mp4').write_bytes(b'no video')
    with pytest.raises(InputError, match=r'cannot read the video .*bad\.mp4'):
        inferencer(tmp_path / 'bad.mp4')
