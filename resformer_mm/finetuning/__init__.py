"""From a folder of data to the config of a fine-tuning: what is there, how it is split, how it is learned."""

from .data import FinetuningData
from .finding import check_folder, prepare_data
from .plan import Plan, make_plan
from .writing import write_config

__all__ = ['FinetuningData', 'Plan', 'check_folder', 'make_plan', 'prepare_data', 'write_config']
