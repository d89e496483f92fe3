"""Prepare a checkpoint for publication: keep weights and data set, drop optimizer states, logs and paths.

    python tools/model_converters/publish_model.py work_dirs/NAME/epoch_300.pth NAME.pth

Writes NAME-<first 8 digits of the file's SHA-256>.pth, which torch.load(..., weights_only=True) reads, and
reports what was kept and dropped. The same checkpoint always gives the same file.
"""

import argparse

from resformer_mm.checkpoints import CheckpointError
from resformer_mm.checkpoints.publishing import DEFAULT_KEYS, publish_checkpoint


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('in_file', help='checkpoint of a training run')
    parser.add_argument('out_file', help='file to write; the hash is added to its name')
    parser.add_argument(
        '--save-keys',
        nargs='+',
        default=DEFAULT_KEYS,
        help=f'entries of the checkpoint to keep ({" ".join(DEFAULT_KEYS)})',
    )
    args = parser.parse_args()
    args.parser = parser
    return args


def main() -> None:
    """Publish the checkpoint."""
    args = parse_args()
    try:
        print(publish_checkpoint(args.in_file, args.out_file, args.save_keys))
    except (CheckpointError, OSError) as error:
        args.parser.error(str(error))


if __name__ == '__main__':
    main()
