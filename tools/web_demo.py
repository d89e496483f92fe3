"""Serve a local web page that predicts on an image, with a slider for the resolution."""

import argparse
from pathlib import Path

from resformer_mm.apis.inferencer import make_inferencer
from resformer_mm.config.command_line import add_config_options, add_inference_dtype
from resformer_mm.web import WebPredictor, serve


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--host', default='127.0.0.1', help='address to listen on (127.0.0.1: this machine only)'
    )
    parser.add_argument('--port', type=int, default=8080, help='port to listen on (8080)')
    parser.add_argument(
        '--resolutions',
        nargs='+',
        type=int,
        metavar=('MIN', 'MAX'),
        help='MIN MAX [STEP] of the slider in pixels (one patch, 4 x that of the config, one patch)',
    )
    parser.add_argument('--device', help='device such as cpu or cuda:0 (a GPU if there is one)')
    add_inference_dtype(parser)
    add_config_options(parser)
    args = parser.parse_args()
    args.error = parser.error
    return args


def main() -> None:
    """Serve the page."""
    args = parse_args()
    try:
        inferencer = make_inferencer(
            args.config, args.checkpoint, args.device, args.cfg_options, dtype=args.dtype
        )
        predictor = WebPredictor(inferencer, args.resolutions)
        title = f'{Path(args.config).stem}, {Path(args.checkpoint).name}'
        serve(predictor, args.host, args.port, title)
    except (ImportError, OSError, ValueError) as error:
        args.error(str(error))


if __name__ == '__main__':
    main()
