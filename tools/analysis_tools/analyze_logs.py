"""Draw training curves, or compute the time per iteration, from the logs of MMEngine."""

import argparse

from resformer_mm.analysis.figures import check_picture_path
from resformer_mm.analysis.training_curves import plot_training_curves
from resformer_mm.analysis.training_logs import TrainingLog, train_time


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    tasks = parser.add_subparsers(dest='task', required=True)
    plot = tasks.add_parser('plot_curve', help='draw losses, learning rates and validation metrics')
    time = tasks.add_parser('cal_train_time', help='compute the time per training iteration')
    for task in (plot, time):
        task.add_argument(
            'json_logs',
            nargs='+',
            help='work dirs (resumed runs are joined), or files vis_data/scalars.json',
        )
        task.set_defaults(parser=task)
    plot.add_argument(
        '--keys',
        nargs='+',
        default=['loss'],
        help="keys of the log, or patterns of them: 'loss_*' '*/accuracy/top1' (loss)",
    )
    plot.add_argument('--out', required=True, help='image file to write: .png, .pdf or .svg')
    plot.add_argument('--legend', nargs='+', help='name of each curve: all keys of the first log, then ...')
    plot.add_argument('--title', default='', help='title of the figure')
    plot.add_argument(
        '--smooth',
        type=int,
        default=1,
        help='number of logged values over which to average training curves (1)',
    )
    plot.add_argument('--x-axis', choices=['iter', 'epoch'], default='iter', help='what the x axis counts')
    time.add_argument(
        '--include-outliers',
        action='store_true',
        help='include the first line of every epoch, when the data loaders start',
    )
    return parser.parse_args()


def plot_curve(args: argparse.Namespace) -> None:
    """Draw the curves."""
    check_picture_path(args.out)
    logs = [TrainingLog(path) for path in args.json_logs]
    by_epoch = args.x_axis == 'epoch'
    notes = plot_training_curves(logs, args.keys, args.out, args.legend, args.title, args.smooth, by_epoch)
    print('\n'.join([*notes, f'picture: {args.out}']))


def cal_train_time(args: argparse.Namespace) -> None:
    """Print the times."""
    for path in args.json_logs:
        log = TrainingLog(path)
        print(f'{log.name}, {len(log.files)} run{"s" * (len(log.files) > 1)}')
        print(f'{train_time(log, args.include_outliers)}\n')


def main() -> None:
    """Analyse the logs."""
    args = parse_args()
    try:
        (plot_curve if args.task == 'plot_curve' else cal_train_time)(args)
    except (FileNotFoundError, ValueError) as error:
        args.parser.error(str(error))


if __name__ == '__main__':
    main()
