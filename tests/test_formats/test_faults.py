"""Bad exports are named with file, place and remedy; hostile ones do no harm."""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path

import pytest
from test_dialects import (
    HEIGHT,
    WIDTH,
    cvat,
    label_studio,
    labelme,
    pictures,
    roboflow,
    voc,
    write,
    yolo_list,
)

from resformer_mm.formats.annotated import FormatError
from resformer_mm.formats.conversion import read_annotations, write_annotations
from resformer_mm.formats.xml_files import read_xml


def faults(root: Path) -> list[str]:
    return [
        f'{finding.kind} {finding}' for finding in read_annotations(root).report.findings if finding.is_fault
    ]


@pytest.mark.parametrize(
    ('line', 'kind', 'words'),
    [
        ('2 0.5 0.5 0.5 0.5', 'class that is not in the list', 'class 2 is not one of 0 to 1 in data.yaml'),
        ('0 20 10 20 10', 'coordinates beyond the image', 'look like pixels: divide'),
        ('0 0.5 0.5 -0.5 0.5', 'coordinates beyond the image', 'beyond 0 to 1'),
        ('0 0.5 0.5 0 0.5', 'no area', 'less than a pixel'),
        ('0 0.1 0.1 0.2', 'entry that is not an object', '3 numbers are neither a box'),
        ('bee 0.5 0.5 0.5 0.5', 'entry that is not an object', 'is not a class number'),
        ('0 nan 0.5 0.5 0.5', 'entry that is not an object', 'is not a class number'),
    ],
)
def test_bad_lines_of_yolo(tmp_path: Path, line: str, kind: str, words: str) -> None:
    yolo_list(tmp_path)
    with open(tmp_path / 'labels/train/a.txt', 'a') as file:
        file.write(f'\n{line}\n')
    [fault] = faults(tmp_path)
    assert fault.startswith(f'{kind} {tmp_path}/labels/train/a.txt: line 4: ') and words in fault


def test_other_faults_of_yolo(tmp_path: Path) -> None:
    yolo_list(tmp_path)
    write(tmp_path / 'labels/train/lost.txt', '0 0.5 0.5 0.5 0.5\n')
    file = tmp_path / 'data.yaml'
    text = file.read_text()
    write(file, text.replace('train:', '# train:').replace('val:', '# val:'))
    assert [split.name for split in read_annotations(tmp_path).splits] == ['train', 'val']  # by folders
    write(file, text)
    line = '1 0.5 0.5 0.5 0.5\n'
    write(tmp_path / 'labels/train/a.txt', line + line)
    data = read_annotations(tmp_path)
    texts = {f'{finding.kind}: {finding.detail}' for finding in data.report.findings}
    assert len(list(data.objects())) == 1
    for text in (
        'annotations without an image: there is no image of its name: add it, or remove the file',
        'listed twice: 1 objects of images/train/a.jpg repeat others exactly: one is kept',
        'images without annotations: 1 of 1 images are background: images/val/b.jpg',
    ):
        assert text in texts
    for text, message in (
        ("train: images/train\nnc: 3\nnames: ['a', 'b']", 'nc is 3, but names has 2'),
        ('train: nowhere\nnames: [a, b]', 'train: nowhere leads to no images below'),
        ('train: ../../etc\nnames: [a, b]', 'leads to no images below'),
        ('test: nowhere\nval: 3\ntrain: [[x]]\nnames: [a, b]', 'train is a list, not a folder'),
        ('train: images/train\nnames: {0: a, 2: b}', 'must be 0 to 1'),
        ('train: images/train\nnames: [a, a]', "'a' twice"),
        ('train: images/train\nnames: [[a], b]', 'has a list, not a name'),
        ('train: images/train\nnames: !!python/object/apply:os.getcwd []', 'cannot be read as YAML'),
    ):
        write(tmp_path / 'data.yaml', text)
        with pytest.raises(FormatError, match=message):
            read_annotations(tmp_path, 'yolo')


def test_lists_outside_of_the_folder(tmp_path: Path) -> None:
    yolo_list(tmp_path / 'data')
    write(tmp_path / 'list.txt', 'data/images/train/a.jpg\n')
    for place in ('../list.txt', str(tmp_path / 'list.txt')):
        write(tmp_path / 'data/data.yaml', f'train: {place}\nnames: [a, b]')
        with pytest.raises(FormatError, match=r'list\.txt leads to no images'):
            read_annotations(tmp_path / 'data')


