"""Usage errors of the tools: one line with the option and the remedy, and exit code 2."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_models import classifier, save_checkpoint

from resformer_mm.deployment.formats import PROGRAM_VERSION

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture
def refuse(tmp_path, monkeypatch, capsys) -> Callable[..., str]:
    """Return a function that runs a tool, which must end with a usage error, and returns its last line."""
    monkeypatch.chdir(tmp_path)
    for name in ('DISPLAY', 'RANK'):
        monkeypatch.delenv(name, raising=False)
    classifier().dump('mine.py')
    Path('variable.py').write_text("_base_ = 'mine.py'\nnum_classes = 7\n")
    Path('folder').mkdir()
    Path('file.txt').write_text('text')

    def run(tool: str, *words: str) -> str:
        monkeypatch.setattr(sys, 'argv', [tool, *words])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(TOOLS / tool), run_name='__main__')
        assert ended.value.code == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    return run


ANALYSIS, DATA, EXPORT = 'analysis_tools/', 'dataset_converters/', 'deployment/export_program.py'
FIGURE = '--resolutions 64 --out a.png'


@pytest.mark.parametrize(
    ('tool', 'words', 'message'),
    [
        ('train.py', 'none.py', 'there is no config none.py'),
        ('test.py', 'none.py none.pth', 'there is no config none.py'),
        ('test.py', 'mine.py none.pth --out a.txt', '--out a.txt: predictions are written to a .pkl'),
        ('misc/print_config.py', 'none.py', 'there is no config none.py'),
        ('misc/print_config.py', 'mine.py --save-path a.txt', '--save-path a.txt: the suffix must be one of'),
        ('misc/print_config.py', 'file.txt', 'file.txt is not a valid config: '),
        (
            'misc/print_config.py',
            'variable.py --cfg-options num_classes=5',
            '--cfg-options num_classes has no effect: ',
        ),
        ('model_converters/publish_model.py', 'none.pth a.pth', 'none.pth does not exist: give the path'),
        (
            ANALYSIS + 'analyze_logs.py',
            'plot_curve none --keys loss --out a.png',
            'there is no log none: give a work dir',
        ),
        (ANALYSIS + 'browse_dataset.py', 'none.py --not-show', 'give a folder with --output-dir'),
        (ANALYSIS + 'browse_dataset.py', 'none.py -o out --not-show', 'there is no config none.py'),
        (
            ANALYSIS + 'fit_cascade.py',
            'mine.py a.pth --target-cost 1 --resolutions 32 --out a.txt',
            'a.txt: the config file must end',
        ),
        (
            ANALYSIS + 'fit_cascade.py',
            'none.py a.pth --target-cost 1 --resolutions 32',
            'there is no config none.py',
        ),
        (ANALYSIS + 'get_flops.py', 'mine.py --shape 1 2 3', '--shape 1 2 3: give one side, or height and'),
        (ANALYSIS + 'get_flops.py', 'none.py', 'there is no config none.py'),
        (ANALYSIS + 'resolution_sweep.py', 'mine.py a.pth --rounds 0', '--rounds must be at least 1'),
        (ANALYSIS + 'resolution_sweep.py', 'none.py a.pth', 'there is no config none.py'),
        (
            ANALYSIS + 'visualize_attention.py',
            'a.png mine.py a.pth --head x FIGURE',
            '--head x: give the index of a',
        ),
        (ANALYSIS + 'visualize_attention.py', 'a.png none.py a.pth FIGURE', 'there is no config none.py'),
        (ANALYSIS + 'visualize_position_embedding.py', 'none.py FIGURE', 'there is no config none.py'),
        (
            ANALYSIS + 'visualize_position_embedding.py',
            'none.py FIGURE --names a b',
            '--names has 2 names for 1 models',
        ),
        (
            ANALYSIS + 'visualize_position_embedding.py',
            'none.py FIGURE --baseline a b c',
            'takes CONFIG [CHECKPOINT], got a b c',
        ),
        (
            ANALYSIS + 'visualize_position_embedding.py',
            'mine.py --resolutions 4 --out a.png',
            'mine.py: the resolution 4 is smaller',
        ),
        (
            DATA + 'check_detection.py',
            'folder --img-dir a b --ann-file c',
            '--img-dir names 2 folders, --ann-file 1: give',
        ),
        (DATA + 'check_segmentation.py', 'folder', '--num-classes is needed: 150 for ADE20K'),
        (DATA + 'check_segmentation.py', 'none --num-classes 3', 'there is no folder none'),
        (
            DATA + 'check_segmentation.py',
            'folder --num-classes 3 --img-dir a b --ann-dir c',
            '--img-dir names 2 folders, --ann-dir 1',
        ),
        (
            DATA + 'check_segmentation.py',
            'folder --num-classes 3 --crop 0',
            '--crop takes one or two positive',
        ),
        (DATA + 'check_video.py', 'folder', '--num-classes is needed, at least 1: 400 for Kinetics-400'),
        (
            DATA + 'check_video.py',
            'folder --num-classes 2 --ann-file a b c --video-dir d e',
            'names 2: give as many, or one',
        ),
        (DATA + 'check_video.py', 'folder --timeout 0', '--timeout and --window must be positive'),
        (DATA + 'check_video.py', 'folder --workers 0', '--workers must be at least 1'),
        (
            DATA + 'masks_from_colours.py',
            'folder out --legend file.txt --workers 0',
            '--workers must be at least 1',
        ),
        (DATA + 'masks_from_colours.py', 'folder out --legend none.txt', 'none.txt'),
        (DATA + 'masks_to_colours.py', 'folder out --legend none.txt', 'none.txt'),
        (DATA + 'convert_annotations.py', 'folder out --to coco', 'none of the formats coco, yolo'),
        (DATA + 'convert_annotations.py', 'file.txt out --to coco', 'file.txt is not a folder: unpack it'),
        (
            DATA + 'convert_annotations.py',
            'folder out --to coco --score-thr 0.5',
            '--score-thr goes with --from predictions',
        ),
        (
            EXPORT,
            'mine.py a.pth --no-verify --verify-sizes 64',
            '--no-verify and --verify-sizes exclude each',
        ),
        (EXPORT, 'mine.py a.pth --verify-sizes x', "'x' is not a size: give pixels, e.g. 224"),
        (EXPORT, 'mine.py a.pth --device cuda:77', "the device 'cuda:77' cannot be used"),
        ('check_data.py', 'folder --workers 0', '--workers must be at least 1, --max-lines at least 0'),
        (
            'check_data.py',
            'mine.py --num-classes 2',
            '--num-classes goes with a folder: set it in the config',
        ),
        ('check_data.py', 'folder', 'folder has the layout of none of the tasks'),
        ('check.py', 'mine.py --max-lines -1', '--max-lines must be at least 0'),
        ('check.py', 'none.py', 'there is no config none.py'),
        ('train.py', 'mine.py --launcher pytorch', '--launcher pytorch: the variable RANK is not set'),
        ('train.py', 'mine.py --resume folder', 'folder is a folder: give the file of the checkpoint'),
        (
            'train.py',
            'mine.py --require-resume',
            '--require-resume: there is no checkpoint in work_dirs/mine',
        ),
        (
            DATA + 'check_classification.py',
            'folder --config mine.py',
            'give either DATA_ROOT or --config CONFIG',
        ),
        (
            DATA + 'check_segmentation.py',
            '--config mine.py --num-classes 3',
            '--num-classes goes with DATA_ROOT',
        ),
        (
            DATA + 'check_classification.py',
            'folder',
            'folder has no folders of images, neither as splits nor',
        ),
        ('demo.py', 'a.png mine.py a.pth --cascade --resolution 32', 'leave out --resolution'),
    ],
)
def test_a_usage_error(tool, words, message, refuse) -> None:
    assert message in refuse(tool, *words.replace('FIGURE', FIGURE).split())


@pytest.mark.skipif(torch.__version__ < PROGRAM_VERSION, reason=f'exports need PyTorch {PROGRAM_VERSION}')
@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ('mine.py a.pth --out a.pth', '--out a.pth would replace the config or the checkpoint: name'),
        ('none.py a.pth', 'there is no config none.py'),
    ],
)
def test_a_usage_error_of_an_export(words, message, refuse) -> None:
    assert message in refuse(EXPORT, *words.split())


def test_a_package_that_is_missing_during_an_export(refuse, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise ImportError('ONNX files need onnxruntime: pip install onnxruntime')

    monkeypatch.setattr('resformer_mm.deployment.command_line.export', fail)
    monkeypatch.setattr('resformer_mm.deployment.formats._require_pytorch', lambda *_: None)
    save_checkpoint(classifier(), Path('a.pth'))
    assert 'ONNX files need onnxruntime' in refuse(EXPORT, 'mine.py', 'a.pth')
    monkeypatch.setattr(
        'resformer_mm.deployment.command_line.export', lambda *_: Path('folder').write_text('')
    )
    assert '--out a.pt2: Is a directory' in refuse(EXPORT, 'mine.py', 'a.pth')
