"""Print a config merged with its base configs and overrides; the output is itself a config file."""

import argparse
import contextlib
import sys
from pathlib import Path

from resformer_mm.config.command_line import add_config_options
from resformer_mm.config.files import read_any_config

SUFFIXES = ('.py', '.json', '.yml', '.yaml')


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--save-path', type=Path, help=f'write it to this file as well: {", ".join(SUFFIXES)}'
    )
    add_config_options(parser)
    args = parser.parse_args()
    if args.save_path is not None and args.save_path.suffix not in SUFFIXES:
        parser.error(f'--save-path {args.save_path}: the suffix must be one of {", ".join(SUFFIXES)}')
    args.parser = parser
    return args


def main() -> None:
    """Print the config."""
    args = parse_args()
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what is told is not a part of the config
            cfg = read_any_config(args.config, args.cfg_options)
    except (FileNotFoundError, ValueError) as error:
        args.parser.error(str(error))
    print(cfg.pretty_text)
    if args.save_path is not None:
        args.save_path.parent.mkdir(parents=True, exist_ok=True)
        cfg.dump(args.save_path)


if __name__ == '__main__':
    main()
