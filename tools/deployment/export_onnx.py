"""Export a trained model to ONNX, for any batch, height and width, and compare it with PyTorch.

    python tools/deployment/export_onnx.py CONFIG CHECKPOINT --out model.onnx

The input 'image' is float32 (batch, 3, height, width), RGB, 0 to 255; normalisation is part of the file. The
result is run in onnxruntime or OpenVINO (--runtime) at twelve sizes, or those of --verify-sizes, and only
written if it agrees with PyTorch.
"""

import argparse
import sys

from resformer_mm.deployment import OnnxFormat
from resformer_mm.deployment.command_line import export_parser, run_export


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = export_parser(__doc__, OnnxFormat.suffix)
    parser.add_argument('--opset', type=int, default=20, help='version of the operator set, 18 to 25 (20)')
    parser.add_argument('--output-names', nargs='+', metavar='NAME', help='names of the outputs (logits)')
    parser.add_argument(
        '--runtime',
        choices=('onnxruntime', 'openvino'),
        default='onnxruntime',
        help='runtime of the comparison (onnxruntime)',
    )
    return parser, parser.parse_args()


def main() -> int:
    """Export."""
    parser, args = parse_args()
    return run_export(parser, args, lambda: OnnxFormat(args.opset, args.output_names, args.runtime))


if __name__ == '__main__':
    sys.exit(main())
