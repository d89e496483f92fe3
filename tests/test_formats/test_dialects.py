"""Small exports in the dialect of each tool, with what they mean in pixels."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resformer_mm.formats.annotated import AnnotatedData, FormatError
from resformer_mm.formats.conversion import formats_of, read_annotations
from resformer_mm.formats.geometry import decode

WIDTH, HEIGHT = 40, 20


def pictures(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (WIDTH, HEIGHT), 'grey').save(path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')


def yolo_list(root: Path) -> None:
    """Ultralytics: names as a list, images/SPLIT, boxes."""
    pictures(root / 'images/train/a.jpg', root / 'images/val/b.jpg')
    write(root / 'labels/train/a.txt', '1 0.5 0.5 0.5 0.5\n0 0.125 0.25 0.25 0.5\n')
    write(
        root / 'data.yaml',
        "path: /home/me/boats\ntrain: images/train\nval: images/val\nnames: ['ant', 'bee']\n",
    )


def yolo_roboflow(root: Path) -> None:
    """Roboflow: ../train/images, names as a dict, outlines."""
    pictures(root / 'train/images/a.jpg', root / 'valid/images/b.jpg')
    write(root / 'train/labels/a.txt', '1 .25 .25 .75 .25 .75 .75 .25 .75\n0 0 0 .25 0 .25 .5 0 .5\n')
    text = (
        'train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 2\nnames: {0: ant, 1: bee}\n'
    )
    write(root / 'data.yaml', text)


def yolo_lists(root: Path) -> None:
    """Lists of images, as of Darknet and CVAT."""
    pictures(root / 'obj_train_data/a.jpg', root / 'obj_train_data/b.jpg')
    write(root / 'obj_train_data/a.txt', '1 0.5 0.5 0.5 0.5\n0 0.125 0.25 0.25 0.5\n')
    write(root / 'obj_train_data/b.txt', '')
    write(root / 'obj.names', 'ant\nbee\n')
    write(root / 'train.txt', 'data/obj_train_data/a.jpg\n')
    write(root / 'valid.txt', 'data/obj_train_data/b.jpg\n')


def voc(root: Path) -> None:
    """Pascal VOC: pixels count from 1, and the last one belongs to the box."""
    pictures(root / 'JPEGImages/a.jpg', root / 'JPEGImages/b.jpg')
    objects = ''.join(
        f'<object><name>{name}</name><pose>Left</pose><difficult>{flag}</difficult><bndbox><xmin>{x}</xmin>'
        f'<ymin>{y}</ymin><xmax>{u}</xmax><ymax>{v}</ymax></bndbox></object>'
        for name, flag, x, y, u, v in (('bee', 1, 11, 6, 30, 15), ('ant', 0, 1, 1, 10, 10))
    )
    for name, text in (('a', objects), ('b', '')):
        size = f'<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>'
        head = f'<folder>VOC</folder><filename>{name}.jpg</filename><path>C:\\x\\{name}.jpg</path>{size}'
        write(root / f'Annotations/{name}.xml', f'<annotation>{head}{text}</annotation>')
    write(root / 'ImageSets/Main/train.txt', 'a\n')
    write(root / 'ImageSets/Main/val.txt', 'b\n')


def labelme(root: Path) -> None:
    """LabelMe: corners in any order, polygons of a group, imageData, a circle."""
    pictures(root / 'train/a.jpg', root / 'val/b.jpg')
    mask = io.BytesIO()
    Image.fromarray(np.ones((10, 10), np.uint8)).save(mask, format='PNG')
    shapes = [
        dict(label='bee', points=[[30, 15], [10, 5]], shape_type='rectangle', group_id=None, flags={}),
        dict(label='ant', points=[[0, 0], [5, 0], [5, 10], [0, 10]], shape_type='polygon', group_id=3),
        dict(label='ant', points=[[5, 0], [10, 0], [10, 10], [5, 10]], shape_type='polygon', group_id=3),
        dict(label='ant', points=[[5, 5], [9, 9]], shape_type='circle', group_id=None),
    ]
    if root.name == 'mask':
        picture = base64.b64encode(mask.getvalue()).decode()
        shapes[1:3] = [dict(label='ant', points=[[0, 0], [9, 9]], shape_type='mask', mask=picture)]
    for path, found in (('train/a', shapes), ('val/b', [])):
        name = path.rpartition('/')[2]
        content = dict(
            version='5.4.1', flags={}, shapes=found, imagePath=f'..\\upload\\{name}.jpg', imageData='aGFsbG8='
        )
        write(root / f'{path}.json', json.dumps(content | dict(imageHeight=HEIGHT, imageWidth=WIDTH)))


def cvat(root: Path) -> None:
    """CVAT for images: box, mask in rows, polyline, attributes, subsets."""
    pictures(root / 'images/Train/a.jpg', root / 'images/Validation/b.jpg')
    write(
        root / 'annotations.xml',
        f"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><project><labels>
<label><name>ant</name></label><label><name>bee</name></label></labels></project></meta>
<image id="0" name="a.jpg" subset="Train" width="{WIDTH}" height="{HEIGHT}">
<box label="bee" source="manual" occluded="1" xtl="10.00" ytl="5.00" xbr="30.00" ybr="15.00" z_order="0">
<attribute name="colour">red</attribute></box>
<mask label="ant" occluded="0" rle="0, 100" left="0" top="0" width="10" height="10" z_order="0">
</mask><polyline label="ant" points="1,1;2,2"></polyline></image>
<image id="1" name="b.jpg" subset="Validation" width="{WIDTH}" height="{HEIGHT}"></image></annotations>""",
    )


