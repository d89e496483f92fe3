"""Test a model of any task, at the resolution of the config or at several in one process."""

import argparse
import sys

import mmengine
from mmengine.dist import is_main_process

from resformer_mm.apis import DataError, Drawing, build_test_loop, build_test_runner, make_test_config
from resformer_mm.checkpoints import CheckpointError
from resformer_mm.config.command_line import (
    add_config_options,
    add_inference_dtype,
    add_launcher,
    add_patches,
    add_resolutions_per_pass,
    add_strict,
    add_window_size,
    set_local_rank,
)
from resformer_mm.engine.dump import DumpPredictions
from resformer_mm.measured import for_json
from resformer_mm.processes import is_restarted, run_main
from resformer_mm.tracking import TrackerError


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--work-dir', help='folder of the log and the metrics (work_dirs/CONFIG)')
    parser.add_argument(
        '--resolutions',
        nargs='+',
        type=int,
        help='evaluate at each of these resolutions in pixels, e.g. 96 128 160 224 288 384',
    )
    add_resolutions_per_pass(parser)
    parser.add_argument(
        '--resume',
        action='store_true',
        help='take over the resolutions that an interrupted test in the work dir has finished',
    )
    parser.add_argument('--out', help='file for the results; one per resolution with --resolutions')
    parser.add_argument(
        '--out-item',
        choices=['pred', 'metrics'],
        default='pred',
        help='whether --out holds predictions (.pkl) or metrics (.json, .yaml, .pkl)',
    )
    parser.add_argument('--show-dir', help='folder for pictures of the predictions')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--interval', type=int, default=1, help='draw every n-th sample (1)')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds that a window is shown (2)')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    add_window_size(parser)
    add_patches(parser)
    add_inference_dtype(parser)
    add_strict(parser)
    add_config_options(parser)
    add_launcher(parser)
    args = parser.parse_args()
    set_local_rank(args.local_rank)
    if args.out and args.out_item == 'pred' and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out {args.out}: predictions are written to a .pkl or .pickle file')
    try:
        args.run_config = make_test_config(
            args.config,
            args.checkpoint,
            work_dir=args.work_dir,
            cfg_options=args.cfg_options,
            launcher=args.launcher,
            strict=args.strict,
            resolutions=args.resolutions,
            resolutions_per_pass=args.resolutions_per_pass,
            window_size=args.window_size,
            dtype=args.dtype,
            tta=args.tta,
            drawing=Drawing(args.show, args.show_dir, args.wait_time, args.interval),
            resume=args.resume or is_restarted(),
            patch_size=args.patch_size,
            tokens=args.tokens,
        )
    except (FileNotFoundError, ImportError, ValueError) as error:
        parser.error(str(error))
    return args


def main() -> None:
    """Test."""
    args = parse_args()
    try:
        runner = build_test_runner(args.run_config)
    except TrackerError as error:
        if args.launcher != 'none':
            raise  # the other processes are told
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
    try:
        build_test_loop(runner)
    except DataError as error:
        sys.exit(f'error: {error}')
    if args.out and args.out_item == 'pred':
        runner.test_evaluator.metrics.append(DumpPredictions(args.out))
    try:
        metrics = runner.test()
    except CheckpointError as error:
        sys.exit(f'error: {error}')
    if args.out and args.out_item == 'metrics' and is_main_process():
        is_json = args.out.endswith('.json')
        mmengine.dump(for_json(metrics) if is_json else metrics, args.out)


if __name__ == '__main__':
    run_main(main)
