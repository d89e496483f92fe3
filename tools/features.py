"""Features of a frozen backbone: are they good enough, or is fine-tuning worth it?

    python tools/features.py CONFIG CHECKPOINT --data data/photos
    python tools/features.py --weights vit.safetensors --data data/photos --resolutions 128 224
    python tools/features.py CONFIG CHECKPOINT --pictures 6        # the data sets of the config

Every image is seen once at every resolution. Its class token and the mean of its patches are classified by
nearest neighbours and by a linear probe, and accuracies are printed by resolution. The data is class folders
or lists of images, and split as tools/finetune.py does. Exit status: 1 if the data has faults, 2 after a
usage error.
"""

import argparse
import os
from pathlib import Path

import numpy as np

from resformer_mm.analysis.feature_pictures import plot_patch_colours
from resformer_mm.analysis.figures import new_figure
from resformer_mm.checkpoints import CheckpointError
from resformer_mm.config.command_line import add_config_options, add_inference_dtype
from resformer_mm.config.files import enter_scope, read_config
from resformer_mm.config.inference_dtype import FIELD
from resformer_mm.config.resolutions import check_resolutions
from resformer_mm.datasets.checks.task_check import CheckOptions
from resformer_mm.features import FrozenBackbone, LabelledImages, evaluate, extract, patch_map
from resformer_mm.features.backbone import MEAN, STD
from resformer_mm.features.data import VAL
from resformer_mm.features.neighbours import NUMBER, TEMPERATURE
from resformer_mm.features.scikit_learn import import_sklearn
from resformer_mm.features.storage import check_feature_path
from resformer_mm.finetuning import check_folder

RESOLUTIONS = [128, 160, 224]  # of the paper


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', nargs='?', help='config file of a model of any task')
    parser.add_argument('checkpoint', nargs='?', help='its checkpoint file')
    parser.add_argument(
        '--weights', help='instead of both: file, folder or hf-hub:owner/name of this project or another ViT'
    )
    parser.add_argument('--data', type=Path, help='folder of the data (the data sets of the config)')
    parser.add_argument(
        '--resolutions', nargs='+', type=int, help='in pixels (those of test_cfg, or 128 160 224)'
    )
    parser.add_argument('--block', type=int, default=-1, help='block, counted from 0; -1 is the last (-1)')
    parser.add_argument('--neighbours', type=int, default=NUMBER, help=f'neighbours that vote ({NUMBER})')
    parser.add_argument(
        '--temperature', type=float, default=TEMPERATURE, help=f'temperature of their votes ({TEMPERATURE})'
    )
    parser.add_argument(
        '--mean', nargs=3, type=float, help='with --weights: mean of red, green and blue (of ImageNet)'
    )
    parser.add_argument('--std', nargs=3, type=float, help='with --weights: their standard deviation')
    parser.add_argument('--batch-size', type=int, default=64, help='images of a forward pass (64)')
    parser.add_argument(
        '--workers', type=int, default=min(4, os.cpu_count() or 1), help='processes that read images'
    )
    parser.add_argument('--format', choices=['npz', 'parquet'], default='npz', help='of the features (npz)')
    parser.add_argument(
        '--pictures', type=int, default=0, metavar='N', help='draw the patches of N validation images (0)'
    )
    parser.add_argument('--foreground', action='store_true', help='leave the background out of --pictures')
    parser.add_argument('--out-dir', type=Path, help='folder of the results (work_dirs/features/NAME)')
    add_inference_dtype(parser)
    add_config_options(parser)
    args = parser.parse_args()
    check_args(parser, args)
    return parser, args


