"""Checkpoints of trainings with adapters (model.backbone.lora): merge, separate and join them.

    python tools/model_converters/lora_weights.py merge TRAINED.pth OUT.pth
    python tools/model_converters/lora_weights.py separate TRAINED.pth BASE.pth OUT.pth
    python tools/model_converters/lora_weights.py join ADAPTERS.pth BASE.pth OUT.pth

`merge` adds the adapters to the weights: the file is that of the same model without `lora`. `separate` writes
only what the training changed: adapters, head, and `modules_to_save`. `join` undoes it, and refuses another
base than that of the training.
"""

import argparse

from resformer_mm.checkpoints import CheckpointError
from resformer_mm.checkpoints.adapters import join_file, merge_file, separate_file


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest='action', required=True)
    for name, source in (('merge', 'trained'), ('separate', 'trained'), ('join', 'adapters')):
        action = actions.add_parser(name)
        action.add_argument('source', metavar=source.upper(), help='checkpoint with adapters')
        if name != 'merge':
            action.add_argument('base', metavar='BASE', help='weights that the training started from')
        action.add_argument('target', metavar='OUT', help='file to write')
    return parser, parser.parse_args()


def main() -> None:
    """Convert the file."""
    parser, args = parse_args()
    try:
        if args.action == 'merge':
            print(f'{merge_file(args.source, args.target)} adapters added to the weights')
        elif args.action == 'separate':
            kept, shared = separate_file(args.source, args.base, args.target)
            print(f'{kept} tensors kept, {shared} are those of {args.base}')
        else:
            join_file(args.source, args.base, args.target)
        print(f'written: {args.target}')
    except (CheckpointError, OSError) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
