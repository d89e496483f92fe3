"""Label maps of slices are those of whole images where the scores of a pixel do not depend on others."""

from __future__ import annotations

import json
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from pictures import picture
from small_models import MEAN, STD, save_checkpoint, segmentor
from torch.utils._python_dispatch import TorchDispatchMode

from resformer_mm.apis.inferencer import make_inferencer
from resformer_mm.inference.slicing import SliceGrid
from resformer_mm.tasks.segmentation.inferencer import SegmentationInferencer
from resformer_mm.tasks.segmentation.slices import LabelMapMerger

COLOURS = np.array([[250, 20, 20], [20, 250, 20], [20, 20, 250], [200, 200, 200], [40, 40, 40]])  # RGB


@pytest.fixture(scope='module')
def painter() -> SegmentationInferencer:
    """An inferencer at the size of the pictures, whose scores say how near a pixel is to a colour."""
    cfg = segmentor()
    pipeline = cfg.test_dataloader.dataset.pipeline
    cfg.test_dataloader.dataset.pipeline = [step for step in pipeline if 'Resize' not in step['type']]
    inferencer = make_inferencer(cfg, None, 'cpu')
    colours = torch.from_numpy((COLOURS - MEAN) / STD).float()

    def encode_decode(inputs: torch.Tensor, batch_img_metas: list[dict]) -> torch.Tensor:
        return -(inputs[:, None] - colours[None, :, :, None, None]).square().sum(2)

    inferencer.model.encode_decode = encode_decode
    return inferencer


