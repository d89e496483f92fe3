"""What the web page asks of a model."""

from __future__ import annotations

import io
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image
from small_models import classifier, recognizer, segmentor

from resformer_mm.apis.inferencer import make_inferencer
from resformer_mm.inference.base import ResolutionInferencer
from resformer_mm.inference.sources import InputError
from resformer_mm.web import ResolutionRange, WebPredictor


def picture(width: int = 60, height: int = 45) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope='module')
def inferencer() -> ResolutionInferencer:
    torch.manual_seed(0)
    return make_inferencer(classifier(), None, 'cpu')


def test_an_answer_is_that_of_the_inferencer(inferencer) -> None:
    predictor = WebPredictor(inferencer)
    for resolution in (32, 48):
        answer = predictor.predict(picture(), resolution)
        (expected,) = inferencer(picture(), resolution=resolution, topk=5)['predictions']
        assert answer.headline == expected['pred_class'] == answer.entries[0][0]
        assert [value for _, value in answer.entries] == [entry['score'] for entry in expected['topk']]
        assert answer.resolution == resolution and answer.forward_ms > 0 and answer.drawn is None
        assert answer.input_picture.shape == (resolution, resolution, 3)


def test_the_picture_shown_is_what_the_model_gets(inferencer) -> None:
    """RGB, of the crop: red stays red."""
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 2] = 200
    shown = WebPredictor(inferencer).predict(red, 32).input_picture
    assert (shown == (200, 0, 0)).all()


@pytest.mark.operators('mmseg')
def test_dense_predictions_come_with_a_drawing() -> None:
    predictor = WebPredictor(make_inferencer(segmentor(), None, 'cpu'))
    answer = predictor.predict(picture(), 32)
    assert answer.drawn.shape == (45, 60, 3) and answer.input_picture.shape[0] == 32
    assert sum(value for _, value in answer.entries) == pytest.approx(1)


def test_a_model_of_clips_is_refused() -> None:
    with pytest.raises(ValueError, match=r'not of video clips: use tools/demo\.py'):
        WebPredictor(make_inferencer(recognizer(), None, 'cpu'))


def test_files_are_decoded_or_named(inferencer) -> None:
    predictor = WebPredictor(inferencer)
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, 'png')
    assert np.array_equal(predictor.decode(buffer.getvalue(), 'a.png'), picture()[..., ::-1])
    for content in (b'', b'text', buffer.getvalue()[:-500]):
        with pytest.raises(InputError, match=r'b\.png is not a readable image'):
            predictor.decode(content, 'b.png')


def test_the_range_of_the_slider(inferencer) -> None:
    assert WebPredictor(inferencer).range == ResolutionRange(16, 256, 16)  # of 64 pixels, patch 16
    assert WebPredictor(inferencer, [20, 90]).range == ResolutionRange(20, 90, 16)
    assert WebPredictor(inferencer, [24, 48, 8]).range == ResolutionRange(24, 48, 8)
    with pytest.raises(ValueError, match='8 pixels is below one patch of 16 x 16'):
        WebPredictor(inferencer, [8, 64])
    for bad in ([64, 32], [16, 64, 0], [-16, 64]):
        with pytest.raises(ValueError, match='must be positive, and the highest must not be below'):
            WebPredictor(inferencer, bad)
    for bad in ([64], [16, 32, 8, 8]):
        with pytest.raises(ValueError, match='MIN MAX or MIN MAX STEP'):
            WebPredictor(inferencer, bad)


@pytest.mark.parametrize('choice', [ResolutionRange(16, 250, 16), ResolutionRange(10, 10, 3)])
def test_the_nearest_resolution_of_the_range(choice) -> None:
    values = range(choice.lowest, choice.highest + 1, choice.step)
    for wanted in range(1, 300):
        nearest = choice.nearest(wanted)
        assert nearest in values
        assert abs(nearest - wanted) == min(abs(value - wanted) for value in values)


def test_one_prediction_at_a_time(inferencer, monkeypatch) -> None:
    """Visitors share the model."""
    running, most = [], []
    step = inferencer.model.test_step

    def slow_step(data: dict) -> list:
        running.append(1)
        most.append(len(running))
        time.sleep(0.02)
        running.pop()
        return step(data)

    monkeypatch.setattr(inferencer.model, 'test_step', slow_step)
    predictor = WebPredictor(inferencer)
    threads = [threading.Thread(target=predictor.predict, args=(picture(), 32)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == [1, 1, 1, 1]