def label_studio(root: Path) -> None:
    """Label Studio: percent, uploads with eight digits before the name, the last annotation."""
    pictures(root / 'a.jpg', root / 'b.jpg')
    common = dict(original_width=WIDTH, original_height=HEIGHT, to_name='image', image_rotation=0)
    box = dict(x=25, y=25, width=50, height=50, rotation=0, rectanglelabels=['bee'])
    polygon = dict(points=[[0, 0], [25, 0], [25, 50], [0, 50]], closed=True, polygonlabels=['ant'])
    result = [
        dict(**common, id='x', from_name='label', type='rectanglelabels', value=box),
        dict(**common, id='y', from_name='poly', type='polygonlabels', value=polygon),
        dict(**common, id='z', from_name='kind', type='choices', value=dict(choices=['day'])),
    ]
    old = dict(result=[], was_cancelled=False, created_at='2021-01-01')
    new = dict(result=result, was_cancelled=False, created_at='2022-01-01')
    tasks = [
        dict(id=7, data=dict(image='/data/upload/1/0123abcd-a.jpg'), annotations=[new, old]),
        dict(id=8, data=dict(image='/data/local-files/?d=x/b.jpg'), annotations=[dict(result=[])]),
    ]
    write(root / 'export.json', json.dumps(tasks))


def label_studio_min(root: Path) -> None:
    """Label Studio's JSON-MIN: a field for each control."""
    pictures(root / 'a.jpg', root / 'b.jpg')
    common = dict(original_width=WIDTH, original_height=HEIGHT)
    box = dict(x=25, y=25, width=50, height=50, rotation=0, rectanglelabels=['bee'])
    polygon = dict(points=[[0, 0], [25, 0], [25, 50], [0, 50]], polygonlabels=['ant'])
    tasks = [
        dict(image='/data/upload/1/0123abcd-a.jpg', id=7, annotation_id=1, label=[{**box, **common}])
        | dict(poly=[{**polygon, **common}], kind='day', lead_time=3.5),
        dict(image='s3://bucket/b.jpg', id=8, annotation_id=2),
    ]
    write(root / 'export.json', json.dumps(tasks))


def roboflow(root: Path) -> None:
    """Roboflow's COCO: a file per split, and the name of the project as category 0."""
    pictures(root / 'train/a.jpg', root / 'valid/b.jpg')
    categories = [dict(id=0, name='insects', supercategory='none')]
    categories += [dict(id=n, name=name, supercategory='insects') for n, name in ((1, 'ant'), (2, 'bee'))]
    objects = [
        dict(id=0, image_id=0, category_id=2, bbox=[10, 5, 20, 10], area=200, segmentation=[], iscrowd=0),
        dict(id=1, image_id=0, category_id=1, bbox=[0, 0, 10, 10], area=100, segmentation=[], iscrowd=0),
    ]
    for split, name, found in (('train', 'a', objects), ('valid', 'b', [])):
        image = dict(id=0, license=1, file_name=f'{name}.jpg', height=HEIGHT, width=WIDTH)
        content = dict(info={}, images=[image], categories=categories, annotations=found)
        write(root / split / '_annotations.coco.json', json.dumps(content))


DIALECTS: dict[Callable[[Path], None], str] = {
    yolo_list: 'yolo',
    yolo_roboflow: 'yolo',
    yolo_lists: 'yolo',
    voc: 'voc',
    labelme: 'labelme',
    cvat: 'cvat',
    label_studio: 'labelstudio',
    label_studio_min: 'labelstudio',
    roboflow: 'coco',
}


def objects_of(data: AnnotatedData) -> list[tuple]:
    return [
        (
            split.name,
            image.file_name.rpartition('/')[2],
            thing.category,
            *(round(side, 6) for side in thing.box),
        )
        for split, image, thing in data.objects()
    ]


