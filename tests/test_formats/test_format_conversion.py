"""Conversions between formats: what comes back is what was written, or is counted as lost."""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from resformer_mm.formats.annotated import (
    AnnotatedData,
    AnnotatedImage,
    AnnotatedObject,
    AnnotatedSplit,
    FormatError,
)
from resformer_mm.formats.brush import decode_brush, encode_brush
from resformer_mm.formats.coco import content_of
from resformer_mm.formats.conversion import FORMATS, read_annotations, write_annotations
from resformer_mm.formats.geometry import decode, encode
from resformer_mm.formats.predictions import read_predictions
from resformer_mm.formats.recognition import recognise

TOOL = Path(__file__).parents[2] / 'tools' / 'dataset_converters' / 'convert_annotations.py'
HEIGHT, WIDTH = 48, 64
CLASSES = ('unused', 'café au lait', 'b & <c>', 'ant')
# Those that have no masks of pixels, no crowd regions.
BOXES_ALONE, NO_CROWDS = ('voc',), ('yolo',)


def blob(seed: int) -> np.ndarray:
    """A mask with a hole and a lonely pixel."""
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    y, x = np.random.default_rng(seed).integers(4, 20, 2)
    pixels[y : y + 12, x : x + 9] = 1
    pixels[y + 3 : y + 6, x + 3 : x + 5] = 0
    pixels[y + 20, x + 30] = 1
    return pixels


