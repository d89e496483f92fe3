"""Command line options that several tools share."""

from __future__ import annotations

import argparse
import os

from .inference_dtype import DTYPES, FIELD, mixed_precision_dtype
from .option_values import ConfigOptionsAction


def add_config_options(parser: argparse.ArgumentParser, config: str = 'the config') -> None:
    """Add ``--cfg-options``, which overrides settings of a config.

    Args:
        parser: parser to which the option is added.
        config: name of the config in the help text.
    """
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptionsAction,
        help=f'override settings of {config}: key.subkey=value ...; lists as key="[a,b]" or key=a,b, '
        'dicts as key="dict(type=\'Name\', size=3)"',
    )


def add_inference_dtype(parser: argparse.ArgumentParser) -> None:
    """Add ``--dtype``, the type in which a model predicts, and ``--amp``, short for one of its values."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        '--dtype',
        choices=list(DTYPES),
        help=f'type in which the model predicts (`{FIELD}` of the config, float32); 16 bits only where the '
        'processor has instructions for them',
    )
    group.add_argument(
        '--amp',
        dest='dtype',
        action='store_const',
        const=mixed_precision_dtype(),
        help='mixed precision: --dtype float16 on a GPU, --dtype bfloat16 on a CPU',
    )


def add_strict(parser: argparse.ArgumentParser) -> None:
    """Add ``--strict``, which turns repairs of data into errors."""
    parser.add_argument(
        '--strict',
        action='store_true',
        help='refuse data that would be repaired on reading, as `strict_data = True` in a config does',
    )


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Add ``--launcher`` and ``--local_rank``, for runs with several processes."""
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher'
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def add_resolutions_per_pass(parser: argparse.ArgumentParser) -> None:
    """Add ``--resolutions-per-pass``, for evaluation at several resolutions."""
    parser.add_argument(
        '--resolutions-per-pass',
        type=_positive,
        metavar='N',
        help='evaluate N resolutions in one pass over the data, which decodes every image once (all)',
    )


def add_window_size(parser: argparse.ArgumentParser) -> None:
    """Add ``--window-size``, for models whose backbone attends inside windows."""
    parser.add_argument(
        '--window-size',
        type=_positive,
        metavar='N',
        help='side in tokens of the windows of the backbone (`model.backbone.window_size` of the config)',
    )


def add_patches(parser: argparse.ArgumentParser) -> None:
    """Add ``--patch-size`` and ``--tokens``, of which one sets the size of the patches."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        '--patch-size',
        type=_positive,
        metavar='PIXELS',
        help='side of a patch, for which the kernel of the patch embedding is resized (that of the backbone)',
    )
    group.add_argument(
        '--tokens',
        type=_positive,
        metavar='N',
        help='number of tokens: each image gets the patch size that comes nearest to it',
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{value} must be at least 1')
    return value


def set_local_rank(local_rank: int) -> None:
    """Set ``LOCAL_RANK`` for MMEngine, unless the launcher did."""
    os.environ.setdefault('LOCAL_RANK', str(local_rank))


def add_training(parser: argparse.ArgumentParser) -> None:
    """Add what says which training a command is about: config, work dir, resuming, validation, strictness."""
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder of logs and checkpoints (work_dirs/CONFIG)')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='resume from this checkpoint; without a value from the latest one of the work dir',
    )
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate while training')
    add_strict(parser)