def check_args(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End the process if options contradict each other or are out of range."""
    if args.weights is None and args.checkpoint is None:
        parser.error('give CONFIG and CHECKPOINT, or --weights')
    if args.weights is not None:
        if args.config is not None:
            parser.error(f'--weights and {args.config}: give one of them')
        if args.data is None:
            parser.error('--weights needs --data, as there is no config with data sets')
        if args.cfg_options:
            parser.error('--cfg-options goes with a config')
    elif args.mean or args.std:
        parser.error('--mean and --std go with --weights; a config has its own')
    if args.std and min(args.std) <= 0:
        parser.error('--std must be positive')
    for name in ('neighbours', 'batch_size'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1')
    if args.temperature <= 0:
        parser.error('--temperature must be positive')
    if args.workers < 0 or args.pictures < 0:
        parser.error('--workers and --pictures must be at least 0')
    if args.foreground and not args.pictures:
        parser.error('--foreground goes with --pictures')
    name = args.data.resolve().name if args.data else Path(args.config).stem
    args.out_dir = args.out_dir or Path('work_dirs', 'features', name)


def find_images(parser: argparse.ArgumentParser, args: argparse.Namespace) -> LabelledImages:
    """Return the images; end the process if the data has faults."""
    if args.data is None:
        cfg = read_config(args.config, args.cfg_options)
        enter_scope(cfg)
        return LabelledImages.of_config(cfg)
    lists = args.out_dir / 'data'
    options = CheckOptions(workers=os.cpu_count() or 1, show_progress=True)
    _, sources, report = check_folder(args.data, lists, options, 'classification')
    print(report.text(10, details=True))
    if not report.is_sound:
        parser.exit(1, f'{args.data} has faults: correct them, or see tools/check_data.py --fix\n')
    return LabelledImages.of_folder(sources, lists)


def make_model(args: argparse.Namespace) -> tuple[FrozenBackbone, list[int]]:
    """Return the backbone and the resolutions."""
    if args.weights is not None:
        mean, std = args.mean or MEAN, args.std or STD
        model = FrozenBackbone.of_weights(args.weights, mean, std, dtype=args.dtype or 'float32')
        return model, args.resolutions or RESOLUTIONS
    cfg = read_config(args.config, args.cfg_options)
    if args.dtype is not None:
        cfg[FIELD] = args.dtype
    configured = (cfg.get('test_cfg') or {}).get('resolutions') or RESOLUTIONS
    return FrozenBackbone.of_config(cfg, args.checkpoint), args.resolutions or list(configured)


def draw(
    model: FrozenBackbone, images: LabelledImages, resolutions: list[int], args: argparse.Namespace
) -> None:
    """Draw validation images, evenly chosen, with their patches at every resolution."""
    places = [place for place, split in enumerate(images.splits) if split == VAL]
    chosen = np.linspace(0, len(places) - 1, min(args.pictures, len(places))).round().astype(int)
    paths = [images.paths[places[place]] for place in chosen]
    rows = [[patch_map(model, path, side, args.block) for side in resolutions] for path in paths]
    path = args.out_dir / 'patches.png'
    plot_patch_colours(rows, path, Path(model.name).stem, args.foreground)
    print(f'patches as colours: {path}')


def main() -> None:
    """Extract, evaluate, and write the results."""
    parser, args = parse_args()
    path = args.out_dir / f'features.{args.format}'
    try:
        # What is missing is said before the work.
        import_sklearn()
        check_feature_path(path)
        if args.pictures:
            new_figure(1, 1)
        if args.resolutions:
            check_resolutions(args.resolutions, '--resolutions', descending=False)
        model, resolutions = make_model(args)
        images = find_images(parser, args)
        for note in images.notes:
            print(f'- {note}')
        crop = 'resized to 8/7 of the resolution and cropped to a square' if model.is_cropped else ''
        print(f'- images are {crop or "prepared by the test pipeline of the config"}')
        features = extract(
            model, images, resolutions, args.block, args.batch_size, args.workers, show_progress=True
        )
        features.save(path)
        evaluation = evaluate(features, args.neighbours, args.temperature)
        print(f'\n{evaluation.text()}\n')
        written = [path, *evaluation.write(args.out_dir, features.settings)]
        print(f'written: {", ".join(map(str, written))}')
        if args.pictures:
            draw(model, images, resolutions, args)
    except (OSError, ImportError, ValueError, CheckpointError) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