def made(root: Path) -> AnnotatedData:
    """Two splits with polygons, several of one object, run-length codes, crowds, and background."""
    splits = []
    rng = np.random.default_rng(1)
    for split, number in (('train', 4), ('val', 3)):
        images = []
        for index in range(number):
            name = f'part {index % 2}/{index}.png'
            (root / split / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(
                root / split / name
            )
            things = []
            for category in CLASSES[1:] if index else ():
                x, y, w, h = (float(v) for v in rng.uniform(3, 20, 4).round(2))
                triangle = [x, y, x + w, y, x, y + h]
                things.append(AnnotatedObject(category, (x, y, w, h), [triangle]))
            if index == 1:
                second = [40, 30, 50, 30, 50, 40.5, 40, 40.5]
                things[0].mask = [things[0].mask[0], second]
                x, y = things[0].box[:2]
                things[0].box = (x, y, 50 - x, 40.5 - y)
                code = encode(blob(index))
                things.append(AnnotatedObject('ant', box_of(blob(index)), code, is_crowd=split == 'val'))
            images.append(AnnotatedImage(name, HEIGHT, WIDTH, things))
        splits.append(AnnotatedSplit(split, root / split, images))
    return AnnotatedData(CLASSES, splits)


def box_of(pixels: np.ndarray) -> tuple[float, float, float, float]:
    ys, xs = np.nonzero(pixels)
    return float(xs.min()), float(ys.min()), float(np.ptp(xs) + 1), float(np.ptp(ys) + 1)


def average_precision(data: AnnotatedData, kind: str) -> np.ndarray:
    """The twelve numbers of COCO for fixed detections, by pycocotools."""
    split = data.splits[-1]
    content = content_of(split, data.classes)
    images = {image['file_name']: image['id'] for image in content['images']}
    categories = {category['name']: category['id'] for category in content['categories']}
    rng = np.random.default_rng(2)
    found = []
    for _, image, thing in made_detections:
        for _ in range(3):
            x, y, w, h = np.array(thing.box) + rng.normal(0, 1.5, 4)
            entry = dict(image_id=images[image.file_name], category_id=categories[thing.category])
            shifted = np.roll(decode(thing.mask, HEIGHT, WIDTH), rng.integers(-2, 3), 1)
            mask = {'segmentation': encode(shifted)} if kind == 'segm' else {}
            found.append({**entry, **mask, 'bbox': [x, y, max(w, 1), max(h, 1)], 'score': rng.random()})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = content
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


made_detections: list[tuple] = []


@pytest.mark.parametrize('name', FORMATS)
def test_data_comes_back(tmp_path: Path, name: str) -> None:
    data = made(tmp_path / 'data')
    before = made(tmp_path / 'data')
    if name in NO_CROWDS:
        for image in before.splits[1].images:
            image.objects = [thing for thing in image.objects if not thing.is_crowd]
    lost = write_annotations(data, tmp_path / 'out', name)
    after = read_annotations(tmp_path / 'out')
    assert after.report.is_sound, after.report.text()
    assert after.classes == CLASSES
    assert [split.name for split in after.splits] == ['train', 'val']
    for old, new in zip(before.splits, after.splits):
        by_name = {image.file_name: image for image in new.images}
        assert set(by_name) == {image.file_name for image in old.images}
        for image in old.images:
            read = by_name[image.file_name]
            written = (old.folder / image.file_name).read_bytes()
            assert (new.folder / read.file_name).read_bytes() == written
            assert [thing.category for thing in read.objects] == [thing.category for thing in image.objects]
            for thing, other in zip(image.objects, read.objects):
                assert other.box == pytest.approx(thing.box, abs=1e-4)
                assert other.is_crowd == thing.is_crowd
                if name in BOXES_ALONE:
                    assert other.mask is None
                else:
                    pixels = decode(other.mask, HEIGHT, WIDTH)
                    np.testing.assert_array_equal(pixels, decode(thing.mask, HEIGHT, WIDTH))
                if isinstance(thing.mask, list) and name not in (*BOXES_ALONE, 'yolo'):
                    assert [len(part) for part in other.mask] == [len(part) for part in thing.mask]
    made_detections[:] = [entry for entry in before.objects() if entry[0].name == 'val']
    for kind in ('bbox', *(() if name in BOXES_ALONE else ('segm',))):
        precision = average_precision(before, kind)
        assert 0.1 < precision[0] < 0.9
        # All sizes: without masks, the area is that of the box.
        np.testing.assert_allclose(average_precision(after, kind)[:3], precision[:3], atol=1e-9)
    assert {
        'coco': lost == {},
        'labelme': lost == {},
        'cvat': lost == {},
        'voc': lost == {'masks: left out': 17},
        'labelstudio': list(lost.values()) == [2],
        'yolo': lost == {'crowd regions: left out': 1},
    }[name]


def test_scores_and_attributes_are_kept_or_counted(tmp_path: Path) -> None:
    kept = {
        'coco': {},
        'labelme': {'colour': 'red'},
        'cvat': {},
        'labelstudio': {'colour': 'red', 'wet': True},
    }
    for name in FORMATS:
        data = made(tmp_path / name / 'data')
        [*_, (_, _, thing)] = data.objects()
        thing.score, thing.attributes = 0.75, {'wet': True, 'colour': 'red'}
        lost = write_annotations(data, tmp_path / name / 'out', name, images='link')
        things = [other for _, _, other in read_annotations(tmp_path / name / 'out').objects()]
        if name in kept:
            [other] = [other for other in things if other.score is not None]
            assert other.score == 0.75 and {**other.attributes, **kept[name]} == thing.attributes
            assert sum(lost[what] for what in lost if 'attributes' in what) == len(kept[name])
        else:
            assert lost['scores: left out'] == 1 and lost['attributes of objects: left out'] == 2


@pytest.mark.parametrize('seed', range(3))
def test_brush_code(seed: int) -> None:
    pixels = (np.random.default_rng(seed).random((300, 301)) > (0.5, 0.999, 1)[seed]).astype(np.uint8)
    np.testing.assert_array_equal(decode_brush(encode_brush(pixels), *pixels.shape), pixels)


def test_brush_code_of_the_tool() -> None:
    # 2 pixels, 8 values of 8 bits: a run of 3 with a length of 3 bits, then 5 single values. Opacity is last.
    bits = f'{8:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}' + '1' + '00' + '010' + f'{255:08b}'
    bits += '0' + '00' + '100' + 4 * f'{0:08b}' + f'{255:08b}'
    bits += '0' * (-len(bits) % 8)
    code = list(int(bits, 2).to_bytes(len(bits) // 8, 'big'))
    np.testing.assert_array_equal(decode_brush(code, 1, 2), [[0, 1]])
    for damaged in (code[:-3], [*code[:3], 9, *code[4:]], [300, *code[1:]]):
        with pytest.raises(ValueError, match='its rle'):
            decode_brush(damaged, 1, 2)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(TOOL), run_name='__main__')
    return end.value.code or 0


def test_the_tool_says_what_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    write_annotations(made(tmp_path / 'data'), tmp_path / 'coco', 'coco')
    assert run(monkeypatch, tmp_path / 'coco', tmp_path / 'voc', '--to', 'voc', '--images', 'none') == 0
    printed = capsys.readouterr().out
    assert 'train: 4 images, 1 of them background; 10 objects, 10 with masks; 0 crowd regions' in printed
    assert 'objects per class: unused 0, café au lait 3, b & <c> 3, ant 4' in printed
    assert 'lost: 17 masks: left out' in printed
    assert not (tmp_path / 'voc/JPEGImages').exists()
    before = {path: path.read_bytes() for path in (tmp_path / 'voc').rglob('*.xml')}
    assert run(monkeypatch, tmp_path / 'coco', tmp_path / 'voc', '--to', 'cvat') == 2
    assert 'is not empty' in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / 'voc').rglob('*.xml')} == before
    # A fault stops the conversion, and --leave-out goes on without the entry.
    path = tmp_path / 'coco/annotations/instances_train.json'
    content = json.loads(path.read_text())
    content['annotations'][0]['bbox'] = [1000, 5, 4, 4]
    path.write_text(json.dumps(content))
    assert run(monkeypatch, tmp_path / 'coco', tmp_path / 'yolo', '--to', 'yolo') == 1
    assert 'annotation 1: [x, y, width, height] = [1000' in capsys.readouterr().out
    assert not (tmp_path / 'yolo').exists()
    assert run(monkeypatch, tmp_path / 'coco', tmp_path / 'yolo', '--to', 'yolo', '--leave-out') == 1
    lines = (tmp_path / 'yolo/labels/train/part 1/1.txt').read_text().splitlines()
    assert len(lines) == 3


