"""Report of a resolution sweep: metrics, operations, time and memory at every resolution.

Works for every config that tools/test.py takes. Writes sweep.json, sweep.csv, sweep.png, sweep.html and,
if the predictions have class scores, cascade.csv to the output folder. A second run, after an interruption
or with more models or resolutions, measures only what is missing.
"""

import argparse
from pathlib import Path

from resformer_mm.checkpoints import CheckpointError
from resformer_mm.config.command_line import (
    add_config_options,
    add_inference_dtype,
    add_resolutions_per_pass,
)
from resformer_mm.deployment.runtimes import RUNTIMES
from resformer_mm.sweep import Sweep, summarise
from resformer_mm.sweep.page import write_page
from resformer_mm.sweep.picture import draw_picture
from resformer_mm.sweep.tables import format_by_patches, format_rows, write_tables
from resformer_mm.sweep.tracker import SweepTracker
from resformer_mm.tracking import TrackerError


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--resolutions',
        nargs='+',
        type=int,
        help="test resolutions in pixels (those of the config's test_cfg)",
    )
    parser.add_argument(
        '--baseline',
        nargs=2,
        action='append',
        default=[],
        metavar=('CONFIG', 'CHECKPOINT'),
        help='a model to compare with; may be given several times',
    )
    parser.add_argument(
        '--exported',
        nargs='+',
        default=[],
        metavar='FILE',
        help='files exported from the checkpoint (.onnx, .pt2), which are measured like further models',
    )
    parser.add_argument(
        '--runtime', choices=list(RUNTIMES), help='runtime of the exported files (onnxruntime, torch)'
    )
    parser.add_argument(
        '--names', nargs='+', help='names of the models, then of the exported files (those of the files)'
    )
    patches = parser.add_mutually_exclusive_group()
    patches.add_argument(
        '--patch-sizes',
        nargs='+',
        type=int,
        default=[],
        metavar='PIXELS',
        help='patch sizes, a second axis: the model, not the baselines, is measured at each of them',
    )
    patches.add_argument(
        '--tokens',
        nargs='+',
        type=int,
        default=[],
        metavar='N',
        help='numbers of tokens, as a second axis: each image gets the patch size that comes nearest',
    )
    parser.add_argument('--out-dir', type=Path, help='folder of the results (work_dirs/sweep/CONFIG)')
    parser.add_argument('--metric', help='main metric (the first of the evaluator)')
    parser.add_argument(
        '--lower-is-better',
        nargs='+',
        default=[],
        metavar='METRIC',
        help="metrics that are better when lower, besides losses and errors: names, or patterns '*/rank'",
    )
    parser.add_argument('--batch-size', type=int, default=1, help='samples per timed call (1)')
    parser.add_argument('--rounds', type=int, default=5, help='timing rounds per point (5)')
    add_resolutions_per_pass(parser)
    add_inference_dtype(parser)
    parser.add_argument(
        '--track',
        action='store_true',
        help='log curves, picture and table to the trackers of the first config (visualizer.vis_backends)',
    )
    add_config_options(parser, 'every config')
    args = parser.parse_args()
    if args.runtime and not args.exported:
        parser.error('--runtime is for --exported')
    for name in ('batch_size', 'rounds'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1')
    if args.out_dir is None:
        args.out_dir = Path('work_dirs') / 'sweep' / Path(args.config).stem
    return parser, args


def main() -> None:
    """Measure and report."""
    parser, args = parse_args()
    tracker = None
    try:
        if args.track:
            tracker = SweepTracker(args.config, args.out_dir, args.cfg_options)
        record = Sweep(
            models=[(args.config, args.checkpoint), *map(tuple, args.baseline)],
            out_dir=args.out_dir,
            resolutions=args.resolutions,
            names=args.names,
            exported=args.exported,
            runtime=args.runtime,
            dtype=args.dtype,
            batch_size=args.batch_size,
            rounds=args.rounds,
            cfg_options=args.cfg_options,
            resolutions_per_pass=args.resolutions_per_pass,
            patch_sizes=args.patch_sizes,
            tokens=args.tokens,
        ).run()
        summary = summarise(record, args.out_dir, args.metric, args.lower_is_better)
    except (FileNotFoundError, CheckpointError, ImportError, ValueError) as error:
        parser.error(str(error))
    print(format_rows(summary))
    if summary.has_patches:
        print(f'\n{format_by_patches(summary)}')
    for note in summary.notes:
        print(f'note: {note}')
    files = write_tables(summary, args.out_dir)
    files += [args.out_dir / 'sweep.png', args.out_dir / 'sweep.html']
    draw_picture(summary, files[-2])
    write_page(summary, files[-1], f'Resolution sweep: {", ".join(model.name for model in record.models)}')
    print('\nWritten:', *files, sep='\n  ')
    if tracker is not None:
        try:
            tracker.log(summary, args.out_dir / 'sweep.png')
        except TrackerError as error:
            parser.error(str(error))


if __name__ == '__main__':
    main()
