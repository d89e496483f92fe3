"""Objects of slices are those of whole images, whatever the borders of the slices cut."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from pictures import picture
from pycocotools import mask as coco_mask
from small_models import detector, save_checkpoint

from resformer_mm.apis.inferencer import make_inferencer
from resformer_mm.inference.slicing import SliceGrid
from resformer_mm.tasks.detection.compact_masks import encode_mask, place_mask
from resformer_mm.tasks.detection.inferencer import DetectionInferencer
from resformer_mm.tasks.detection.seams import Detections, border_margin, find_objects
from resformer_mm.tasks.detection.slices import max_per_image


@pytest.fixture(scope='module')
def inferencer(tmp_path_factory: pytest.TempPathFactory) -> DetectionInferencer:
    checkpoint = save_checkpoint(detector(), tmp_path_factory.mktemp('det') / 'w.pth', std=None)
    return make_inferencer(detector(), checkpoint, 'cpu')


def scene(rng: np.random.Generator, width: int, height: int, number: int, gap: int) -> np.ndarray:
    """Return rectangles with at least ``gap`` pixels between them, ``(N, 4)``."""
    boxes: list[np.ndarray] = []
    for _ in range(5 * number):
        size = rng.integers(2, [width + 1, height + 1])
        corner = rng.integers(0, [width + 1, height + 1] - size)
        box = np.concatenate([corner, corner + size])
        if len(boxes) < number and not any(
            (box[:2] < other[2:] + gap).all() and (other[:2] < box[2:] + gap).all() for other in boxes
        ):
            boxes.append(box)
    return np.array(boxes)


def seen(boxes: np.ndarray, regions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what slices show of rectangles: boxes, numbers of the rectangles, numbers of the slices."""
    parts = np.concatenate(
        [
            np.maximum(boxes[None, :, :2], regions[:, None, :2]),
            np.minimum(boxes[None, :, 2:], regions[:, None, 2:]),
        ],
        axis=-1,
    )
    slices, numbers = np.nonzero((parts[..., 2:] > parts[..., :2]).all(-1))
    return parts[slices, numbers], numbers, slices


def merged(found: Detections, grid: SliceGrid) -> list[tuple]:
    extent, margin = np.array([0, 0, grid.width, grid.height]), border_margin(grid.size, grid.overlap)
    rows = []
    for entry in find_objects(found, np.array(grid.regions), extent, margin):
        parts = found.boxes[entry.parts]
        rows.append((*parts[:, :2].min(0), *parts[:, 2:].max(0), found.labels[entry.parts[0]], entry.score))
    return rows


