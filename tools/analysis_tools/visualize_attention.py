"""Draw attention and feature similarity in an image, at several resolutions.

Each column is a resolution. The rows are the input image, the attention of the class token over the patches
(without a class token, the attention of the patch at the cross), and the similarity of the patch features to
those at the cross.
"""

import argparse
from pathlib import Path

from resformer_mm.analysis.attention_maps import image_maps
from resformer_mm.analysis.attention_pictures import plot_image_maps
from resformer_mm.analysis.figures import check_picture_path
from resformer_mm.apis import load_model
from resformer_mm.config.command_line import add_config_options
from resformer_mm.config.resolutions import check_resolutions


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('image', help='image file')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--resolutions', nargs='+', type=int, required=True, help='resolutions in pixels, e.g. 96 160 224 384'
    )
    parser.add_argument('--block', type=int, default=-1, help='block, counted from 0; -1 is the last (-1)')
    parser.add_argument('--head', default='mean', help="attention head, counted from 0, or 'mean' (mean)")
    parser.add_argument(
        '--point',
        nargs=2,
        type=float,
        default=[0.5, 0.5],
        metavar=('X', 'Y'),
        help='point of the similarity, from 0 0 (top left) to 1 1 (bottom right) of the image (0.5 0.5)',
    )
    parser.add_argument('--title', help='title of the figure')
    parser.add_argument('--out', required=True, help='image file to write: .png, .pdf or .svg')
    add_config_options(parser)
    args = parser.parse_args()
    if args.head != 'mean' and not args.head.isdigit():
        parser.error(f"--head {args.head}: give the index of a head, counted from 0, or 'mean'")
    args.parser = parser
    return args


def main() -> None:
    """Draw the figure."""
    args = parse_args()
    head = None if args.head == 'mean' else int(args.head)
    try:
        check_picture_path(args.out)
        check_resolutions(args.resolutions, '--resolutions', descending=False)
        model = load_model(args.config, args.checkpoint, cfg_options=args.cfg_options)
        columns = [
            image_maps(model, args.image, resolution, args.block, head, args.point)
            for resolution in args.resolutions
        ]
        attention_of = 'class token' if model.backbone.with_cls_token else 'token at the cross'
        heads = 'mean over heads' if head is None else f'head {head}'
        block = 'last block' if args.block == -1 else f'block {args.block}'
        title = f'{Path(args.config).stem}: {block}, {heads}' if args.title is None else args.title
        plot_image_maps(columns, args.out, attention_of, title)
    except (FileNotFoundError, ImportError, ValueError) as error:
        args.parser.error(str(error))
    print(f'picture: {args.out}')


if __name__ == '__main__':
    main()
