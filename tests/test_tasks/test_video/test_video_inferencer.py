"""Video inferencer: clips are classified as by hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pictures import HEIGHT, WIDTH, picture
from small_models import MEAN, STD, recognizer, save_checkpoint

from resformer_mm.apis.inferencer import make_inferencer
from resformer_mm.inference.sources import InputError
from resformer_mm.tasks.video.inferencer import VideoInferencer


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
    with pytest.raises(InputError, match=r'RGB uint8 of shape \(T, H, W, 3\)'):
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


def test_a_resolution_below_one_patch_is_refused(watcher) -> None:
    with pytest.raises(ValueError, match='12 pixels is below one patch of 16 x 16'):
        watcher(np.zeros((8, 64, 64, 3), np.uint8), resolution=12)
