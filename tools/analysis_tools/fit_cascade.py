"""Fit a cascade (low resolution first, higher ones if confidence is low) on the validation split.

Prints accuracy and cost of the cascade and of the single resolutions, and writes a config for
tools/demo.py --cascade and resformer_mm.apis.CascadeInferencer.
"""

import argparse
from pathlib import Path

from resformer_mm.cascade import (
    FittedCascade,
    Outcomes,
    fit_cascade,
    write_cascade_config,
)
from resformer_mm.checkpoints import CheckpointError
from resformer_mm.config.command_line import add_config_options
from resformer_mm.config.resolutions import check_resolutions
from resformer_mm.progress import ProgressDisplay
from resformer_mm.sweep.measure import ModelUnderTest
from resformer_mm.text import table


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--resolutions', nargs='+', type=int, required=True, help='resolutions to choose from'
    )
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument('--target-accuracy', type=float, help='accuracy in percent to reach at minimum cost')
    target.add_argument('--target-cost', type=float, help='mean cost per image at which to maximise accuracy')
    parser.add_argument(
        '--cost',
        choices=['gflops', 'latency_ms'],
        default='gflops',
        help='measure of the cost of an image (gflops)',
    )
    parser.add_argument(
        '--confidence',
        default='max_probability',
        help='max_probability, margin, negative_entropy or a registered measure of your own',
    )
    parser.add_argument(
        '--max-stages', type=int, default=3, help='maximum number of resolutions of the cascade (3)'
    )
    parser.add_argument('--out', type=Path, help='config file to write')
    parser.add_argument('--work-dir', default='work_dirs/fit_cascade', help="folder of MMEngine's log")
    add_config_options(parser)
    args = parser.parse_args()
    if args.out is not None and args.out.suffix != '.py':
        parser.error(f'--out {args.out}: the config file must end in .py')
    return parser, args


def measure(args: argparse.Namespace, resolutions: list[int]) -> Outcomes:
    """Evaluate the model at every resolution, on the validation split."""
    with ProgressDisplay() as display:
        task = display.add('evaluation, batches')
        model = ModelUnderTest(
            args.config,
            args.checkpoint,
            resolutions,
            Path(args.work_dir),
            cfg_options=args.cfg_options,
            split='val',
            confidence=args.confidence,
            after_batch=lambda: display.advance(task),
        )
        display.set_total(task, sum(map(model.num_evaluated_batches, resolutions)))
        return model.outcomes(sorted(resolutions), args.cost)


def report(fitted: FittedCascade, cost: str) -> str:
    """Return accuracy and cost of the cascade and of the single resolutions as text."""
    rule, seen, unseen = fitted.fit.rule, fitted.fit.operation, fitted.unseen
    operations = {**fitted.singles(), 'cascade': seen, 'cascade, on unseen halves': unseen}
    rows = [(name, f'{100 * one.accuracy:.2f}', f'{one.cost:.4g}') for name, one in operations.items()]
    lines = [table(['', 'accuracy (%)', cost], rows, markdown=False)]
    equal = [single.cost for single in fitted.singles().values() if single.accuracy >= unseen.accuracy]
    if equal:
        saved = 1 - unseen.cost / min(equal)
        lines.append(
            f'The cheapest single resolution that is as accurate as on unseen halves costs {min(equal):.4g}:'
        )
        lines.append(f'the cascade saves {100 * saved:.1f} %.' if saved > 0 else 'the cascade saves nothing.')
    else:
        lines.append('No single resolution is as accurate as the cascade is on unseen halves.')
    lines.append(f'\ncascade = {rule.as_config()}')
    for resolution, part in zip(rule.resolutions, seen.reached):
        lines.append(f'  {100 * part:5.1f} % of the images reach {resolution}')
    return '\n'.join(lines)


def main() -> None:
    """Fit, print and write."""
    parser, args = parse_args()
    try:
        resolutions = check_resolutions(args.resolutions, '--resolutions', descending=False)
        outcomes = measure(args, resolutions)
        accuracy = None if args.target_accuracy is None else args.target_accuracy / 100
        fitted = fit_cascade(outcomes, args.confidence, args.max_stages, accuracy, args.target_cost)
        print(report(fitted, args.cost))
        if args.out is not None:
            write_cascade_config(args.out, args.config, args.checkpoint, fitted, args.cost)
            print(f'\nWritten: {args.out}')
    except (OSError, CheckpointError, ImportError, ValueError) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
