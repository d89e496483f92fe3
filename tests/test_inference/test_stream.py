"""Predictions that are not kept, and inputs on which a model fails."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import picture
from small_models import classifier, detector, segmentor

from resformer_mm.apis.inferencer import make_inferencer
from resformer_mm.apis.reporting import describe_predictions, format_results, format_summary
from resformer_mm.inference.sources import InputError

NAMES = {'cost $5 to $9': 1, r'$\frac$': 2, '\u72d7': 3, 'x' * 200: 4, 'two\nlines': 5}


@pytest.fixture(scope='module')
def segmenter():
    return make_inferencer(segmentor(), None, 'cpu')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, and one that is lower than a patch when it is resized."""
    root = tmp_path / 'pictures'
    root.mkdir()
    for name, image in dict(a=picture(0), b=np.zeros((10, 4000, 3), np.uint8), c=picture(1)).items():
        cv2.imwrite(str(root / f'{name}.png'), image)
    return root


@pytest.mark.operators('mmseg')
def test_nothing_is_kept(segmenter, folder: Path, tmp_path: Path) -> None:
    stream = segmenter.stream([folder / 'a.png'] * 4, out_dir=tmp_path / 'out')
    earlier: list[weakref.ref] = []
    for result in stream:
        gc.collect()
        assert sum(reference() is not None for reference in earlier) <= 1
        earlier.append(weakref.ref(result.prediction['seg_map']))
        del result
    assert stream.num_predictions == 4 and stream.forward_ms > 0
    written = json.loads((tmp_path / 'out' / 'predictions.json').read_text())
    assert len(written['predictions']) == 4 and written['skipped'] == []
    assert not list((tmp_path / 'out').glob('*.part'))


@pytest.mark.operators('mmseg')
def test_what_was_predicted_before_an_interrupt_is_written(segmenter, folder: Path, tmp_path: Path) -> None:
    for number, _ in enumerate(segmenter.stream([folder / 'a.png'] * 3, out_dir=tmp_path / 'out')):
        if number == 1:
            break
    gc.collect()
    assert len(json.loads((tmp_path / 'out' / 'predictions.json').read_text())['predictions']) == 2


@pytest.mark.operators('mmseg')
@pytest.mark.parametrize('batch_size', [1, 3])
def test_an_image_on_which_the_model_fails_is_skipped(segmenter, folder: Path, batch_size: int) -> None:
    result = segmenter(folder, batch_size=batch_size)
    assert [Path(entry['path']).name for entry in result['predictions']] == ['a.png', 'c.png']
    (skipped,) = result['skipped']
    assert skipped['path'].endswith('b.png') and 'smaller than one patch' in skipped['reason']
    described = describe_predictions(segmenter, folder)
    assert format_summary(described).startswith('2 done, 1 skipped: b.png (ValueError: an image of 3 x 1024')
    assert len(format_results({None: described}).splitlines()) == 2
    with pytest.raises(InputError, match=r'cannot predict .*b\.png \(ValueError: an image of 3 x 1024'):
        segmenter(folder / 'b.png')


@pytest.mark.operators('mmseg')
def test_an_image_on_which_a_transform_fails_is_skipped(segmenter, tmp_path: Path) -> None:
    for name, shape in dict(a=(1, 4000, 3), b=(90, 120, 3)).items():
        cv2.imwrite(str(tmp_path / f'{name}.png'), np.zeros(shape, np.uint8))
    result = segmenter(tmp_path)
    assert len(result['predictions']) == 1 and 'resize' in result['skipped'][0]['reason']
    with pytest.raises(InputError, match=r'cannot prepare .*a\.png \(error: '):
        segmenter(tmp_path / 'a.png')


@pytest.mark.parametrize(
    'make',
    [
        classifier,
        pytest.param(segmentor, marks=pytest.mark.operators('mmseg')),
        pytest.param(detector, marks=pytest.mark.operators('mmdet')),
    ],
)
def test_names_of_any_kind_are_drawn(make, recwarn) -> None:
    cfg = make()
    number = dict(classifier=7, segmentor=5, detector=3)[make.__name__]
    names = [*NAMES, 'a', 'b'][:number]
    cfg.test_dataloader.dataset.metainfo = dict(classes=names)
    options = dict(score_thr=0) if make is detector else {}
    (drawn,) = make_inferencer(cfg, None, 'cpu')(picture(), return_vis=True, **options)['visualization']
    assert drawn.dtype == np.uint8 and drawn.shape[2] == 3
    assert not [warning for warning in recwarn if 'Glyph' in str(warning.message)]


def test_pictures_of_one_name_are_all_written(tmp_path: Path) -> None:
    files = []
    for number in range(3):
        file = tmp_path / str(number) / 'x.png'
        file.parent.mkdir()
        cv2.imwrite(str(file), picture(number))
        files.append(file)
    make_inferencer(classifier(), None, 'cpu')(files, out_dir=tmp_path / 'out')
    assert sorted(path.name for path in (tmp_path / 'out' / 'vis').iterdir()) == [
        'x.png',
        'x_2.png',
        'x_3.png',
    ]