def test_masks_that_a_tool_exported_as_crowd_regions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    data = made(tmp_path / 'data')
    for _, _, thing in data.objects():
        thing.is_crowd = True
    write_annotations(data, tmp_path / 'coco', 'coco')
    assert run(monkeypatch, tmp_path / 'coco', tmp_path / 'yolo', '--to', 'yolo', '--crowd-as-objects') == 0
    printed = capsys.readouterr().out
    assert '10 of 10 annotations are crowd regions' in printed and '--crowd-as-objects' in printed
    assert (
        '10 objects, 10 with masks; 0 crowd regions' in printed and 'crowd regions: left out' not in printed
    )


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write_annotations(made(tmp_path / 'data'), tmp_path / 'out', 'cvat', images='none')
    with pytest.raises(FileExistsError, match='nothing is overwritten'):
        write_annotations(made(tmp_path / 'data'), tmp_path / 'out', 'coco')
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['annotations.xml']


def test_images_are_not_written_elsewhere_and_names_must_differ(tmp_path: Path) -> None:
    data = made(tmp_path / 'data')
    for split in data.splits:
        split.folder = split.folder / 'part 0'
        for image in split.images:
            image.file_name = f'../{image.file_name}'
    write_annotations(data, tmp_path / 'a/b/out', 'labelme')
    assert [path.name for path in (tmp_path / 'a').iterdir()] == ['b']
    assert [path.name for path in (tmp_path / 'a/b').iterdir()] == ['out']
    data = made(tmp_path / 'data')
    data.splits[1] = data.splits[0]
    data.splits[0].images[1].file_name = 'part 0/0.jpg'
    with pytest.raises(FormatError, match=r'0\.png and .*part 0/0\.jpg'):
        write_annotations(data, tmp_path / 'voc', 'voc', images='none')


