"""Costs of a training on many GPUs."""

from __future__ import annotations

from dataclasses import dataclass

# Share of the time of a training step that the backward pass takes, in which gradients can be exchanged: it
# computes two matrix products for each one of the forward pass.
BACKWARD = 2 / 3


@dataclass(frozen=True)
class Workload:
    """What one process of a training holds and does.

    Attributes:
        name: name of the config without batch, epochs and data.
        weights: bytes of the parameters.
        blocks: bytes of those parameters that FSDP gathers block by block.
        gradients: bytes of the gradients, those of the trained parameters.
        states: bytes of the optimiser's states.
        averages: bytes of the averaged copy of the weights; 0 without one.
        checkpoint: bytes of a checkpoint that training can resume from.
        batch_size: images per step and GPU.
        copies: number of resolutions of an image in a step.
        lr: learning rate of the config.
        base_batch_size: total batch that the learning rate is for; None if the config does not say it.
    """

    name: str
    weights: int
    blocks: int
    gradients: int
    states: int
    averages: int
    checkpoint: int
    batch_size: int
    copies: int
    lr: float
    base_batch_size: int | None


@dataclass(frozen=True)
class Cluster:
    """The machines.

    Attributes:
        gpus_per_node: GPUs of a machine.
        network: bytes per second that a machine sends to the others, and receives at the same time.
        link: bytes per second that a GPU sends to another one of its machine, and receives at the same time.
        disk: bytes per second that the disk of the checkpoints writes.
    """

    gpus_per_node: int = 8
    network: float = 50e9
    link: float = 200e9
    disk: float = 1e9


@dataclass(frozen=True)
class Costs:
    """The costs of a training on a number of GPUs.

    Attributes:
        gpus: number of GPUs.
        total_batch: images per step of all GPUs.
        lr: learning rate by the linear rule; None if the config does not say which batch its rate is for.
        step: seconds of a step without the exchange of gradients.
        sent: bytes that a GPU sends per step in an all-reduce over a ring.
        exchange: seconds of the exchange alone.
        overlapped: speed over that without an exchange, if it goes on during the backward pass.
        apart: the same if it begins after the backward pass.
        images: images per second that all loaders give.
        cores: processor cores per GPU that load them.
    """

    gpus: int
    total_batch: int
    lr: float | None
    step: float
    sent: float
    exchange: float
    overlapped: float
    apart: float
    images: float
    cores: float


def all_reduce_bytes(size: float, gpus: int) -> float:
    """Return the bytes that each of several GPUs sends when it adds up ``size`` bytes with the others.

    Over a ring, each sends a part ``size / gpus`` ``gpus - 1`` times to add up, and as often to spread the
    sums. It receives as many.
    """
    return 2 * (gpus - 1) / gpus * size


def sharded_bytes(workload: Workload, gpus: int, gathers: int) -> float:
    """Return the bytes that each GPU sends per step with sharded weights.

    Weights are gathered, and gradients are added up and scattered. Over a ring, each of these sends
    ``(gpus - 1) / gpus`` of their bytes. What is outside of the blocks is gathered once.

    Args:
        workload: the training.
        gpus: number of GPUs.
        gathers: how often a step gathers a block.
    """
    gathered = workload.weights + (gathers - 1) * workload.blocks
    return (gpus - 1) / gpus * (gathered + workload.gradients)


def costs_at(
    workload: Workload,
    cluster: Cluster,
    gpus: int,
    images_per_second: float,
    loader_ms: float,
    total_batch: int | None = None,
) -> Costs:
    """Return the costs on a number of GPUs.

    The ring passes every GPU of a machine before it leaves it, so it is as fast as the slowest connection.

    Args:
        workload: the training.
        cluster: the machines.
        gpus: number of GPUs.
        images_per_second: images per second that one GPU trains on without others.
        loader_ms: milliseconds of processor time that loading an image takes.
        total_batch: images per step of all GPUs; None keeps those per GPU.

    Raises:
        ValueError: the total batch is not a multiple of the GPUs, or a number is not positive.
    """
    if min(gpus, images_per_second, loader_ms, cluster.network, cluster.link, cluster.gpus_per_node) <= 0:
        raise ValueError('numbers of GPUs, images per second, milliseconds and bandwidths must be positive')
    if total_batch is not None and (total_batch < gpus or total_batch % gpus):
        raise ValueError(f'a batch of {total_batch} images cannot be shared equally by {gpus} GPUs')
    batch = gpus * workload.batch_size if total_batch is None else total_batch
    step = batch / gpus / images_per_second
    sent = all_reduce_bytes(workload.gradients, gpus)
    exchange = sent / (cluster.link if gpus <= cluster.gpus_per_node else cluster.network)
    overlapped = step / (step + max(0.0, exchange - BACKWARD * step))
    return Costs(
        gpus=gpus,
        total_batch=batch,
        lr=workload.lr * batch / workload.base_batch_size if workload.base_batch_size else None,
        step=step,
        sent=sent,
        exchange=exchange,
        overlapped=overlapped,
        apart=step / (step + exchange),
        images=gpus * images_per_second,
        cores=images_per_second * loader_ms / 1000,
    )


def memory_at_rest(workload: Workload, gpus: int, strategy: str) -> float:
    """Return the bytes that a GPU holds between two steps, and activations come on top.

    Args:
        workload: the training.
        gpus: number of GPUs.
        strategy: 'DDP', which also holds the buffers that gradients are exchanged in; 'FSDP', in which each
            GPU holds its part; 'SHARD_GRAD_OP', in which the weights stay gathered within a step.
    """
    parts = workload.weights + workload.gradients + workload.states + workload.averages
    if strategy == 'DDP':
        return parts + workload.gradients
    return parts / gpus + (workload.weights if strategy == 'SHARD_GRAD_OP' else 0)
