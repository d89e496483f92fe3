"""Show samples of a config as the model receives them, with the copies at all resolutions side by side.

    python tools/analysis_tools/browse_dataset.py CONFIG --output-dir pictures --show-number 8

Pipeline, collation and data preprocessor run as in training, including mixup and CutMix; only the
normalisation is undone. If a config evaluates at several resolutions, --phase val or test shows those. For
segmentation and detection, the training images are drawn with their annotations, by the config's visualizer.
"""

import argparse
import os
import sys
from contextlib import closing
from pathlib import Path

from mmengine.visualization import Visualizer
from PIL import Image

from resformer_mm.analysis.browsing import PHASES, SampleBrowser
from resformer_mm.analysis.sample_pictures import sample_drawer
from resformer_mm.apis import load_model
from resformer_mm.config.command_line import add_config_options
from resformer_mm.control_characters import printable_name
from resformer_mm.progress import track


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('--output-dir', '-o', type=Path, help='folder for the images, one per sample')
    parser.add_argument(
        '--not-show', action='store_true', help='do not open windows (without a display, none are opened)'
    )
    parser.add_argument('--phase', '-p', choices=PHASES, default='train', help='which data loader (train)')
    parser.add_argument('--show-number', '-n', type=int, default=10, help='how many samples (10)')
    parser.add_argument('--show-interval', '-i', type=float, default=2, help='seconds a window is shown (2)')
    parser.add_argument('--seed', type=int, default=0, help='seed of order, transforms and mixing (0)')
    add_config_options(parser)
    args = parser.parse_args()
    args.show = not args.not_show and _has_display()
    if not args.show and args.output_dir is None:
        parser.error('with --not-show or without a display, give a folder with --output-dir')
    args.parser = parser
    return args


def _has_display() -> bool:
    return sys.platform in ('win32', 'darwin') or bool({'DISPLAY', 'WAYLAND_DISPLAY'} & set(os.environ))


def main() -> None:
    """Draw the samples."""
    args = parse_args()
    try:
        model = load_model(args.config, device='cpu', cfg_options=args.cfg_options)
        browser = SampleBrowser(model, args.phase, args.show_number, args.seed)
        draw = sample_drawer(browser)
        with closing(track(browser, 'samples', args.show_number)) as tracked:
            for index, sample in enumerate(tracked):
                picture = draw(sample)
                if args.output_dir is not None:
                    path = args.output_dir / f'{index:03d}_{sample.name}.png'
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(picture).save(path)
                    print(printable_name(path))
                if args.show:
                    Visualizer().show(picture, win_name=sample.name, wait_time=args.show_interval)
    except (FileNotFoundError, ImportError, ValueError) as error:
        args.parser.error(str(error))


if __name__ == '__main__':
    main()
