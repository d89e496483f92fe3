"""Command line of the tools that check data sets."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from resformer_mm.config.command_line import add_config_options, add_strict
from resformer_mm.config.files import enter_scope, read_config
from resformer_mm.repairs import set_strict

from .report import CheckReport


def check_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser of ``DATA_ROOT`` or ``--config``, to which a task adds its options."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('data_root', nargs='?', type=Path, help='folder of the data set')
    parser.add_argument('--config', help='check the data sets of this config instead')
    parser.add_argument(
        '--max-lines',
        type=int,
        default=20,
        help='files to list per kind of finding (default: 20; 0: all); all are counted',
    )
    parser.add_argument('--workers', type=int, default=min(16, os.cpu_count() or 1), help='number of threads')
    add_strict(parser)
    add_config_options(parser)
    return parser


def parse_check_args(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line; end the process with status 2 if the common options are invalid."""
    args = parser.parse_args()
    if (args.data_root is None) == (args.config is None):
        parser.error('give either DATA_ROOT or --config CONFIG')
    if args.workers < 1 or args.max_lines < 0:
        parser.error('--workers must be at least 1, --max-lines at least 0')
    set_strict(args.strict)
    return args


def existing_root(data_root: Path) -> Path:
    """Return the folder of the data set.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not data_root.is_dir():
        raise FileNotFoundError(f'there is no folder {data_root}')
    return data_root


def config_to_check(args: argparse.Namespace, options_of_root: Sequence[str]) -> Config:
    """Return the config, and make its ``default_scope`` the scope in which names are looked up.

    Args:
        args: parsed command line.
        options_of_root: names in ``args`` that are only for ``DATA_ROOT``; None if not given.

    Raises:
        FileNotFoundError: there is no such config.
        ValueError: an option is only for ``DATA_ROOT``, or the file is not a config.
    """
    given = [name for name in options_of_root if getattr(args, name) is not None]
    if given:
        raise ValueError(f'--{given[0].replace("_", "-")} goes with DATA_ROOT: set it in the config instead')
    cfg = read_config(args.config, args.cfg_options)
    set_strict(args.strict or bool(cfg.get('strict_data', False)))
    enter_scope(cfg)
    return cfg


def print_report(report: CheckReport, max_lines: int | None = None, details: bool = False) -> None:
    """Print the report, and end the process with status 0 if the data set is sound, else 1.

    Args:
        report: the report to print.
        max_lines: files to list per kind of finding; 0 or None lists all.
        details: also print the counts per class and the sizes.
    """
    print(report.text(max_lines or None, details))
    sys.exit(not report.is_sound)
