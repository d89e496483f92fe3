"""Rows of the matrix of swapped backbones: reasons of failures, kinds of changes, and the CSV file."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from swap_zoo import LIBRARIES

ZOO_FAILS = 'the config of the zoo fails here with its own backbone as well'
OK, FAILED, EXCLUDED = 'ok', 'failed', 'excluded'

# Models that no plain backbone can serve: pattern of 'library config model neck head' -> reason.
EXPLAINED: dict[str, str] = {
    'LFBInferHead': 'the head writes features of a video to a file: it does not learn',
    'FBOHead': 'the head reads a file of features of all videos, which the old backbone has computed',
    'carafe': 'the operator CARAFE of mmcv has no implementation for the CPU',
    'OmniHead': 'one backbone takes images and clips; VideoResFormer takes clips',
    'crowddet': 'RoIAlign of torchvision needs compiled operators, which a CPU-only PyTorch lacks',
    'DDRHead': 'the head reads two maps of different widths in training, and one in prediction',
    'PIDHead': 'the head reads three branches of different widths in training, and one map in prediction',
    'ConformerHead': 'the head reads two branches of the Conformer, one convolutional, of different widths',
    'guided_anchoring': 'the prediction uses masked_conv2d of mmcv, which has no implementation for the CPU',
    'TridentFasterRCNN': 'the head reads the three branches of a TridentResNet',
    'Mask2FormerVideo': 'the model takes no neck, which would make the maps of four strides',
    'DeiTClsHead': 'the head reads a distillation token beside the class token: use VisionTransformerClsHead',
}

WIDTH = re.compile(
    r'(in_channels|c1_in_channels|input_features|embed_dims?|neck\[\d\].out_channels|spatial_modulation_cfg.out_channels)='
)
HEAD = re.compile(r'head\.(type|num_classes|distillation)=|neck\.dim=')


def explain(row: dict[str, str]) -> str | None:
    """Return why a model of a row cannot work, None if that is unknown."""
    name = ' '.join(row[key] for key in ('library', 'config', 'model', 'neck', 'head'))
    return next((reason for pattern, reason in EXPLAINED.items() if re.search(pattern, name)), None)


def merge(path: Path, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return new rows and those of a CSV that have no new one, in order of stack, library and config."""
    merged = {}
    if path.exists():
        with open(path, newline='', encoding='utf-8') as file:
            merged = {_identity(row): row for row in csv.DictReader(file)}
    merged.update((_identity(row), row) for row in rows)
    return [merged[identity] for identity in sorted(merged)]


def finished(path: Path, stack: str, library: str) -> list[str]:
    """Return the configs of a library that a CSV has for a stack, without those that failed."""
    rows = merge(path, [])
    own = [row for row in rows if (row['stack'], row['library']) == (stack, library)]
    return [row['config'] for row in own if outcome(row) != 'failed']


def _identity(row: dict[str, str]) -> tuple[str, int, str]:
    return row['stack'], LIBRARIES.index(row['library']), row['config']


def outcome(row: dict[str, str]) -> str:
    """Return the class of a row in the summary."""
    if row['loss'] == EXCLUDED:
        return 'excluded'
    if row['loss'] == row['prediction'] == OK:
        return 'works, other lines changed' if row['changed_lines'] else 'works, backbone line alone'
    return 'explained' if explain(row) or row['note'].startswith(ZOO_FAILS) else 'failed'


def changes(row: dict[str, str]) -> list[str]:
    """Return the kinds of changes besides the backbone."""
    lines = row['changed_lines'].split('; ') if row['changed_lines'] else []
    found = set()
    for line in lines:
        if 'SimpleFeaturePyramid' in line:
            if 'neck=[' in line:
                found.add('a pyramid before the neck')
            else:
                found.add('a pyramid in the place of the FPN' if row['neck'] else 'a pyramid as the neck')
        elif HEAD.search(line):
            found.add('the head')
        elif 'kernel_size=' in line:
            found.add('the pooling window')
        elif WIDTH.search(line):
            found.add('widths: `in_channels` and its like')
        else:
            found.add(f'another line: {line}')
    return sorted(found) or ['none besides the backbone']