def test_aliases_of_yaml_take_no_memory(tmp_path: Path) -> None:
    yolo_list(tmp_path)
    lines = ['a0: &a0 [x, x, x, x, x, x, x, x, x, x]']
    lines += [f'a{n}: &a{n} [{", ".join([f"*a{n - 1}"] * 10)}]' for n in range(1, 30)]
    write(tmp_path / 'data.yaml', '\n'.join([*lines, 'train: images/train', 'names: *a29']))
    with pytest.raises(FormatError, match='names has a list'):
        read_annotations(tmp_path, 'yolo')


@pytest.mark.parametrize(
    ('old', 'new', 'words'),
    [
        ('<name>bee</name>', '<name></name>', 'line 1: an object without a name'),
        ('<xmax>30</xmax>', '<xmax>right</xmax>', 'bee without xmin, ymin, xmax and ymax'),
        ('<xmin>11</xmin>', '<xmin>31</xmin>', 'less than a pixel'),
        ('<xmin>11</xmin><ymin>6</ymin><xmax>30', '<xmin>900</xmin><ymin>6</ymin><xmax>930', 'image 20 x 40'),
        ('<filename>a.jpg', '<filename>c.jpg', 'no fault: the file is called a.xml'),
        (f'<width>{WIDTH}', '<width>80', 'its annotations are for 20 x 80, but JPEGImages/a.jpg has 20 x 40'),
        ('</annotation>', '', 'is not valid XML'),
    ],
)
def test_faults_of_voc(tmp_path: Path, old: str, new: str, words: str) -> None:
    voc(tmp_path)
    path = tmp_path / 'Annotations/a.xml'
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    found = faults(tmp_path)
    if words.startswith('no fault'):
        assert found == []
    else:
        [fault] = found
        assert str(path) in fault and words in fault


def test_coordinates_of_voc_that_count_from_zero(tmp_path: Path) -> None:
    voc(tmp_path)
    path = tmp_path / 'Annotations/a.xml'
    path.write_text(path.read_text().replace('<xmin>1</xmin>', '<xmin>0</xmin>'))
    data = read_annotations(tmp_path)
    assert [thing.box for _, _, thing in data.objects()] == [(11, 6, 19, 9), (0, 1, 10, 9)]
    assert any('count from 0' in finding.detail for finding in data.report.findings)


def test_faults_of_json_formats(tmp_path: Path) -> None:
    for name, dialect, place, old, new, words in (
        (
            'a',
            labelme,
            'train/a.json',
            '"points": [[30, 15], [10, 5]]',
            '"points": [[30, 15]]',
            'of 1 points',
        ),
        ('b', labelme, 'train/a.json', '[[0, 0], [5, 0], [5, 10], [0, 10]]', '[]', 'shape 2'),
        ('c', labelme, 'train/a.json', '[[0, 0], [5, 0], ', '[["x", 0], [5, 0], ', 'points that are not'),
        ('d', labelme, 'train/a.json', f'"imageWidth": {WIDTH}', '"imageWidth": 80', 'for 20 x 80'),
        ('e', labelme, 'train/a.json', '"shapes"', 'shapes"', 'is not valid JSON'),
        ('f', cvat, 'annotations.xml', 'xtl="10.00"', 'xtl="ten"', "xtl='ten', which is not a number"),
        ('g', cvat, 'annotations.xml', 'label="bee"', 'label="wasp"', "'wasp' is not in the labels"),
        ('h', cvat, 'annotations.xml', 'rle="0, 100"', 'rle="0, 101"', 'cover 101 pixels'),
        ('i', cvat, 'annotations.xml', 'left="0"', 'left="35"', 'is not in the image'),
        ('j', cvat, 'annotations.xml', 'name="a.jpg"', 'name="q.jpg"', 'no image q.jpg'),
        ('k', label_studio, 'export.json', '"width": 50', '"width": null', 'without x, y, width'),
        ('l', label_studio, 'export.json', '-a.jpg', '-q.jpg', 'task 7: there is no image'),
        ('m', label_studio, 'export.json', '["bee"]', '[]', 'task 7, result x has no label'),
        ('n', label_studio, 'export.json', '"original_width": 40', '"original_width": 80', 'for 20 x 80'),
        ('o', roboflow, 'train/_annotations.coco.json', '"category_id": 2', '"category_id": 5', 'unknown'),
        ('p', roboflow, 'train/_annotations.coco.json', '[10, 5, 20, 10]', '[10, 5, 20]', 'bbox'),
    ):
        root = tmp_path / name
        dialect(root)
        path = root / place
        text = path.read_text()
        assert old in text, name
        path.write_text(text.replace(old, new, 1))
        found = faults(root)
        assert any(words in fault and str(path) in fault for fault in found), (name, found)


