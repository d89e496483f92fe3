"""Tables of the costs of trainings on many GPUs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from resformer_mm.text import table

from .costs import Cluster, Costs, Workload, memory_at_rest, sharded_bytes


def recipe_table(rows: Iterable[tuple[Workload, Costs]]) -> str:
    """Return batch, learning rate and what the loaders must give, by training and number of GPUs."""
    header = ['model', 'GPUs', 'batch', 'lr', 'images/s in all', 'cores per GPU', 'cores in all']
    cells = [
        [
            workload.name,
            costs.gpus,
            costs.total_batch,
            '' if costs.lr is None else f'{costs.lr:.3g}',
            f'{costs.images:,.0f}',
            f'{costs.cores:.1f}',
            f'{costs.gpus * costs.cores:,.0f}',
        ]
        for workload, costs in rows
    ]
    return table(header, cells, justify='right')


def traffic_table(rows: Iterable[tuple[Workload, Costs]]) -> str:
    """Return what is exchanged with DistributedDataParallel, by training and number of GPUs."""
    header = [
        'model',
        'GPUs',
        'step, ms',
        'sent per step, MB',
        'sent, GB/s',
        'exchange, ms',
        'speed',
        'apart',
    ]
    cells = [
        [
            workload.name,
            costs.gpus,
            f'{1000 * costs.step:.1f}',
            f'{costs.sent / 1e6:.1f}',
            f'{costs.sent / costs.step / 1e9:.2f}',
            f'{1000 * costs.exchange:.2f}',
            f'{costs.overlapped:.1%}',
            f'{costs.apart:.1%}',
        ]
        for workload, costs in rows
    ]
    return table(header, cells, justify='right')


def memory_table(workloads: Iterable[Workload], gpus: Sequence[int]) -> str:
    """Return what a GPU holds between two steps, and what it sends per step, by strategy."""
    header = [
        'model',
        'GPUs',
        'DDP, MB',
        'FSDP, MB',
        'SHARD_GRAD_OP, MB',
        'FSDP sends, MB',
        'SHARD_GRAD_OP sends, MB',
    ]
    cells = []
    for workload in workloads:
        for number in gpus:
            held = [memory_at_rest(workload, number, name) for name in ('DDP', 'FSDP', 'SHARD_GRAD_OP')]
            sent = [sharded_bytes(workload, number, gathers) for gathers in (workload.copies + 1, 1)]
            cells.append([workload.name, number, *(f'{size / 1e6:,.0f}' for size in (*held, *sent))])
    return table(header, cells, justify='right')


def storage_table(rows: Iterable[tuple[Workload, Costs]], cluster: Cluster, images: int) -> str:
    """Return what checkpoints after every epoch cost, by training and number of GPUs.

    Args:
        rows: trainings and their costs.
        cluster: the machines.
        images: images of an epoch.
    """
    header = [
        'model',
        'GPUs',
        'checkpoint, MB',
        'epoch, s',
        'written, MB/s',
        'writing, s',
        'share of time',
        'read on resume, GB',
    ]
    cells = []
    for workload, costs in rows:
        epoch = images / costs.images / costs.overlapped
        writing = workload.checkpoint / cluster.disk
        cells.append(
            [
                workload.name,
                costs.gpus,
                f'{workload.checkpoint / 1e6:,.0f}',
                f'{epoch:,.0f}',
                f'{workload.checkpoint / epoch / 1e6:.2f}',
                f'{writing:.2f}',
                f'{writing / (writing + epoch):.2%}',
                f'{workload.checkpoint * costs.gpus / 1e9:,.1f}',
            ]
        )
    return table(header, cells, justify='right')
