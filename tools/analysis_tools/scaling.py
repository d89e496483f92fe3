"""Compute what trainings need of a number of GPUs: network, loaders, memory, checkpoints.

    python tools/analysis_tools/scaling.py CONFIG --images-per-second 1000 --loader-ms 10 --gpus 8 64 512
    python tools/analysis_tools/scaling.py CONFIG --measure-steps 20 --measure-loader 200    # on your machine

The numbers of the model come from the config, the others from the command line, or are measured here with the
data of the config. docs/scaling.md explains the tables and the assumptions.
"""

import argparse

from resformer_mm.config.command_line import add_config_options
from resformer_mm.config.files import enter_scope, read_config
from resformer_mm.libraries import prepare_libraries, settle_config
from resformer_mm.preflight.subject import BuildError
from resformer_mm.scaling import (
    Cluster,
    costs_at,
    measure_loader,
    measure_training,
    memory_table,
    read_workload,
    recipe_table,
    storage_table,
    traffic_table,
)


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='+', help='config files of trainings')
    parser.add_argument(
        '--gpus', nargs='+', type=int, default=[8, 64, 512], help='numbers of GPUs (8 64 512)'
    )
    parser.add_argument(
        '--total-batch', type=int, help='images per step of all GPUs (that of the config each)'
    )
    speed = parser.add_mutually_exclusive_group(required=True)
    speed.add_argument(
        '--images-per-second',
        nargs='+',
        type=float,
        help='that one GPU trains on: one number, or one per config',
    )
    speed.add_argument('--measure-steps', type=int, help='measure it here, over so many steps')
    loader = parser.add_mutually_exclusive_group(required=True)
    loader.add_argument('--loader-ms', type=float, help='milliseconds of a core that loading an image takes')
    loader.add_argument('--measure-loader', type=int, help='measure them here, over so many images')
    parser.add_argument('--gpus-per-node', type=int, default=8, help='GPUs of a machine (8)')
    parser.add_argument('--network', type=float, default=50, help='GB/s from a machine to the others (50)')
    parser.add_argument('--link', type=float, default=200, help='GB/s between GPUs of a machine (200)')
    parser.add_argument('--disk', type=float, default=1, help='GB/s that the disk of checkpoints writes (1)')
    parser.add_argument(
        '--images', type=int, default=1281167, help='images of an epoch (ImageNet-1k: 1281167)'
    )
    add_config_options(parser)
    args = parser.parse_args(arguments)
    if args.images_per_second and len(args.images_per_second) not in (1, len(args.configs)):
        parser.error('--images-per-second: give one number, or one for each config')
    for name in ('measure_steps', 'measure_loader'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1')
    args.parser = parser
    return args


def report(args: argparse.Namespace) -> str:
    """Return the tables.

    Raises:
        BuildError: a model or the data cannot be built.
        FileNotFoundError: a config does not exist.
        ValueError: a number or a config does not fit.
    """
    cluster = Cluster(args.gpus_per_node, args.network * 1e9, args.link * 1e9, args.disk * 1e9)
    rows, notes = [], []
    for index, path in enumerate(args.configs):
        cfg = read_config(path, args.cfg_options)
        prepare_libraries(cfg)
        settle_config(cfg)
        enter_scope(cfg)
        workload = read_workload(cfg)
        speeds = args.images_per_second
        speed = speeds[index % len(speeds)] if speeds else measure_training(cfg, args.measure_steps)
        loader_ms = args.loader_ms
        if loader_ms is None:
            loader_ms = measure_loader(cfg, args.measure_loader)
        how = 'as given' if speeds else 'measured here'
        notes.append(
            f'{workload.name}: {speed:,.1f} images/s per GPU ({how}), {loader_ms:.1f} ms of a core per image '
            f'({"measured here" if args.loader_ms is None else "as given"}), {workload.copies} resolutions'
        )
        for gpus in args.gpus:
            rows.append((workload, costs_at(workload, cluster, gpus, speed, loader_ms, args.total_batch)))
    workloads = list(dict.fromkeys(workload for workload, _ in rows))
    tables = (
        recipe_table(rows),
        traffic_table(rows),
        memory_table(workloads, args.gpus),
        storage_table(rows, cluster, args.images),
    )
    return '\n\n'.join(['\n'.join(notes), *tables])


def main() -> None:
    """Compute and print."""
    args = parse_args()
    try:
        print(report(args))
    except (BuildError, FileNotFoundError, ImportError, ValueError) as error:
        args.parser.error(str(error))


if __name__ == '__main__':
    main()
