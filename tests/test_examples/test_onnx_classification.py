"""The client of exported classifiers against the inferencer, and what all clients refuse."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
import torch
from exported_files import printed, run_client
from pictures import picture
from small_models import classifier, save_checkpoint

from resformer_mm.apis import load_model, make_inferencer
from resformer_mm.deployment import OnnxFormat, deployable, formats

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        torch.__version__ < formats.PROGRAM_VERSION,
        reason=f'files for all sizes need PyTorch {formats.PROGRAM_VERSION}',
    ),
]
NAMES = [f'kind {index}' for index in range(7)]


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, its ONNX file, and a photo."""
    folder = tmp_path_factory.mktemp('exported')
    checkpoint = save_checkpoint(classifier(), folder / 'model.pth', classes=NAMES)
    OnnxFormat().write(deployable(load_model(classifier(), checkpoint, 'cpu')), folder / 'model.onnx')
    cv2.imwrite(str(folder / 'photo.png'), picture())
    return folder


def test_the_client_predicts_as_the_inferencer(folder: Path) -> None:
    inferencer = make_inferencer(classifier(), folder / 'model.pth', 'cpu')
    (prediction,) = inferencer(str(folder / 'photo.png'))['predictions']
    result = run_client('onnx_classification.py', folder / 'model.onnx', folder / 'photo.png', '--topk', 7)
    found = printed(result)
    assert list(found)[0] == prediction['pred_class'] and found.keys() == set(NAMES)
    for name, score in zip(NAMES, prediction['pred_scores']):
        assert found[name] == pytest.approx(float(score), abs=1e-3)


def test_files_of_another_task_and_files_without_resizing_are_refused(folder: Path) -> None:
    import onnx

    photo = folder / 'photo.png'
    for name, arguments in (
        ('onnx_segmentation.py', [photo, folder / 'out.png']),
        ('onnx_video.py', [photo]),
    ):
        result = run_client(name, folder / 'model.onnx', *arguments)
        assert result.returncode == 2 and 'model.onnx is not an exported' in result.stderr
    model = onnx.load(folder / 'model.onnx')
    kept = [entry for entry in model.metadata_props if entry.key != 'resizing']
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, folder / 'silent.onnx')
    result = run_client('onnx_classification.py', folder / 'silent.onnx', photo)
    assert result.returncode == 1 and 'does not say how evaluation resizes' in result.stderr