@pytest.mark.parametrize('size', [40, 64, 640])
@pytest.mark.parametrize('overlap', [0, 0.05, 0.2, 0.5])
def test_rectangles_are_found_once(size, overlap) -> None:
    rng = np.random.default_rng(size)
    for _ in range(8):
        width, height = rng.integers(size // 2, 5 * size, 2)
        # Without overlap, neighbours at a border cannot be told from halves.
        boxes = scene(rng, width, height, 25, 2 if overlap else 8)
        labels, scores = rng.integers(0, 3, len(boxes)), rng.permutation(len(boxes)) / 50 + 0.1
        grid = SliceGrid(height, width, size, overlap)
        parts, numbers, slices = seen(boxes, np.array(grid.regions))
        # Parts have lower scores than the whole, in some order.
        whole = (parts == boxes[numbers]).all(1)
        seen_scores = scores[numbers] * np.where(whole, 1, rng.uniform(0.9, 1, len(parts)))
        rows = merged(Detections(parts.astype(float), labels[numbers], seen_scores, slices), grid)
        expected = {(*box.tolist(), label) for box, label in zip(boxes, labels)}
        assert len(rows) == len(expected) and {row[:5] for row in rows} == expected
        assert [row[5] for row in rows] == sorted((row[5] for row in rows), reverse=True)


A, B = (0, 0, 100, 100), (80, 0, 180, 100)  # two slices of an image of 180 x 100
RULES = {
    'a part and the whole': ([(A, 50, 95, 0.5, 0), (B, 80, 95, 0.9, 0)], [(50, 95, 0.9, 0)]),
    'two parts': ([(A, 20, 100, 0.5, 0), (B, 80, 170, 0.9, 0)], [(20, 170, 0.9, 0)]),
    'two views': ([(A, 85, 94, 0.5, 0), (B, 84, 95, 0.9, 0)], [(84, 95, 0.9, 0)]),
    'two classes': ([(A, 20, 100, 0.9, 0), (B, 80, 170, 0.5, 1)], [(20, 100, 0.9, 0), (80, 170, 0.5, 1)]),
    'one slice': ([(A, 20, 90, 0.9, 0), (A, 22, 90, 0.5, 0)], [(20, 90, 0.9, 0), (22, 90, 0.5, 0)]),
    'small on large': ([(A, 20, 100, 0.9, 0), (B, 85, 90, 0.5, 0)], [(20, 100, 0.9, 0), (85, 90, 0.5, 0)]),
    'two close pairs': (
        [(A, 82, 92, 0.9, 0), (A, 84, 94, 0.8, 0), (B, 82, 92, 0.7, 0), (B, 84, 94, 0.6, 0)],
        [(82, 92, 0.9, 0), (84, 94, 0.8, 0)],
    ),
}


@pytest.mark.parametrize('rule', RULES)
def test_the_rule_at_a_border(rule) -> None:
    views, expected = RULES[rule]
    regions = np.array([A, B])
    boxes = np.array([[left, 10, right, 60] for _, left, right, _, _ in views], float)
    found = Detections(
        boxes,
        np.array([label for *_, label in views]),
        np.array([score for *_, score, _ in views]),
        np.array([(A, B).index(view[0]) for view in views]),
    )
    objects = find_objects(found, regions, np.array([0, 0, 180, 100]), 2.0)
    rows = [
        (boxes[one.parts, 0].min(), boxes[one.parts, 2].max(), one.score, found.labels[one.parts[0]])
        for one in objects
    ]
    assert rows == expected


def finds_colours(data: dict) -> list[DetDataSample]:
    """Detect everything of one colour exactly; red says the class and green the score."""
    samples = []
    for image in data['inputs']:
        pixels = image.numpy().transpose(1, 2, 0)
        colours = [colour for colour in np.unique(pixels.reshape(-1, 3), axis=0) if colour.any()]
        masks = np.array([(pixels == colour).all(-1) for colour in colours]).reshape(-1, *pixels.shape[:2])
        boxes = [
            [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            for ys, xs in (np.nonzero(mask) for mask in masks)
        ]
        found = InstanceData(bboxes=torch.tensor(np.array(boxes).reshape(-1, 4)).float())
        found.labels = torch.tensor([int(colour[2]) // 80 for colour in colours], dtype=torch.long)
        found.scores = torch.tensor([int(colour[1]) / 255 for colour in colours])
        found.masks = torch.from_numpy(masks)
        order = found.scores.argsort(descending=True)
        samples.append(DetDataSample(pred_instances=found[order], metainfo=dict(ori_shape=pixels.shape[:2])))
    return samples


@pytest.fixture(scope='module')
def painted() -> DetectionInferencer:
    """An inferencer at the size of the pictures that finds colours."""
    cfg = detector()
    cfg.model.test_cfg.rcnn.max_per_img = 100
    pipeline = cfg.test_dataloader.dataset.pipeline
    cfg.test_dataloader.dataset.pipeline = [step for step in pipeline if step['type'] != 'Resize']
    cfg.test_dataloader.dataset.pipeline[-1].meta_keys = ('ori_shape',)
    inferencer = make_inferencer(cfg, None, 'cpu')
    inferencer.model.test_step = finds_colours
    return inferencer


@pytest.mark.parametrize(('overlap', 'limit'), [(0, 100), (0.2, 100), (0.5, 100), (0.2, 3)])
def test_boxes_and_masks_across_borders_and_corners(painted, overlap, limit, monkeypatch) -> None:
    monkeypatch.setitem(painted.model.test_cfg.rcnn, 'max_per_img', limit)
    image = np.zeros((211, 187, 3), np.uint8)
    # Across a corner of four slices, across a column of slices, all slices, thin, small, at the border.
    boxes = [(40, 40, 100, 100), (5, 110, 60, 120), (2, 128, 185, 150), (120, 3, 123, 90), (130, 20, 170, 33)]
    boxes += [(150, 160, 187, 211), (10, 10, 14, 13), (0, 170, 70, 172)]
    for number, (left, top, right, bottom) in enumerate(boxes):
        image[top:bottom, left:right] = (1 + number, 240 - 10 * number, 80 * (number % 3))
    (whole,) = painted(image)['predictions']
    (sliced,) = painted(image, slice=64, overlap=overlap, batch_size=2)['predictions']
    assert whole['bboxes'] == [list(map(float, box)) for box in boxes]
    for key in ('bboxes', 'labels', 'scores'):
        assert sliced[key] == whole[key][:limit]
    for found, expected in zip(sliced['masks'], whole['masks']):
        assert found['size'] == [211, 187]
        assert np.array_equal(coco_mask.decode(found), coco_mask.decode(expected))
    drawn = painted(image, slice=64, return_vis=True)['visualization'][0]
    assert drawn.shape == image.shape and not np.array_equal(drawn, image[..., ::-1])
    assert painted(np.zeros_like(image), slice=64)['predictions'][0]['bboxes'] == []


def test_masks_decide_what_boxes_do_not(painted) -> None:
    image = np.zeros((120, 400, 3), np.uint8)
    cv2.line(image, (5, 5), (395, 115), (1, 240, 80), 2)  # the boxes of its parts hardly agree
    (whole,) = painted(image)['predictions']
    (sliced,) = painted(image, slice=120)['predictions']
    assert [sliced[key] for key in ('bboxes', 'masks')] == [whole[key] for key in ('bboxes', 'masks')]


@pytest.mark.parametrize('resolution', [None, 96])
def test_one_slice_is_the_whole_image(inferencer, resolution) -> None:
    keywords = dict(resolution=resolution, score_thr=0)
    (whole,) = inferencer(picture(), **keywords)['predictions']
    assert inferencer(picture(), slice=150, **keywords)['predictions'] == [whole]
    (sample,) = inferencer(picture(), slice=64, return_datasamples=True, **keywords)['predictions']
    found = sample.pred_instances
    assert 0 < len(found) <= 6 and found.masks.shape == (len(found), 100, 150)


@pytest.mark.parametrize('place', [(0, 0), (7, 3), (20, 0)])
def test_masks_are_placed_without_decoding(place) -> None:
    rng = np.random.default_rng(0)
    for density in (0, 0.1, 0.5, 0.9, 1):
        mask = (rng.random((40, 23)) < density).astype(np.uint8)
        left, top = place
        expected = np.zeros((40 + top, 60), np.uint8)
        expected[top:, left : left + 23] = mask
        code = place_mask(encode_mask(mask), left, top, expected.shape)
        assert code == encode_mask(expected) and np.array_equal(coco_mask.decode(code), expected)


@pytest.mark.parametrize(
    ('test_cfg', 'limit'),
    [
        (dict(rpn=dict(max_per_img=1000), rcnn=dict(max_per_img=7)), 7),
        (dict(max_per_img=8), 8),
        (dict(max_per_image=9), 9),
        (dict(max_per_img=-1), None),
        (None, None),
    ],
)
def test_the_limit_of_objects_is_that_of_the_model(test_cfg, limit) -> None:
    model = torch.nn.Identity()
    model.test_cfg = None if test_cfg is None else Config(test_cfg)
    assert max_per_image(model) == limit
