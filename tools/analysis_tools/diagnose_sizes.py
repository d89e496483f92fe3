"""Diagnosis of an image classifier at several sizes: why it loses accuracy away from those of its training.

Splits each loss into its causes (detail, size of the objects, number of tokens, positions), and measures the
calibration, the entropy of the attention by block and head, and the similarity of the features between sizes.
Prints tables, and writes CSV files and pictures.
"""

import argparse
from pathlib import Path

from resformer_mm.analysis.size_diagnosis import PARTS, Diagnosis, Scope, Subject, diagnose
from resformer_mm.analysis.size_diagnosis_pictures import draw_diagnoses
from resformer_mm.analysis.size_diagnosis_tables import format_tables, write_tables
from resformer_mm.checkpoints import CheckpointError
from resformer_mm.config.command_line import add_config_options


def parse_args() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file of an image classifier')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--resolutions', nargs='+', type=int, required=True, help='test resolutions in pixels'
    )
    parser.add_argument(
        '--reference', type=int, help='resolution to compare with (the largest of the training)'
    )
    parser.add_argument(
        '--baseline',
        nargs=2,
        action='append',
        default=[],
        metavar=('CONFIG', 'CHECKPOINT'),
        help='a model to compare with; may be given several times',
    )
    parser.add_argument('--names', nargs='+', help='names of the models (those of the configs)')
    parser.add_argument('--parts', nargs='+', default=PARTS, choices=PARTS, help='what is measured (all)')
    parser.add_argument(
        '--max-images', type=int, help='number of test images, evenly spread over the test set (all)'
    )
    parser.add_argument(
        '--attention-images', type=int, default=64, help='number of images for attention and features (64)'
    )
    parser.add_argument('--batch-size', type=int, default=64, help='images of a forward pass (64)')
    parser.add_argument('--num-workers', type=int, default=0, help='processes that read images (0)')
    parser.add_argument('--out-dir', type=Path, help='folder of the results (work_dirs/diagnosis/CONFIG)')
    add_config_options(parser, 'every config')
    args = parser.parse_args()
    for name in ('max_images', 'attention_images', 'batch_size'):
        value = getattr(args, name)
        if value is not None and value < 2:
            parser.error(f'--{name.replace("_", "-")} must be at least 2, not {value}')
    if args.names and len(args.names) != 1 + len(args.baseline):
        parser.error(f'--names: {len(args.names)} names for {1 + len(args.baseline)} models')
    if args.out_dir is None:
        args.out_dir = Path('work_dirs') / 'diagnosis' / Path(args.config).stem
    return parser, args


def measure(args: argparse.Namespace) -> list[Diagnosis]:
    """Measure all models."""
    models = [(args.config, args.checkpoint), *map(tuple, args.baseline)]
    names = args.names or [Path(config).stem for config, _ in models]
    scope = Scope(
        resolutions=args.resolutions,
        reference=args.reference,
        parts=args.parts,
        max_images=args.max_images,
        attention_images=args.attention_images,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
    )
    return [
        diagnose(name, Subject(config, checkpoint, args.cfg_options), scope)
        for name, (config, checkpoint) in zip(names, models)
    ]


def main() -> None:
    """Measure and report."""
    parser, args = parse_args()
    try:
        diagnoses = measure(args)
    except (OSError, CheckpointError, ImportError, ValueError) as error:
        parser.error(str(error))
    print(format_tables(diagnoses))
    files = write_tables(diagnoses, args.out_dir) + draw_diagnoses(diagnoses, args.out_dir)
    print('\nWritten:', *files, sep='\n  ')


if __name__ == '__main__':
    main()
