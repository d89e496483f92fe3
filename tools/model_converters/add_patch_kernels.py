"""Add kernels for further patch sizes to the checkpoint of a trained model; all other weights are unchanged.

    python tools/model_converters/add_patch_kernels.py CONFIG CHECKPOINT OUT --kernels 4 6

The new kernels start as the resized kernel of the checkpoint, and are trained with all other weights frozen:
configs/classification/resformer-mini_mspe_mr-48-32-16_1xb64-5e_mini.py shows how.
"""

import argparse

from resformer_mm.checkpoints import CheckpointError
from resformer_mm.checkpoints.patch_kernels import add_patch_kernels


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config of the model, with or without the further kernels')
    parser.add_argument('checkpoint', help='checkpoint of the model')
    parser.add_argument('out', help='file to write')
    parser.add_argument(
        '--kernels',
        nargs='+',
        type=int,
        required=True,
        metavar='SIZE',
        help='sides of the kernels to add, in pixels',
    )
    return parser, parser.parse_args()


def main() -> None:
    """Write the file, and print the settings of its model."""
    parser, args = parse_args()
    try:
        patch_embed = add_patch_kernels(args.config, args.checkpoint, args.out, args.kernels)
    except (CheckpointError, OSError, ImportError, ValueError) as error:
        parser.error(str(error))
    print(f'written: {args.out}')
    print(f'in the config: model = dict(backbone=dict(patch_embed={patch_embed!r}))')


if __name__ == '__main__':
    main()
