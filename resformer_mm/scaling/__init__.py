"""What a training needs of many GPUs, computed from a config and from what was measured on one of them."""

from .costs import Cluster, Workload, all_reduce_bytes, costs_at, sharded_bytes
from .measuring import measure_loader, measure_training
from .tables import memory_table, recipe_table, storage_table, traffic_table
from .workload import read_workload

__all__ = [
    'Cluster',
    'Workload',
    'all_reduce_bytes',
    'costs_at',
    'measure_loader',
    'measure_training',
    'memory_table',
    'read_workload',
    'recipe_table',
    'sharded_bytes',
    'storage_table',
    'traffic_table',
]
