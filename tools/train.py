"""Train a model of any task; the config's ``default_scope`` selects the library."""

import argparse
import logging
import sys

from mmengine.logging import print_log

from resformer_mm.apis import build_train_runner, exit_if_unsound, make_train_config
from resformer_mm.config.command_line import add_config_options, add_launcher, add_training, set_local_rank
from resformer_mm.processes import run_main
from resformer_mm.strategies import check_launched
from resformer_mm.tracking import TrackerError


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_training(parser)
    parser.add_argument('--amp', action='store_true', help='train in mixed precision (bf16 on a CPU)')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the actual batch size over auto_scale_lr.base_batch_size',
    )
    parser.add_argument(
        '--require-resume', action='store_true', help='stop if there is no checkpoint to resume from'
    )
    parser.add_argument('--no-check', action='store_true', help='start without the check of tools/check.py')
    add_config_options(parser)
    add_launcher(parser)
    args = parser.parse_args()
    set_local_rank(args.local_rank)
    try:
        args.run_config = make_train_config(
            args.config,
            work_dir=args.work_dir,
            cfg_options=args.cfg_options,
            launcher=args.launcher,
            strict=args.strict,
            resume=args.resume or ('auto' if args.require_resume else None),
            require_resume=args.require_resume,
            validate=not args.no_validate,
            amp=args.amp,
            auto_scale_lr=args.auto_scale_lr,
        )
        check_launched(args.run_config)
    except (FileNotFoundError, ImportError, ValueError) as error:
        parser.error(str(error))
    return args


def main() -> None:
    """Check, and train."""
    args = parse_args()
    notes = '' if args.no_check else exit_if_unsound(args.run_config)
    try:
        runner = build_train_runner(args.run_config)
    except TrackerError as error:
        if args.launcher != 'none':
            raise  # the other processes are told
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
    if notes:
        print_log(f'check before training:\n{notes}', logger='current', level=logging.WARNING)
    runner.train()


if __name__ == '__main__':
    run_main(main)
