"""A cascade predicts what the single resolutions predict, at the first that is sure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_models import classifier, save_checkpoint

from resformer_mm.analysis.complexity import count_complexity
from resformer_mm.apis.cascade_inferencer import CascadeInferencer
from resformer_mm.tasks.classification.inferencer import ClassificationInferencer

RESOLUTIONS = (32, 64, 96)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('pictures')
    rng = np.random.default_rng(0)
    for index, (width, height) in enumerate([(90, 70), (71, 133), (64, 64), (200, 90), (33, 31), (50, 50)]):
        pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((width, height)).save(folder / f'{index}.png')
    (folder / '3b.png').write_bytes(b'no picture')
    return folder


@pytest.fixture(scope='module')
def singles(folder: Path, tmp_path_factory) -> tuple[Path, dict[int, list[dict]]]:
    checkpoint = save_checkpoint(classifier(), tmp_path_factory.mktemp('weights') / 'w.pth')
    inferencer = ClassificationInferencer(classifier(), checkpoint, 'cpu')
    return checkpoint, {r: inferencer(folder, resolution=r)['predictions'] for r in RESOLUTIONS}


def cascade(checkpoint: Path, **rule) -> CascadeInferencer:
    return CascadeInferencer(classifier(), checkpoint, 'cpu', cfg_options={'cascade': rule})


@pytest.mark.slow
@pytest.mark.parametrize('batch_size', [1, 4])
def test_every_image_stops_at_the_first_sure_resolution(folder: Path, singles, batch_size: int) -> None:
    checkpoint, expected = singles
    # Thresholds that part the six images at each resolution.
    scores = {r: sorted(found['pred_score'] for found in expected[r]) for r in RESOLUTIONS}
    thresholds = [(scores[32][3] + scores[32][4]) / 2, (scores[64][2] + scores[64][3]) / 2]
    inferencer = cascade(checkpoint, resolutions=list(RESOLUTIONS), thresholds=thresholds)
    results = inferencer(folder, batch_size=batch_size)
    assert [Path(entry['path']).name for entry in results['skipped']] == ['3b.png']
    stops = []
    for number, found in enumerate(results['predictions']):
        for resolution, threshold in zip(RESOLUTIONS, [*thresholds, 0.0]):
            single = expected[resolution][number]
            if single['pred_score'] >= threshold:
                break
        stops.append(resolution)
        assert found['path'] == single['path']
        assert found['resolution'] == resolution
        assert found['pred_scores'] == pytest.approx(single['pred_scores'], abs=1e-5)
    assert stops.count(32) == 2 and len(set(stops)) >= 2
    reached = {32: 1.0, 64: 4 / 6, 96: stops.count(96) / 6}
    assert results['cascade']['reached'] == pytest.approx(reached)
    gflops = {r: count_complexity(inferencer.model, torch.zeros(1, 3, r, r)).flops / 1e9 for r in RESOLUTIONS}
    mean = sum(part * gflops[r] for r, part in reached.items())
    assert results['cascade']['mean_gflops'] == pytest.approx(mean)


def test_counts_start_anew_with_every_call(folder: Path, singles) -> None:
    inferencer = cascade(singles[0], resolutions=[32, 64], thresholds=[2.0])
    for _ in range(2):
        assert inferencer(folder / '0.png')['cascade']['reached'] == {32: 1.0, 64: 1.0}


def test_arrays_and_drawings(singles) -> None:
    inferencer = cascade(singles[0], resolutions=[32, 64], thresholds=[0.0])
    results = inferencer([np.zeros((40, 60, 3), np.uint8)], return_vis=True)
    assert results['predictions'][0]['resolution'] == 32
    assert results['visualization'][0].shape[2] == 3


def test_bad_cascades(singles, folder: Path) -> None:
    with pytest.raises(ValueError, match='has no `cascade`'):
        CascadeInferencer(classifier(), singles[0], 'cpu')
    with pytest.raises(ValueError, match='cascade.thresholds needs one value fewer'):
        cascade(singles[0], resolutions=[32, 64], thresholds=[])
    with pytest.raises(ValueError, match='8 pixels is below one patch of 16 x 16'):
        cascade(singles[0], resolutions=[8, 64], thresholds=[0.5])
    with pytest.raises(TypeError, match='chooses the resolution'):
        cascade(singles[0], resolutions=[32, 64], thresholds=[0.5])(folder, resolution=64)
