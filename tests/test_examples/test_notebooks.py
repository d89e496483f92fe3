"""The notebooks run from the first cell to the last, on small data, and are stored without outputs."""

from __future__ import annotations

import json
import os
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from runs import ROOT, write_data

from resformer_mm.deployment.formats import ONNX_VERSION

nbformat = pytest.importorskip('nbformat')
nbclient = pytest.importorskip('nbclient')
for needed in ('ipykernel', 'matplotlib', 'sklearn', 'mmpretrain'):
    pytest.importorskip(needed)

FOLDER = ROOT / 'examples' / 'notebooks'
NOTEBOOKS = sorted(FOLDER.glob('*.ipynb'))


def run(name: str, settings: str, cwd: Path, **variables: str):
    """Run a notebook with settings in the place of its own; return it with its outputs."""
    notebook = nbformat.read(FOLDER / f'{name}.ipynb', 4)
    [place] = [n for n, cell in enumerate(notebook.cells) if 'parameters' in cell.metadata.get('tags', ())]
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(settings))
    environment = {
        **os.environ,
        'PYTHONPATH': os.pathsep.join((str(ROOT), os.environ.get('PYTHONPATH', ''))),
        'OMP_NUM_THREADS': '1',
        'CUDA_VISIBLE_DEVICES': '',
        **variables,
    }
    client = nbclient.NotebookClient(
        notebook, timeout=500, kernel_name='python3', resources={'metadata': {'path': str(cwd)}}
    )
    client.execute(env=environment)
    return notebook


def printed(notebook) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get('outputs', ())]
    return ''.join(output.get('text', '') for output in outputs if output.output_type == 'stream')


def pictures(notebook) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get('outputs', ())]
    return sum('image/png' in output.get('data', {}) for output in outputs)


def test_a_classifier_of_a_folder(tmp_path: Path) -> None:
    data = write_data(tmp_path / 'photos', num_train=16, num_val=8, num_classes=2)
    settings = 'EPOCHS = 1; RESOLUTIONS = [32, 16]'
    notebook = run('classification', settings, tmp_path, CLASSIFICATION_DATA=str(data))
    out = tmp_path / 'work_dirs' / 'notebooks' / 'classification'
    text = printed(notebook)
    assert 'class_0 8, class_1 8' in text and '16 images to train on, 8 to validate' in text
    assert re.search(r'32 +class token', text)  # the table of the frozen features is in the text
    assert 'Warning' not in text and 'WARNING' not in text
    points = json.loads((out / 'sweep' / 'sweep.json').read_text())['models'][0]['points']
    for resolution, point in points.items():
        assert f'{resolution} pixels: top-1 {point["metrics"]["accuracy/top1"]:.1f} %' in text
    assert set(points) > {'32', '16'} and pictures(notebook) == 4
    assert not (out / 'data').exists()  # nothing is generated beside data of one's own
    exported = torch.load(out / 'backbone.pth', weights_only=True)
    assert exported
    can_export = (
        all(map(find_spec, ('onnx', 'onnxruntime', 'onnxscript'))) and torch.__version__ >= ONNX_VERSION
    )
    assert (out / 'model.onnx').is_file() == can_export


@pytest.mark.operators('mmdet')
def test_a_detector_of_generated_images(tmp_path: Path) -> None:
    settings = 'EPOCHS = 1; RESOLUTIONS = [64, 48]; BATCH_SIZE = 2; NUM_TRAIN, NUM_VAL, SIZE = 4, 2, 64'
    notebook = run('own_coco_data', settings, tmp_path)
    out = tmp_path / 'work_dirs' / 'notebooks' / 'own_coco_data'
    text = printed(notebook)
    assert '4 images to train on, 2 to validate' in text
    points = json.loads((out / 'sweep' / 'sweep.json').read_text())['models'][0]['points']
    assert set(points) > {'64', '48'} and all(f'{resolution} pixels: AP' in text for resolution in points)
    predictions = json.loads((out / 'predictions' / 'predictions.json').read_text())['predictions']
    confident = sum(score > 0.5 for prediction in predictions for score in prediction['scores'])
    assert len(predictions) == 2 and f'{confident} objects with a score above 0.5' in text
    labels = [json.loads(path.read_text()) for path in (out / 'next').rglob('*.json')]
    assert sum(len(label['shapes']) > 0 for label in labels) <= len(labels) <= 2
    assert pictures(notebook) == 4


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_notebooks_are_clean(path: Path) -> None:
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == 'code']
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert set(notebook.metadata) == {'kernelspec', 'language_info'}
    assert f'examples/notebooks/{path.name}' in (ROOT / 'docs' / 'index.md').read_text()


def test_every_page_that_a_notebook_names_exists() -> None:
    for path in NOTEBOOKS:
        for name in re.findall(r'(?:docs|tools)/[\w/]+\.\w+', path.read_text()):
            assert (ROOT / name).is_file(), (path.name, name)
