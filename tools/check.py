"""Check a training run before it starts: data, classes, metrics, schedule, loaders, work dir and disk space.

    python tools/check.py CONFIG [--work-dir DIR] [--cfg-options KEY=VALUE ...]

Nothing is trained or written. The exit status is 0 if the run is sound, 1 if it has a fault, 2 for a usage
error. tools/train.py does the same before it trains.
"""

import argparse
import sys

from resformer_mm.apis import check_config, make_train_config
from resformer_mm.config.command_line import add_config_options, add_training


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_training(parser)
    parser.add_argument(
        '--max-lines', type=int, default=20, help='lines per kind of finding (default: 20; 0: all)'
    )
    add_config_options(parser)
    args = parser.parse_args()
    if args.max_lines < 0:
        parser.error('--max-lines must be at least 0')
    try:
        args.run_config = make_train_config(
            args.config,
            work_dir=args.work_dir,
            cfg_options=args.cfg_options,
            strict=args.strict,
            resume=args.resume,
            validate=not args.no_validate,
        )
    except (FileNotFoundError, ImportError, ValueError) as error:
        parser.error(str(error))
    return args


def main() -> None:
    """Check."""
    args = parse_args()
    report = check_config(args.run_config)
    print(report.text(args.max_lines or None))
    sys.exit(not report.is_sound)


if __name__ == '__main__':
    main()