BOMB = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">%s]><annotation>
<filename>a.jpg</filename><object><name>&%s;</name></object></annotation>"""


@pytest.mark.parametrize(
    'text',
    [
        BOMB
        % (''.join(f'<!ENTITY b{n} "{"&a;" if n == 0 else 10 * f"&b{n - 1};"}">' for n in range(12)), 'b11'),
        BOMB % ('<!ENTITY f SYSTEM "file:///etc/passwd">', 'f'),
        BOMB % ('<!ENTITY % p SYSTEM "http://127.0.0.1:9/x.dtd"> %p;', 'a'),
        '<annotation><filename>a.jpg</filename>' + 100_000 * '<a>' + 100_000 * '</a>' + '</annotation>',
    ],
    ids=['billion laughs', 'file', 'parameter', 'depth'],
)
def test_hostile_xml(tmp_path: Path, text: str) -> None:
    pictures(tmp_path / 'a.jpg')
    write(tmp_path / 'a.xml', text)
    with pytest.raises(FormatError, match='declares the entity|nested too deeply'):
        read_xml(tmp_path / 'a.xml')
    [fault] = faults(tmp_path)
    assert 'a.xml, line ' in fault and len(fault) < 500


def test_external_definitions_are_not_read(tmp_path: Path) -> None:
    write(tmp_path / 'x.dtd', '<!ENTITY x "y">')
    write(tmp_path / 'a.xml', '<!DOCTYPE annotation SYSTEM "x.dtd"><annotation><name>ant</name></annotation>')
    assert read_xml(tmp_path / 'a.xml').findtext('name') == 'ant'


def test_names_that_lead_elsewhere(tmp_path: Path) -> None:
    secret = tmp_path / 'secret/a.jpg'
    pictures(secret)
    root = tmp_path / 'data'
    roboflow(root)
    (root / 'train/a.jpg').unlink()
    path = root / 'train/_annotations.coco.json'
    for name in ('../../secret/a.jpg', str(secret)):
        content = json.loads(path.read_text())
        content['images'][0]['file_name'] = name
        path.write_text(json.dumps(content))
        [fault, *_] = faults(root)
        assert fault.startswith('image that does not exist')
        write_annotations(read_annotations(root), tmp_path / f'out{len(name)}', 'yolo')
    assert not list(tmp_path.glob('out*/**/a.jpg'))
    voc(tmp_path / 'voc')
    os.mkfifo(tmp_path / 'voc/Annotations/pipe.xml')
    assert faults(tmp_path / 'voc') == []  # pipes are no files, and never read


def test_sizes_are_those_of_images_as_displayed(tmp_path: Path) -> None:
    from PIL import Image

    yolo_list(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (WIDTH, HEIGHT)).save(tmp_path / 'images/train/a.jpg', exif=exif)
    [bee, _] = [thing for _, _, thing in read_annotations(tmp_path).objects()]
    assert bee.box == (5, 10, 10, 20)  # fractions of 20 x 40


def test_the_check_of_data_says_how_an_export_is_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    yolo_list(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['check_data.py', str(tmp_path)])
    with pytest.raises(SystemExit):
        runpy.run_path(str(Path(__file__).parents[2] / 'tools/check_data.py'), run_name='__main__')
    printed = capsys.readouterr().err
    assert (
        f'format yolo: convert it with tools/dataset_converters/convert_annotations.py {tmp_path}' in printed
    )


def test_endless_outlines_and_images_without_an_entry(tmp_path: Path) -> None:
    root = tmp_path / 'mask'
    labelme(root)
    path = root / 'train/a.json'
    content = json.loads(path.read_text())
    endless = [[0, 0], [2e9, 0], [0, 2e9], [2e9, 2e9]]
    polygon = dict(label='ant', points=endless, shape_type='polygon', group_id=5)
    content['shapes'] += [polygon, {**content['shapes'][1], 'group_id': 5}]
    path.write_text(json.dumps(content))
    cvat(tmp_path / 'cvat')
    pictures(tmp_path / 'cvat/images/Train/new.jpg')
    found = faults(root)
    assert len(found) == 2 and all(
        'pixels along their lines' in fault or 'outside' in fault for fault in found
    )
    notes = [str(finding) for finding in read_annotations(tmp_path / 'cvat').report.findings]
    assert f'{tmp_path}/cvat: 1, which are not used: images/Train/new.jpg' in notes
