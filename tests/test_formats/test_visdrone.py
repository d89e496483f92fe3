"""VisDrone's text files: boxes, ignored regions, splits, and lines that are not objects."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_dialects import HEIGHT, WIDTH, pictures, write

from resformer_mm.formats.conversion import formats_of, read_annotations, write_annotations
from resformer_mm.formats.recognition import recognise

PEDESTRIAN, OTHERS, BUS = 1, 11, 9
LINES = f"""10,5,20,10,1,{BUS},1,2
0,0,10,10,0,0,0,0,
30,0,5,5,0,{OTHERS},0,0
30,10,6,8,0,{PEDESTRIAN},0,0
"""


@pytest.fixture
def drones(tmp_path: Path) -> Path:
    root = tmp_path / 'drones'
    for split, text in (('train', LINES), ('val', ''), ('test-dev', f'1,2,3,4,1,{PEDESTRIAN},0,0')):
        folder = root / f'VisDrone2019-DET-{split}'
        pictures(folder / 'images' / 'a.jpg')
        write(folder / 'annotations' / 'a.txt', text)
    return root


def test_a_folder_becomes_a_coco_file_per_split(drones: Path, tmp_path: Path) -> None:
    assert formats_of(drones) == ['visdrone']
    data = read_annotations(drones)
    assert data.report.is_sound and [split.name for split in data.splits] == ['train', 'val', 'test']
    assert data.splits[0].counts() == {'bus': 1}
    (tmp_path / 'coco').mkdir()
    write_annotations(data, tmp_path / 'coco', 'coco', 'copy')
    content = json.loads((tmp_path / 'coco' / 'annotations' / 'instances_train.json').read_text())
    names = {entry['id']: entry['name'] for entry in content['categories']}
    assert list(names.values())[8] == 'bus' and len(names) == 10
    assert content['images'][0]['width'] == WIDTH and content['images'][0]['height'] == HEIGHT
    objects = [entry for entry in content['annotations'] if not entry['iscrowd']]
    assert [(names[entry['category_id']], entry['bbox']) for entry in objects] == [('bus', [10, 5, 20, 10])]
    crowds = [(names[one['category_id']], one['bbox']) for one in content['annotations'] if one['iscrowd']]
    assert len(crowds) == 21
    for box in ([0, 0, 10, 10], [30, 0, 5, 5]):
        assert {name for name, found in crowds if found == box} == set(names.values())
    assert [name for name, box in crowds if box == [30, 10, 6, 8]] == ['pedestrian']
    assert (tmp_path / 'coco' / 'train' / 'a.jpg').is_file()


def test_the_report_says_what_was_read_otherwise(drones: Path) -> None:
    text = read_annotations(drones).report.text(None, details=True)
    assert '2 ignored regions and objects: crowd regions of every class' in text
    assert '1 objects with the flag 0: crowd regions' in text


@pytest.mark.parametrize(
    ('line', 'kind', 'detail'),
    [
        ('1,2,3,4,1,9,0', 'entry that is not an object', "line 1: '1,2,3,4,1,9,0' is not 8 numbers"),
        ('1,2,3,x,1,9,0,0', 'entry that is not an object', 'correct or remove it'),
        (
            '1,2,3,4,1,12,0,0',
            'class that is not in the list',
            'line 1: the category 12 is not one of 0 to 11',
        ),
    ],
)
def test_faults_name_the_line(drones: Path, line: str, kind: str, detail: str) -> None:
    write(drones / 'VisDrone2019-DET-val' / 'annotations' / 'a.txt', line)
    write(drones / 'VisDrone2019-DET-val' / 'annotations' / 'b.txt', LINES)
    report = read_annotations(drones, 'visdrone').report
    found = {(finding.kind, Path(finding.path).name): finding.detail for finding in report.findings}
    assert detail in found[kind, 'a.txt']
    assert 'there is no image of its name' in found['annotations without an image', 'b.txt']


def test_the_folder_is_recognised(drones: Path) -> None:
    found = recognise(drones)
    assert (found.layout, found.task) == ('visdrone', 'detection')
