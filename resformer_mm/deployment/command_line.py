"""Command line of the export tools."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from resformer_mm.checkpoints.models import load_model
from resformer_mm.config.command_line import add_config_options
from resformer_mm.config.inference_dtype import DTYPES, FIELD, read_inference_dtype
from resformer_mm.inference.devices import check_device
from resformer_mm.progress import ProgressDisplay
from resformer_mm.text import parse_size

from .export import export
from .formats import Format
from .model import ExportError
from .selection import deployable
from .verification import Difference, Size, check_sizes, default_sizes

OPTIONS = ('output',)  # of single tasks


def export_parser(description: str, suffix: str) -> argparse.ArgumentParser:
    """Return a parser with the options shared by all formats.

    Args:
        description: description of the tool.
        suffix: suffix of the files, e.g. '.onnx'.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', type=Path, help=f'output file (default: CHECKPOINT with suffix {suffix})')
    parser.add_argument(
        '--verify-sizes',
        nargs='+',
        type=_size,
        metavar='HxW',
        help='sizes in pixels of the comparison with PyTorch, e.g. 96x128 224 (default: twelve sizes)',
    )
    parser.add_argument(
        '--tolerance',
        type=float,
        help='largest absolute difference (1e-4; in 16 bits 0.02 of the largest output)',
    )
    parser.add_argument('--no-verify', action='store_true', help='write the file without comparing')
    parser.add_argument('--device', type=_device, default='cpu', help='device of PyTorch (cpu)')
    parser.add_argument(
        '--output', choices=('labels', 'scores'), help='output of a segmentor: label map or scores (labels)'
    )
    parser.add_argument(
        '--dtype',
        choices=list(DTYPES),
        help=f'type in which the model computes (`{FIELD}` of the config, float32)',
    )
    add_config_options(parser)
    return parser


def run_export(
    parser: argparse.ArgumentParser, args: argparse.Namespace, make_format: Callable[[], Format]
) -> int:
    """Export a model as the options say, print the comparison, and return the exit code.

    Invalid options end the process with code 2. The code is 1 if the model cannot be exported or the file
    differs from it.
    """
    if args.no_verify and args.verify_sizes:
        parser.error('--no-verify and --verify-sizes exclude each other')
    try:
        file_format = make_format()
        out = args.out or Path(args.checkpoint).with_suffix(file_format.suffix)
        if out.resolve() in (Path(args.config).resolve(), Path(args.checkpoint).resolve()):
            parser.error(f'--out {out} would replace the config or the checkpoint: name another file')
        options = {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}
        loaded = load_model(args.config, args.checkpoint, args.device, args.cfg_options)
        model = deployable(loaded, **options)
        model.compute_in(args.dtype or read_inference_dtype(loaded.cfg))
        if file_format.suffix not in model.formats:
            parser.error(
                f'{type(loaded).__name__} is not exported as {file_format.suffix}: use '
                'tools/deployment/export_onnx.py'
            )
        sizes = [] if args.no_verify else args.verify_sizes or default_sizes(model.patch_size)
        check_sizes(sizes, model.patch_size)
    except (OSError, ValueError, ImportError) as error:
        parser.error(str(error))
    if sizes:
        print('images  height  width  largest difference  largest output')
    try:
        with ProgressDisplay(bool(sizes)) as display:
            task = display.add('sizes', len(sizes))
            export(model, out, file_format, sizes, args.tolerance, partial(_print_row, display, task))
    except OSError as error:
        parser.error(f'--out {out}: {error.strerror or error}')
    except ImportError as error:
        parser.error(str(error))
    except ExportError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(f'written: {out} ({out.stat().st_size / 2**20:.1f} MiB{"" if sizes else ", not verified"})')
    return 0


def _print_row(display: ProgressDisplay, task: int, item: Difference) -> None:
    row = f'{item.batch:6}  {item.height:6}  {item.width:5}  {item.value:18.1e}  {item.magnitude:14.3g}'
    print(row, flush=True)
    display.advance(task)


def _size(text: str) -> Size:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _device(text: str) -> str:
    try:
        check_device(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