@pytest.mark.parametrize('dialect', DIALECTS, ids=lambda dialect: dialect.__name__)
def test_an_export_is_read(tmp_path: Path, dialect: Callable[[Path], None]) -> None:
    dialect(tmp_path)
    assert formats_of(tmp_path) == [DIALECTS[dialect]]
    data = read_annotations(tmp_path)
    assert data.report.is_sound, data.report.text()
    assert data.classes == ('ant', 'bee')
    has_splits = dialect not in (label_studio, label_studio_min)
    assert [split.name for split in data.splits] == (['train', 'val'] if has_splits else [''])
    where = ('train', 'a.jpg') if has_splits else ('', 'a.jpg')
    found = objects_of(data)
    assert sorted(found) == [(*where, 'ant', 0, 0, 10, 10), (*where, 'bee', 10, 5, 20, 10)]
    images = {image.file_name.rpartition('/')[2]: image for split in data.splits for image in split.images}
    assert set(images) == {'a.jpg', 'b.jpg'} and images['b.jpg'].objects == []
    assert {(image.height, image.width) for image in images.values()} == {(HEIGHT, WIDTH)}
    assert all((split.folder / image.file_name).is_file() for split in data.splits for image in split.images)


@pytest.mark.parametrize('dialect', [labelme, cvat, label_studio], ids=lambda dialect: dialect.__name__)
def test_masks_and_what_is_not_read(tmp_path: Path, dialect: Callable[[Path], None]) -> None:
    root = tmp_path / 'mask'
    dialect(root)
    data = read_annotations(root)
    [ant] = [thing for _, _, thing in data.objects() if thing.category == 'ant']
    square = np.zeros((HEIGHT, WIDTH), np.uint8)
    square[:10, :10] = 1
    np.testing.assert_array_equal(decode(ant.mask, HEIGHT, WIDTH), square)
    [unread] = [finding.detail for finding in data.report.findings if finding.kind == 'not read']
    word = {labelme: 'circle', cvat: 'polyline', label_studio: 'choices'}[dialect]
    assert unread.startswith('1 ') and word in unread


def test_attributes_of_tools_are_kept(tmp_path: Path) -> None:
    voc(tmp_path / 'voc')
    cvat(tmp_path / 'cvat')
    [bee, _] = [thing for _, _, thing in read_annotations(tmp_path / 'voc').objects()]
    assert bee.attributes == {'difficult': True, 'pose': 'Left'} and not bee.is_crowd
    [bee, _] = [thing for _, _, thing in read_annotations(tmp_path / 'cvat').objects()]
    assert bee.attributes == {'occluded': True, 'colour': 'red'}


def test_images_found_by_their_names_are_told(tmp_path: Path) -> None:
    label_studio(tmp_path)
    found = [finding.detail for finding in read_annotations(tmp_path).report.findings]
    text = '1 images found by the end of their names, such as /data/upload/1/0123abcd-a.jpg as a.jpg'
    assert text in found


def test_rotated_boxes(tmp_path: Path) -> None:
    # A quarter turn: around the centre in CVAT, around the first corner in Label Studio.
    cvat(tmp_path / 'cvat')
    path = tmp_path / 'cvat/annotations.xml'
    path.write_text(path.read_text().replace('ybr="15.00"', 'ybr="15.00" rotation="90.00"'))
    [bee, _] = [thing for _, _, thing in read_annotations(tmp_path / 'cvat').objects()]
    assert bee.box == pytest.approx((15, 0, 10, 20))
    label_studio(tmp_path / 'ls')
    path = tmp_path / 'ls/export.json'
    path.write_text(path.read_text().replace('"rotation": 0', '"rotation": 90'))
    [bee, _] = [thing for _, _, thing in read_annotations(tmp_path / 'ls').objects()]
    assert bee.box == pytest.approx((0, 5, 10, 20))


def test_tracks_and_several_formats_are_named(tmp_path: Path) -> None:
    cvat(tmp_path)
    path = tmp_path / 'annotations.xml'
    track = '<track id="0" label="ant"><box frame="0" xtl="1" ytl="1" xbr="5" ybr="5"></box></track>'
    path.write_text(path.read_text().replace('</annotations>', f'{track}</annotations>'))
    [fault] = [finding for finding in read_annotations(tmp_path).report.findings if finding.is_fault]
    assert '1 tracks, but no images of the frames' in fault.detail and 'export with images' in fault.detail
    labelme(tmp_path)
    with pytest.raises(FormatError, match='labelme, cvat.*--from'):
        read_annotations(tmp_path)
