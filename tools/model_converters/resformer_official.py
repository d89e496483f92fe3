"""Convert published ResFormer checkpoints to this project's classifier checkpoints, and back.

    python tools/model_converters/resformer_official.py SRC DST
    python tools/model_converters/resformer_official.py SRC DST --reverse

A DeiT or ViT of timm, mmpretrain, mmseg, Hugging Face or torchvision is recognised and initialises a
ResFormer: its position table is dropped, and GPE and LPE start from their own initialisation.
``--position learned`` keeps the table, for a backbone with
``global_position=dict(type='LearnedPositionEmbedding')`` and ``local_position=None``.

The weights are taken from the entry 'state_dict' (MMEngine's; after training with an EMAHook these
are the averaged weights), else 'model' (published), else the file is the state dict; ``--key``
names another entry, such as 'model_ema'. Optimizer states and the like are ignored. The report
lists what was matched, missing and unexpected against the model that the shapes imply. Anything
missing or unexpected without a reason ends with exit code 1 and nothing written, unless allowed.
"""

from __future__ import annotations

import argparse
import sys

from resformer_mm.checkpoints import CheckpointError, convert_file
from resformer_mm.checkpoints.conversion import POSITIONS, write_checkpoint


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', help='checkpoint to read')
    parser.add_argument('dst', help='checkpoint to write; its folder is created')
    parser.add_argument(
        '--reverse', action='store_true', help="convert from this project's names to the published ones"
    )
    parser.add_argument('--key', help="entry of SRC that holds the weights, e.g. 'model_ema'")
    parser.add_argument(
        '--position',
        choices=POSITIONS,
        help="use of a DeiT's position table: dropped in favour of GPE and LPE (default), or kept",
    )
    parser.add_argument(
        '--num-heads',
        type=int,
        help='attention heads, if they do not follow from a shape; default: one per 64 channels',
    )
    parser.add_argument('--allow-missing', action='store_true', help='write an incomplete checkpoint')
    parser.add_argument('--allow-unexpected', action='store_true', help='drop unexpected entries')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        conversion, content = convert_file(
            args.src, args.dst, args.reverse, args.key, args.position, args.num_heads
        )
        print(conversion.report)
        print(f'backbone={conversion.architecture.backbone_config()}')
        print(f'num_classes={conversion.architecture.num_classes}')
        sys.stdout.flush()
        conversion.report.check(args.allow_missing, args.allow_unexpected)
        write_checkpoint(content, args.dst)
    except CheckpointError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(f'written: {args.dst}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
