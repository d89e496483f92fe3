"""Print a config merged with its base configs and overrides; the output is itself a config file."""

import argparse
import contextlib
import sys
from pathlib import Path

from mmengine.config import Config

from resformer_mm.compat.lazy_configs import finish_lazy_config
from resformer_mm.config.command_line import add_config_options

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
    if not Path(args.config).is_file():
        args.parser.error(f'there is no config {args.config}')
    try:
        with contextlib.redirect_stdout(sys.stderr):  # where MMEngine logs the environment variables it reads
            cfg = finish_lazy_config(Config.fromfile(args.config))
        if args.cfg_options is not None:
            cfg.merge_from_dict(args.cfg_options)
    except Exception as error:  # errors in the file or the overrides are usage errors
        args.parser.error(f'{args.config}: {type(error).__name__}: {error}')
    print(cfg.pretty_text)
    if args.save_path is not None:
        args.save_path.parent.mkdir(parents=True, exist_ok=True)
        cfg.dump(args.save_path)


if __name__ == '__main__':
    main()