def test_predictions_become_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    data = made(tmp_path / 'data')
    paths = [split.folder / image.file_name for split in data.splits for image in split.images][:2]
    code, empty = encode(blob(1)), encode(np.zeros((HEIGHT, WIDTH), np.uint8))
    boxes = [[1, 2, 11, 12.5], [3, 3, 8, 8], [4, 4, 4.5, 9]]
    found = dict(classes=['ant', 'owl', 'owl'], scores=[0.9, 0.4, 0.8], bboxes=boxes)
    entries = [
        dict(path=str(paths[0]), resolution=224, labels=[0, 1, 1], **found, masks=[code, empty, code]),
        dict(path=str(paths[1]), resolution=224, labels=[], classes=[], scores=[], bboxes=[]),
        dict(path='x.mp4', frame=3, resolution=224, labels=[0, 1, 1], **found),
    ]
    (tmp_path / 'results').mkdir()
    (tmp_path / 'results/predictions.json').write_text(json.dumps(dict(predictions=entries)))
    read = read_predictions(tmp_path / 'results')
    assert [(thing.category, thing.box, thing.score, thing.mask) for _, _, thing in read.objects()] == [
        ('ant', (1, 2, 10, 10.5), 0.9, code),
        ('owl', (3, 3, 5, 5), 0.4, None),
    ]
    notes = [finding.detail for finding in read.report.findings]
    assert '1 masks without a pixel: the boxes alone are read' in notes
    assert '1 objects less than a pixel wide or high' in notes
    out = tmp_path / 'next'
    options = ('--from', 'predictions', '--score-thr', 0.5, '--to', 'labelme', '--boxes-only')
    assert run(monkeypatch, tmp_path / 'results', out, *options) == 0
    printed = capsys.readouterr().out
    assert '1 objects with scores below 0.5' in printed and '1 predictions on frames' in printed
    [shape] = json.loads((out / 'part 0/0.json').read_text())['shapes']
    assert shape['label'] == 'ant' and shape['score'] == 0.9 and shape['points'] == [[1, 2], [11, 12.5]]
    assert json.loads((out / 'part 1/1.json').read_text())['shapes'] == []


def test_masks_of_objects_become_label_maps(tmp_path: Path) -> None:
    data = made(tmp_path / 'data')
    image = data.splits[1].images[1]
    square = AnnotatedObject('café au lait', (30, 30, 10, 10), [[30, 30, 40, 30, 40, 40, 30, 40]])
    point = AnnotatedObject('ant', (32, 33, 2, 1), [[32, 33, 34, 33, 34, 34, 32, 34]])
    crowd = AnnotatedObject('ant', (50, 0, 5, 5), [[50, 0, 55, 0, 55, 5, 50, 5]], is_crowd=True)
    image.objects = [point, square, crowd, AnnotatedObject('ant', (1, 1, 5, 5))]
    lost = write_annotations(data, tmp_path / 'out', 'masks')
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[30:40, 30:40], expected[33, 32:34], expected[:5, 50:55] = 2, 4, 255
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / 'out/masks/val/part 1/1.png')), expected)
    assert lost['objects without a mask: left out'] == 1
    found = recognise(tmp_path / 'out')
    assert (found.task, found.mask_kind, found.classes) == ('segmentation', 'index', ('background', *CLASSES))
    assert found.report.is_sound and found.splits['train'].sizes == [(HEIGHT, WIDTH)] * 4
    with pytest.raises(FormatError, match='boxes make no label maps'):
        write_annotations(data, tmp_path / 'none', 'masks', boxes_only=True)


def test_yolo_has_either_boxes_or_outlines(tmp_path: Path) -> None:
    for name, without, expected in (('most', 1, {4: 0, 6: 8, 8: 1}), ('few', 7, {4: 9, 6: 0, 8: 0})):
        data = made(tmp_path / name / 'data')
        data.splits = data.splits[:1]
        data.splits[0].images[1].objects.clear()
        for number, image in enumerate(data.splits[0].images[2:]):
            image.objects += made(tmp_path / name / 'data').splits[0].images[2].objects[: 2 - number]
        things = [thing for _, _, thing in data.objects()]
        for thing in things[:without]:
            thing.mask = None
        lost = write_annotations(data, tmp_path / name / 'out', 'yolo', images='none')
        texts = [path.read_text() for path in (tmp_path / name / 'out/labels').rglob('*.txt')]
        lengths = [len(line.split()) - 1 for text in texts for line in text.splitlines()]
        assert {length: lengths.count(length) for length in expected} == expected
        assert lost.get('boxes without a mask: written as outlines', 0) == (without == 1)
        assert lost.get('masks: left out, since most objects have none', 0) == (2 if without == 7 else 0)
