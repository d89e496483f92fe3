"""Export a trained model by torch.export, for any batch, height and width, and compare it with PyTorch.

    python tools/deployment/export_program.py CONFIG CHECKPOINT --out model.pt2

The file runs in PyTorch without this package, on the device of --device:
torch.export.load('model.pt2').module()(image). The image is float32 (batch, 3, height, width), RGB, 0 to 255:
normalisation is part of the file. It is loaded again, run at twelve sizes, or those of --verify-sizes, and
only written if it agrees with the model.
"""

import argparse
import sys

from resformer_mm.deployment import ProgramFormat
from resformer_mm.deployment.command_line import export_parser, run_export


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = export_parser(__doc__, ProgramFormat.suffix)
    return parser, parser.parse_args()


def main() -> int:
    """Export."""
    parser, args = parse_args()
    return run_export(parser, args, ProgramFormat)


if __name__ == '__main__':
    sys.exit(main())
