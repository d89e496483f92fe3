"""Segmentation, detection and video: the same contract, checked against the models' own layers."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import mmcv
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask
from small_models import MEAN, PATCH, STD, detector, recognizer, save_checkpoint, segmentor

from resformer_mm.apis.inferencer import make_inferencer
from resformer_mm.apis.reporting import predict_at_resolutions
from resformer_mm.inference.sources import InputError
from resformer_mm.tasks.detection.inferencer import DetectionInferencer
from resformer_mm.tasks.segmentation.inferencer import SegmentationInferencer
from resformer_mm.tasks.video.inferencer import VideoInferencer

WIDTH, HEIGHT = 150, 100


def picture(seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Return smooth colours, BGR ``(H, W, 3)``."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures, and a file that is none."""
    root = tmp_path_factory.mktemp('pictures')
    for seed in range(3):
        cv2.imwrite(str(root / f'{seed}.png'), picture(seed))
    (root / 'bad.png').write_bytes(b'no picture')
    return root


def tensor_at(image: np.ndarray, short: int) -> torch.Tensor:
    """Return a picture as the models get it at a resolution: scaled, normalised, RGB ``(1, 3, h, w)``."""
    image = mmcv.imrescale(image, (16 * short, short))
    pixels = (image[..., ::-1].astype(np.float64) - MEAN) / STD
    return torch.from_numpy(pixels.transpose(2, 0, 1)[None]).float()


# Segmentation


@pytest.fixture(scope='module')
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> SegmentationInferencer:
    checkpoint = save_checkpoint(segmentor(), tmp_path_factory.mktemp('seg') / 'w.pth')
    made = make_inferencer(segmentor(), checkpoint, 'cpu')
    assert type(made) is SegmentationInferencer
    return made


@pytest.mark.parametrize('resolution', [None, 32, 90])
def test_label_maps_are_those_of_the_layers(segmenter, resolution) -> None:
    image = picture()
    (prediction,) = segmenter(image, resolution=resolution)['predictions']
    model = segmenter.model
    with torch.no_grad():
        logits = model.decode_head.forward(model.backbone(tensor_at(image, resolution or 64)))
    small = tensor_at(image, resolution or 64).shape[-2:]
    logits = F.interpolate(logits, small, mode='bilinear')
    logits = F.interpolate(logits, (HEIGHT, WIDTH), mode='bilinear')[0]
    best = logits.topk(2, dim=0).values
    clear = (best[0] - best[1] > 1e-3).numpy()
    seg_map = prediction['seg_map']
    assert seg_map.shape == (HEIGHT, WIDTH) and seg_map.dtype == np.uint8 and clear.mean() > 0.98
    assert np.array_equal(seg_map[clear], logits.argmax(0).numpy()[clear])
    assert len(np.unique(seg_map)) > 1
    assert prediction['resolution'] == (resolution or 64)


def test_areas_are_shares_of_the_label_map(segmenter) -> None:
    (prediction,) = segmenter(picture())['predictions']
    areas = prediction['areas']
    assert sum(areas.values()) == pytest.approx(1) and list(areas.values()) == sorted(areas.values())[::-1]
    for name, area in areas.items():
        label = int(name.removeprefix('stuff '))
        assert area == pytest.approx((prediction['seg_map'] == label).mean())


