"""Turn an exported ONNX file into one that computes in 8-bit integers, calibrated on images of the config.

    python tools/deployment/quantize_onnx.py CONFIG model.onnx --out model.int8.onnx

The ranges of the activations are measured on training images in the evaluation pipeline, at every resolution
of the config's test_cfg, or those of --resolutions. Prints how the result agrees with the float32 file on
these images. Measure the accuracy with tools/analysis_tools/resolution_sweep.py --exported.
"""

import argparse
import sys
from pathlib import Path

from resformer_mm.apis import load_model
from resformer_mm.config.command_line import add_config_options
from resformer_mm.deployment import ExportError
from resformer_mm.deployment.calibration import SPLITS, CalibrationImages
from resformer_mm.deployment.quantization import FLOAT_PARTS, METHODS, quantize
from resformer_mm.deployment.selection import evaluable


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('file', type=Path, help='file of export_onnx.py')
    parser.add_argument('--out', type=Path, help='output file (default: FILE with suffix .int8.onnx)')
    parser.add_argument('--images', type=int, default=128, help='number of images (128)')
    parser.add_argument(
        '--resolutions', nargs='+', type=int, help="resolutions in pixels (those of the config's test_cfg)"
    )
    parser.add_argument('--split', choices=list(SPLITS), default='train', help='which images (train)')
    parser.add_argument(
        '--calibration', choices=METHODS, default='minmax', help='how ranges are chosen (minmax)'
    )
    parser.add_argument(
        '--float-parts',
        nargs='*',
        choices=list(FLOAT_PARTS),
        default=list(FLOAT_PARTS),
        metavar='PART',
        help=f'parts that stay in float32: {", ".join(FLOAT_PARTS)} (all of these)',
    )
    add_config_options(parser)
    return parser, parser.parse_args()


def main() -> int:
    """Quantise."""
    parser, args = parse_args()
    out = args.out or args.file.with_suffix('.int8.onnx')
    if args.images < 1:
        parser.error('--images must be at least 1')
    if out.resolve() in (Path(args.config).resolve(), args.file.resolve()):
        parser.error(f'--out {out} would replace the config or the float32 file: name another file')
    try:
        model = load_model(args.config, device='cpu', cfg_options=args.cfg_options)
        images = CalibrationImages.of_config(
            model.cfg, evaluable(model), args.resolutions, args.images, args.split
        )
        print(f'calibration: {len(images.indices)} images of {args.split} at {[*images.loaders]} pixels')
        agreements = quantize(args.file, out, images, args.calibration, args.float_parts)
    except ExportError as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f'{error.filename or out}: {error.strerror}' if error.strerror else str(error))
    except (ValueError, ImportError) as error:
        parser.error(str(error))
    print('resolution  same class  error of the outputs')
    for item in agreements:
        print(f'{item.resolution:10}  {100 * item.same_class:9.2f}%  {100 * item.error:19.2f}%')
    print(f'written: {out} ({_size(out)}; {args.file}: {_size(args.file)})')
    return 0


def _size(path: Path) -> str:
    return f'{path.stat().st_size / 2**20:.2f} MiB'


if __name__ == '__main__':
    sys.exit(main())
