"""Count the multiply-adds and parameters of a config's model for one image, at one or several resolutions.

    python tools/analysis_tools/get_flops.py CONFIG --resolutions 96 128 160 224
    python tools/analysis_tools/get_flops.py CONFIG --shape 512 683

Prints parameters, giga multiply-adds (the convention of papers and of MMEngine) and the share of each part.
Operators that are not counted are named below the table. Works for configs of all libraries. The count is for
one forward pass, over the whole image for segmentors and detectors, over one clip for recognizers.
"""

import argparse
import sys
from contextlib import closing

from mmengine.analysis.print_helper import complexity_stats_str, complexity_stats_table
from torch import nn

from resformer_mm.analysis.complexity import analyze_flops
from resformer_mm.analysis.resolution_complexity import (
    blank_batch,
    complexity_at,
    format_complexities,
    write_complexities,
)
from resformer_mm.apis import load_model
from resformer_mm.config.command_line import add_config_options
from resformer_mm.progress import track


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument('--shape', nargs='+', type=int, help='side of a square image, or height and width')
    sizes.add_argument(
        '--resolutions',
        nargs='+',
        type=int,
        help="sides of square images (those of the config's test_cfg, else 224)",
    )
    parser.add_argument('--out', help='CSV file for the table, with integers')
    parser.add_argument('--show-table', action='store_true', help="print MMEngine's table of modules as well")
    parser.add_argument('--show-arch', action='store_true', help='print the architecture with counts as well')
    add_config_options(parser)
    args = parser.parse_args()
    if args.shape and len(args.shape) > 2:
        parser.error(f'--shape {" ".join(map(str, args.shape))}: give one side, or height and width')
    args.parser = parser
    return args


def _sizes(args: argparse.Namespace, model: nn.Module) -> list[tuple[int, int]]:
    if args.shape:
        return [(args.shape[0], args.shape[-1])]
    resolutions = args.resolutions or (model.cfg.get('test_cfg') or {}).get('resolutions') or [224]
    return [(resolution, resolution) for resolution in resolutions]


def _show_modules(model: nn.Module, size: tuple[int, int], table: bool, arch: bool) -> None:
    print(f'{size[0]} x {size[1]} pixels')
    analyzer = analyze_flops(model, *blank_batch(model, size).values())
    if arch:
        print(complexity_stats_str(analyzer))
    if table:
        print(complexity_stats_table(analyzer))


def main() -> None:
    """Count and print."""
    args = parse_args()
    try:
        model = load_model(args.config, device='cpu', cfg_options=args.cfg_options)
        with closing(track(_sizes(args, model), 'sizes')) as sizes:
            complexities = {size: complexity_at(model, size) for size in sizes}
    except (FileNotFoundError, ImportError, ValueError) as error:
        args.parser.error(str(error))
    if args.show_arch or args.show_table:
        for size in complexities:
            _show_modules(model, size, args.show_table, args.show_arch)
    print(format_complexities(complexities))
    print('GFLOPs: giga multiply-adds of one forward pass in evaluation mode; parameters: of the whole model')
    uncounted = {}
    for complexity in complexities.values():
        uncounted.update(complexity.uncounted)
    for operator, times in uncounted.items():
        print(f'not counted: {operator}, called {times} times', file=sys.stderr)
    if args.out:
        write_complexities(complexities, args.out)


if __name__ == '__main__':
    main()
