"""Segmentation inferencer: label maps are those of the model's own layers."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pictures import HEIGHT, WIDTH, drawn_over, picture, tensor_at, write_pictures
from small_models import save_checkpoint, segmentor

from resformer_mm.apis.inferencer import make_inferencer
from resformer_mm.apis.reporting import predict_at_resolutions
from resformer_mm.tasks.segmentation.inferencer import SegmentationInferencer


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures, and a file that is not one."""
    return write_pictures(tmp_path_factory.mktemp('pictures'))


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
        assert np.array_equal(stored, prediction['seg_map'] + 1)  # ADE20K: 0 is unlabelled
        drawn = result['visualization'][seed]
        colours = np.array(segmenter.dataset_meta['palette'])[prediction['seg_map']]
        alpha = segmenter.visualizer.alpha
        overlay = (1 - alpha) * picture(seed)[..., ::-1] + alpha * colours
        assert drawn_over(drawn, overlay, 2).mean() < 0.2  # by the names
        assert np.array_equal(cv2.imread(str(tmp_path / 'vis' / f'{seed}.png'))[..., ::-1], drawn)
    legend = json.loads((tmp_path / 'pred' / 'legend.json').read_text())
    assert legend == {str(label + 1): f'stuff {label}' for label in range(5)}


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
    with pytest.raises(ValueError, match='cannot be run at another resolution'):
        inferencer(pictures, resolution=64)


def test_class_names_of_another_number_are_refused() -> None:
    cfg = segmentor()
    cfg.test_dataloader.dataset.metainfo.classes = ['one']
    with pytest.raises(ValueError, match='the model has 5 classes, but .* names 1'):
        make_inferencer(cfg, None, 'cpu')


def test_a_resolution_below_one_patch_is_refused(segmenter) -> None:
    with pytest.raises(ValueError, match='12 pixels is below one patch of 16 x 16'):
        segmenter(picture(), resolution=12)