def painted(width: int, height: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return blocks of noisy colours, BGR, and the label of every pixel."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 5, (-(-height // 7), -(-width // 5)), dtype=np.uint8)
    labels = coarse.repeat(7, 0).repeat(5, 1)[:height, :width]
    noise = rng.integers(-15, 16, (height, width, 3))
    return (COLOURS[labels] + noise).clip(0, 255).astype(np.uint8)[..., ::-1].copy(), labels


@pytest.mark.parametrize('overlap', [0, 0.2, 0.5, 0.8])
@pytest.mark.parametrize('size', [(203, 97), (64, 131), (48, 49), (20, 150), (33, 17)])
def test_slices_agree_with_the_whole(painter, size, overlap) -> None:
    image, labels = painted(*size)
    (whole,) = painter(image)['predictions']
    for batch_size in (1, 3):
        (sliced,) = painter(image, slice=48, overlap=overlap, batch_size=batch_size)['predictions']
        assert np.array_equal(sliced['seg_map'], labels) and sliced['seg_map'].dtype == np.uint8
        assert sliced['areas'] == whole['areas'] and np.array_equal(whole['seg_map'], labels)


def test_one_slice_is_the_whole_image(tmp_path) -> None:
    checkpoint = save_checkpoint(segmentor(), tmp_path / 'w.pth')
    inferencer = make_inferencer(segmentor(), checkpoint, 'cpu')
    for resolution in (None, 96):
        (whole,) = inferencer(picture(), resolution=resolution, return_datasamples=True)['predictions']
        result = inferencer(picture(), resolution=resolution, return_datasamples=True, slice=150, overlap=0.5)
        assert torch.equal(result['predictions'][0].seg_logits.data, whole.seg_logits.data)
        assert torch.equal(result['predictions'][0].pred_sem_seg.data, whole.pred_sem_seg.data)
    (prediction,) = inferencer(picture(), resolution=96, slice=64)['predictions']
    assert prediction['resolution'] == 96 and prediction['seg_map'].shape == (100, 150)


def test_one_output_is_compared_with_the_threshold() -> None:
    cfg = segmentor(2)
    cfg.model.decode_head.update(out_channels=1, threshold=0.6)
    pipeline = cfg.test_dataloader.dataset.pipeline
    cfg.test_dataloader.dataset.pipeline = [step for step in pipeline if 'Resize' not in step['type']]
    inferencer = make_inferencer(cfg, None, 'cpu')
    inferencer.model.encode_decode = lambda inputs, batch_img_metas: inputs[:, :1]  # red, normalised
    image, _ = painted(90, 70)
    expected = 1 / (1 + np.exp(-(image[..., 2] - MEAN[0]) / STD[0])) > 0.6
    assert 0.1 < expected.mean() < 0.9
    for keywords in ({}, dict(slice=32, overlap=0.5)):
        assert np.array_equal(inferencer(image, **keywords)['predictions'][0]['seg_map'], expected)


@pytest.mark.parametrize('overlap', [0.25, 0.5, 0.7])
def test_scores_are_averaged_where_slices_overlap(overlap) -> None:
    height, width, rng = 75, 50, np.random.default_rng(0)
    grid = SliceGrid(height, width, 32, overlap)
    merger = LabelMapMerger(grid, torch.nn.Identity())
    canvas, total = np.zeros((6, height, width)), np.zeros((height, width))

    def falling(start: int, stop: int, length: int) -> np.ndarray:
        inner = [
            [p + 0.5 - start] * (start > 0) + [stop - p - 0.5] * (stop < length) for p in range(start, stop)
        ]
        return np.array([min(distances, default=1) for distances in inner])

    for region in grid.regions:
        left, top, right, bottom = region
        scores = rng.normal(size=(6, 32, 32)).astype(np.float32)
        merger.add(region, SegDataSample(seg_logits=PixelData(data=torch.from_numpy(scores))))
        weight = np.outer(falling(top, bottom, height), falling(left, right, width))
        canvas[:, top:bottom, left:right] += weight * scores
        total[top:bottom, left:right] += weight
    assert np.array_equal(merger.merged().pred_sem_seg.data[0].numpy(), (canvas / total).argmax(0))


class _LiveBytes(TorchDispatchMode):
    """The most bytes of tensors that were alive at one time."""

    def __init__(self) -> None:
        super().__init__()
        self._alive: dict[int, tuple[weakref.ref, int, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        if isinstance(output, torch.Tensor):
            storage = output.untyped_storage()
            self._alive[id(output)] = (weakref.ref(output), storage.data_ptr(), storage.nbytes())
            alive = {address: size for tensor, address, size in self._alive.values() if tensor() is not None}
            self.peak = max(self.peak, sum(alive.values()))
        return output


@pytest.mark.parametrize('size', [(1540, 420), (420, 1540), (1530, 410)])
def test_memory_is_that_of_the_overlap(size) -> None:
    (width, height), classes = size, 50
    grid = SliceGrid(height, width, 100, 0.2)
    merger = LabelMapMerger(grid, torch.nn.Identity())
    scores = torch.rand(classes, 100, 100)
    with _LiveBytes() as live:
        for region in grid.regions:
            merger.add(region, SegDataSample(seg_logits=PixelData(data=scores)))
        merger.merged()
    # A band of overlaps along the short side, and those around a slice of the next band.
    overlap = 4 * classes * 23 * (min(size) + 3 * 100)
    assert 0.5 * overlap < live.peak < overlap + scores.nbytes + width * height
    assert live.peak < 0.06 * 4 * classes * width * height


def test_files_are_those_of_whole_images(painter, tmp_path) -> None:
    image, labels = painted(160, 120)
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    written = []
    for name, keywords in (('whole', {}), ('sliced', dict(slice=64, overlap=0.25))):
        out = tmp_path / name
        painter(tmp_path / 'a.png', out_dir=out, **keywords)
        written.append(
            {file.relative_to(out): file.read_bytes() for file in out.rglob('*') if file.is_file()}
        )
    whole, sliced = (json.loads(files.pop(Path('predictions.json'))) for files in written)
    assert written[0] == written[1] and len(written[0]) == 3
    assert sliced['predictions'][0].pop('resolution') == 64
    assert whole['predictions'][0].pop('resolution') == 120
    assert whole == sliced
