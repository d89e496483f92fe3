"""Compare what one image costs in the trainings of several configs, relative to the first one.

    python tools/analysis_tools/training_cost.py SINGLE_RESOLUTION MULTI_RESOLUTION ...

Prints, for an image and epoch: copies at each resolution, tokens of all copies, giga multiply-adds of their
forward passes, and both relative to the first config. The batch sampler of a config draws batches of every
epoch for this; no data is needed.
"""

import argparse
from pathlib import Path

from resformer_mm.analysis.training_cost import format_costs, training_cost
from resformer_mm.apis import load_model
from resformer_mm.config.command_line import add_config_options


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='configs of classifiers')
    add_config_options(parser, 'all configs')
    args = parser.parse_args()
    args.parser = parser
    return args


def main() -> None:
    """Compute and print."""
    args = parse_args()
    costs = {}
    for config in args.configs:
        try:
            model = load_model(config, device='cpu', cfg_options=args.cfg_options)
            costs[Path(config).stem] = training_cost(model)
        except (FileNotFoundError, ImportError, ValueError) as error:
            args.parser.error(str(error))
    print(format_costs(costs, next(iter(costs.values()))))


if __name__ == '__main__':
    main()