def test_segmented_folder_with_overlays(segmenter, folder, tmp_path) -> None:
    result = segmenter(folder, out_dir=tmp_path, return_vis=True, batch_size=2)
    assert [Path(entry['path']).name for entry in result['skipped']] == ['bad.png']
    written = json.loads((tmp_path / 'predictions.json').read_text())['predictions']
    for seed, (prediction, plain) in enumerate(zip(result['predictions'], written, strict=True)):
        (single,) = segmenter(picture(seed))['predictions']
        assert np.array_equal(prediction['seg_map'], single['seg_map'])
        assert plain['seg_map'] == f'pred/{seed}.png' and plain['areas'] == prediction['areas']
        stored = cv2.imread(str(tmp_path / plain['seg_map']), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(stored, prediction['seg_map'])
        drawn = result['visualization'][seed]
        colours = np.array(segmenter.dataset_meta['palette'])[prediction['seg_map']]
        alpha = segmenter.visualizer.alpha
        overlay = (1 - alpha) * picture(seed)[..., ::-1] + alpha * colours
        assert (np.abs(drawn - overlay).max(axis=-1) <= 2).mean() > 0.8  # but for the names
        assert np.array_equal(cv2.imread(str(tmp_path / 'vis' / f'{seed}.png'))[..., ::-1], drawn)


def test_pictures_at_their_own_size(folder, tmp_path) -> None:
    cfg = segmentor()
    pipeline = cfg.test_dataloader.dataset.pipeline
    cfg.test_dataloader.dataset.pipeline = [step for step in pipeline if 'Resize' not in step['type']]
    inferencer = make_inferencer(cfg, None, 'cpu')
    assert inferencer.default_resolution is None
    pictures = [picture(0), picture(1, 75, 83)]
    predictions = inferencer(pictures, batch_size=2)['predictions']
    assert [prediction['resolution'] for prediction in predictions] == [100, 75]
    assert [prediction['seg_map'].shape for prediction in predictions] == [(100, 150), (83, 75)]
    resizing = make_inferencer(segmentor(), None, 'cpu')
    resizing.model.load_state_dict(inferencer.model.state_dict())
    (expected,) = resizing(picture(0), resolution=100)['predictions']
    assert np.array_equal(predictions[0]['seg_map'], expected['seg_map'])
    results = predict_at_resolutions(inferencer, folder, [None], tmp_path)
    assert len(results[None]['predictions']) == 3 and (tmp_path / 'predictions.json').is_file()
    with pytest.raises(ValueError, match='cannot be evaluated at another resolution'):
        inferencer(pictures, resolution=64)


def test_class_names_of_another_number_are_refused() -> None:
    cfg = segmentor()
    cfg.test_dataloader.dataset.metainfo.classes = ['one']
    with pytest.raises(ValueError, match='the model has 5 classes, but .* names 1'):
        make_inferencer(cfg, None, 'cpu')
    cfg = detector()
    del cfg.test_dataloader.dataset['metainfo']  # leaves the 80 of COCO
    with pytest.raises(ValueError, match='the model has 3 classes, but .* names 80'):
        make_inferencer(cfg, None, 'cpu')


# Detection


@pytest.fixture(scope='module')
def finder(tmp_path_factory: pytest.TempPathFactory) -> DetectionInferencer:
    checkpoint = save_checkpoint(detector(), tmp_path_factory.mktemp('det') / 'w.pth', std=None)
    made = make_inferencer(detector(), checkpoint, 'cpu')
    assert type(made) is DetectionInferencer
    return made


@pytest.mark.parametrize('resolution', [None, 96])
def test_objects_are_those_of_the_model(finder, resolution) -> None:
    image = picture()
    (prediction,) = finder(image, resolution=resolution, score_thr=0)['predictions']
    tensor = tensor_at(image, resolution or 64)
    height, width = tensor.shape[-2:]
    sample = DetDataSample(metainfo=dict(img_shape=(height, width), ori_shape=(HEIGHT, WIDTH)))
    sample.set_metainfo(dict(scale_factor=(width / WIDTH, height / HEIGHT)))
    sample.set_metainfo(dict(batch_input_shape=[-(-side // PATCH) * PATCH for side in (height, width)]))
    bottom, right = (-side % PATCH for side in (height, width))
    with torch.no_grad():
        expected = finder.model.predict(F.pad(tensor, (0, right, 0, bottom)), [sample])[0].pred_instances
    assert len(prediction['scores']) == len(expected) > 1
    np.testing.assert_allclose(prediction['bboxes'], expected.bboxes, atol=1e-2)
    np.testing.assert_allclose(prediction['scores'], expected.scores, atol=1e-4)
    assert prediction['labels'] == expected.labels.tolist()
    assert prediction['classes'] == [('cat', 'dog', 'owl')[label] for label in prediction['labels']]
    assert prediction['scores'] == sorted(prediction['scores'], reverse=True)
    for code, mask in zip(prediction['masks'], expected.masks, strict=True):
        assert code['size'] == [HEIGHT, WIDTH]
        assert (coco_mask.decode(code).astype(bool) == mask.numpy()).mean() > 0.999
    json.dumps(prediction)


def test_the_score_threshold_lists_and_draws(finder) -> None:
    image = picture()
    every = finder(image, score_thr=0)['predictions'][0]
    gaps = -np.diff(every['scores'])
    number = int(gaps.argmax()) + 1
    threshold = (every['scores'][number - 1] + every['scores'][number]) / 2
    result = finder(image, score_thr=threshold, return_vis=True)
    assert result['predictions'][0]['scores'] == every['scores'][:number]
    assert not np.array_equal(result['visualization'][0], image[..., ::-1])
    nothing = finder(image, score_thr=1.0, return_vis=True)
    assert nothing['predictions'][0]['bboxes'] == [] and nothing['predictions'][0]['masks'] == []
    assert np.abs(nothing['visualization'][0].astype(int) - image[..., ::-1]).max() <= 1
    assert finder.describe(nothing['predictions'][0]) == 'nothing'


def test_detection_in_a_folder_and_in_batches(finder, folder, tmp_path) -> None:
    result = finder(folder, out_dir=tmp_path, batch_size=2, score_thr=0)
    assert [Path(entry['path']).name for entry in result['skipped']] == ['bad.png']
    for seed, prediction in enumerate(result['predictions']):
        (single,) = finder(picture(seed), score_thr=0)['predictions']
        np.testing.assert_allclose(prediction['bboxes'], single['bboxes'], atol=1e-2)
    assert sorted(path.name for path in (tmp_path / 'vis').iterdir()) == ['0.png', '1.png', '2.png']
    written = json.loads((tmp_path / 'predictions.json').read_text())
    assert written['predictions'] == result['predictions']
    sizes = finder([picture(0), picture(1, 100, 150)], batch_size=2)  # padded together
    assert len(sizes['predictions']) == 2


def test_objects_in_a_few_words(finder) -> None:
    labels = torch.tensor([1, 1, 0, 1, 1, 1, 2])
    found = InstanceData(bboxes=torch.rand(7, 4), scores=torch.linspace(0.9, 0.3, 7), labels=labels)
    prediction = finder.to_dict(DetDataSample(pred_instances=found))
    assert finder.headline(prediction) == '5 dog, 1 cat, 1 owl'
    description = finder.describe(prediction)
    assert description.startswith('dog 0.900, dog 0.800, cat 0.700') and description.endswith('and 2 more')


# Clips


def write_clip(path: Path, seed: int = 0, frames: int = 22) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 10.0, (WIDTH, HEIGHT))
    for number in range(frames):
        writer.write(np.roll(picture(seed), 5 * number, axis=1))
    writer.release()
    return path


@pytest.fixture(scope='module')
def watcher(tmp_path_factory: pytest.TempPathFactory) -> VideoInferencer:
    checkpoint = tmp_path_factory.mktemp('video') / 'w.pth'
    save_checkpoint(recognizer(), checkpoint, classes=['run', 'jump', 'sit'])
    made = make_inferencer(recognizer(), checkpoint, 'cpu')
    assert type(made) is VideoInferencer
    return made


def clip_scores(watcher: VideoInferencer, frames: np.ndarray, resolution: int) -> torch.Tensor:
    """Return the class probabilities of the middle frames of four segments, RGB ``(T, H, W, 3)``."""
    chosen = [frames[int(len(frames) / 4 * (segment + 0.5))] for segment in range(4)]
    scale = resolution / min(frames.shape[1:3])
    width, height = (int(side * scale + 0.5) for side in (WIDTH, HEIGHT))
    left, top = (width - resolution) // 2, (height - resolution) // 2
    features = []
    for frame in chosen:
        image = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
        image = image[top : top + resolution, left : left + resolution]
        tensor = torch.from_numpy(((image - np.array(MEAN)) / STD).transpose(2, 0, 1)[None]).float()
        with torch.no_grad():
            features.append(watcher.model.backbone(tensor)[0].mean(dim=(2, 3)))
    fc = watcher.model.cls_head.fc_cls
    with torch.no_grad():
        return fc(torch.cat(features).mean(dim=0)).softmax(-1)


@pytest.mark.parametrize('resolution', [None, 48])
def test_clips_are_classified_as_by_hand(watcher, tmp_path, resolution) -> None:
    import decord

    path = write_clip(tmp_path / 'clip.mp4')
    frames = decord.VideoReader(str(path)).get_batch(range(22)).asnumpy()
    expected = clip_scores(watcher, frames, resolution or 64)
    for source in (path, frames):
        (prediction,) = watcher(source, resolution=resolution, topk=2)['predictions']
        torch.testing.assert_close(torch.tensor(prediction['pred_scores']), expected, rtol=0, atol=1e-4)
        assert prediction['pred_class'] == ['run', 'jump', 'sit'][int(expected.argmax())]
        assert len(prediction['topk']) == 2 and prediction['resolution'] == (resolution or 64)


def test_a_folder_of_clips(watcher, tmp_path) -> None:
    root = tmp_path / 'clips'
    root.mkdir()
    for seed in (1, 0):
        write_clip(root / f'{seed}.mp4', seed)
    (root / 'bad.mp4').write_bytes(b'no clip')
    result = watcher(root, out_dir=tmp_path / 'out', return_vis=True, batch_size=2)
    assert [Path(entry['path']).name for entry in result['predictions']] == ['0.mp4', '1.mp4']
    assert [Path(entry['path']).name for entry in result['skipped']] == ['bad.mp4']
    for number, drawn in enumerate(result['visualization']):
        assert drawn.shape == (4, HEIGHT, WIDTH, 3)
        written = cv2.VideoCapture(str(tmp_path / 'out' / 'vis' / f'{number}.mp4'))
        assert written.get(cv2.CAP_PROP_FRAME_COUNT) == 4
    with pytest.raises(InputError, match=r'cannot read .*bad\.mp4'):
        watcher(root / 'bad.mp4')
    with pytest.raises(InputError, match=r'RGB, uint8 and of shape \(T, H, W, 3\)'):
        watcher(np.zeros((9, 9, 3), np.uint8))


def test_frame_folder_pipelines_read_files(watcher, tmp_path) -> None:
    path = write_clip(tmp_path / 'clip.mp4')
    cfg = recognizer()
    pipeline = cfg.test_dataloader.dataset.pipeline
    cfg.test_dataloader.dataset.pipeline = [pipeline[1], dict(type='RawFrameDecode'), *pipeline[3:]]
    other = make_inferencer(cfg, None, 'cpu')
    other.model.load_state_dict(watcher.model.state_dict())
    scores = [made(path)['predictions'][0]['pred_scores'] for made in (watcher, other)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


@pytest.mark.parametrize('fixture', ['segmenter', 'finder', 'watcher'])
def test_a_resolution_below_one_patch_is_refused(request, fixture) -> None:
    inferencer = request.getfixturevalue(fixture)
    inputs = np.zeros((8, 64, 64, 3), np.uint8) if fixture == 'watcher' else picture()
    with pytest.raises(ValueError, match='12 pixels is below one patch of 16 x 16'):
        inferencer(inputs, resolution=12)
