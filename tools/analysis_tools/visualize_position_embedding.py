"""Draw the position embedding that a model adds to its tokens, as heat maps at several resolutions.

Each row is a model, each column a resolution. By default the colour of a token is the mean of its embedding
over the channels, as in Figure 6 of the paper, which compares an interpolated table with GPE. It can also be
one channel, or the similarity to one token.
"""

import argparse
from functools import partial
from pathlib import Path

import torch

from resformer_mm.analysis.figures import check_picture_path
from resformer_mm.analysis.position_maps import (
    PositionMaps,
    channel_map,
    mean_map,
    plot_position_maps,
    position_embedding,
    similarity_map,
)
from resformer_mm.apis import load_model
from resformer_mm.text import parse_size


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file (untrained weights)')
    parser.add_argument(
        '--baseline',
        nargs='+',
        action='append',
        default=[],
        metavar=('CONFIG', 'CHECKPOINT'),
        help='another model, in a row below; may be given several times',
    )
    parser.add_argument(
        '--resolutions',
        nargs='+',
        required=True,
        help='resolutions in pixels, e.g. 128 160 224 384; 224x320 is height x width',
    )
    parser.add_argument('--names', nargs='+', help='names of the models (those of the configs)')
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--channel', type=int, help='draw this channel instead of the mean over all')
    what.add_argument(
        '--similarity-to',
        nargs=2,
        type=float,
        metavar=('X', 'Y'),
        help='draw the cosine similarity to the token at this point, 0.5 0.5 being the centre',
    )
    parser.add_argument('--title', default='', help='title of the figure')
    parser.add_argument('--out', required=True, help='image file to write: .png, .pdf or .svg')
    args = parser.parse_args()
    args.models = [[args.config, args.checkpoint], *args.baseline]
    for words in args.baseline:
        if len(words) > 2:
            parser.error(f'--baseline takes CONFIG [CHECKPOINT], got {" ".join(words)}')
    if args.names and len(args.names) != len(args.models):
        parser.error(f'--names has {len(args.names)} names for {len(args.models)} models')
    args.parser = parser
    return args


def make_row(args: argparse.Namespace, index: int) -> PositionMaps:
    """Return the maps of one model."""
    config, checkpoint = (*args.models[index], None)[:2]
    torch.manual_seed(0)  # untrained weights: the same picture each time
    model = load_model(config, checkpoint, device='cpu')
    reduce = mean_map
    if args.channel is not None:
        reduce = partial(channel_map, channel=args.channel)
    if args.similarity_to is not None:
        reduce = partial(similarity_map, point=args.similarity_to)
    sizes = [parse_size(text) for text in args.resolutions]
    name = args.names[index] if args.names else Path(config).stem
    try:
        maps = {size: reduce(position_embedding(model, size)) for size in sizes}
    except ValueError as error:
        raise ValueError(f'{config}: {error}') from error
    return PositionMaps(name if checkpoint else f'{name} (untrained)', maps)


def main() -> None:
    """Draw the figure."""
    args = parse_args()
    label = 'mean over channels'
    if args.channel is not None:
        label = f'channel {args.channel}'
    if args.similarity_to is not None:
        label = 'cosine similarity to the token at +'
    try:
        check_picture_path(args.out)
        rows = [make_row(args, index) for index in range(len(args.models))]
        plot_position_maps(rows, args.out, label, args.title, args.similarity_to)
    except (FileNotFoundError, ImportError, ValueError) as error:
        args.parser.error(str(error))
    print(f'picture: {args.out}')


if __name__ == '__main__':
    main()
