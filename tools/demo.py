"""Predict on an image, a folder of images or a video with a model of any task, at any resolution."""

import argparse
import sys

from resformer_mm.apis.cascade_inferencer import CascadeInferencer
from resformer_mm.apis.inferencer import make_inferencer
from resformer_mm.apis.reporting import (
    describe_predictions,
    format_cascade,
    format_results,
    format_summary,
    predict_at_resolutions,
)
from resformer_mm.config.command_line import add_config_options, add_inference_dtype


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('input', help='image, folder of images, or video')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--resolution',
        nargs='+',
        type=int,
        help='resolution in pixels (that of the config); several are compared in a table',
    )
    parser.add_argument(
        '--cascade',
        action='store_true',
        help='use the `cascade` of the config: low resolutions first (classifiers)',
    )
    parser.add_argument(
        '--slice',
        type=int,
        help='predict large images in slices of this side, in pixels of the image (segmentation, detection)',
    )
    parser.add_argument('--overlap', type=float, help='part of a slice that the next one shows, too (0.2)')
    parser.add_argument('--out-dir', help='folder for predictions.json and the drawings')
    parser.add_argument('--device', help='device such as cpu or cuda:0 (a GPU if there is one)')
    add_inference_dtype(parser)
    parser.add_argument('--batch-size', type=int, default=1, help='images per forward pass (1)')
    parser.add_argument('--topk', type=int, help='number of classes to list (5), for classifiers')
    parser.add_argument('--score-thr', type=float, help='minimum score to list and draw (0.3), for detectors')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds a window is shown')
    add_config_options(parser)
    args = parser.parse_args()
    args.error = parser.error
    if args.cascade and args.resolution:
        parser.error('--cascade chooses the resolution of each image itself: leave out --resolution')
    if args.overlap is not None and args.slice is None:
        parser.error('--overlap is that of slices: give their side with --slice')
    return args


def main() -> int:
    """Predict, and print the predictions."""
    args = parse_args()
    try:
        make = CascadeInferencer if args.cascade else make_inferencer
        inferencer = make(args.config, args.checkpoint, args.device, args.cfg_options, True, args.dtype)
        options = {'topk': args.topk, 'score_thr': args.score_thr}
        options = {name: value for name, value in options.items() if value is not None}
        foreign = set(options) - inferencer.forward_kwargs - inferencer.postprocess_kwargs
        if foreign:
            option = foreign.pop().replace('_', '-')
            args.error(f'--{option} does not apply to the model of {args.config}')
        slices = {'slice': args.slice, 'overlap': args.overlap}
        options.update({name: value for name, value in slices.items() if value is not None})
        options.update(batch_size=args.batch_size, show=args.show, wait_time=args.wait_time)
        if args.cascade:
            results = {0: describe_predictions(inferencer, args.input, out_dir=args.out_dir, **options)}
        else:
            resolutions = args.resolution or [None]
            results = predict_at_resolutions(inferencer, args.input, resolutions, args.out_dir, **options)
    except (ImportError, OSError, ValueError) as error:
        args.error(str(error))
    print(format_results(results))
    result = next(iter(results.values()))
    print(format_summary(result))
    if args.cascade:
        print(format_cascade(inferencer.costs(entry.resolution for entry in result['predictions'])))
    if not result['predictions']:
        print('error: nothing could be predicted', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
