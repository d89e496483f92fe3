"""The end of a process, and that of others after it."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable

import torch.distributed
from mmengine.logging import print_log
from torch.distributed.elastic.multiprocessing.errors import record

from .watch import end_at_once, lost_message, running_watch

# Before version 2.2, PyTorch raises errors of connections as RuntimeError.
_BROKEN = re.compile('gloo|NCCL|TCPStore|Connection (closed|reset|refused)|Broken pipe', re.IGNORECASE)


class LostProcessError(RuntimeError):
    """Another process of the run failed. The message names it and has its error."""


def run_main(main: Callable[[], None]) -> None:
    """Run the main function of a tool that several processes may run.

    A process that fails tells the others why. They end with this in one line, instead of the error of the
    connection that broke. torchrun repeats the first error at the end of its output.
    """
    try:
        record(_telling(main))()
    except LostProcessError as error:
        print_log(str(error), logger='current', level=logging.ERROR)
        end_at_once()
    except Exception as error:
        if running_watch() is None:
            raise
        sys.excepthook(type(error), error, error.__traceback__)
        end_at_once()


def _telling(main: Callable[[], None]) -> Callable[[], None]:
    def telling() -> None:
        try:
            main()
            return
        except Exception as error:
            watch = running_watch()
            if watch is None:
                raise
            if not is_broken_connection(error):
                watch.tell(error)
                raise
            cause = watch.cause()
        raise LostProcessError(lost_message(cause, watch.rank))

    return telling


def is_broken_connection(error: BaseException | None) -> bool:
    """Whether an error, or one that it followed, is of the exchange between processes."""
    kinds = getattr(torch.distributed, 'DistError', ())
    if error is None:
        return False
    is_one = isinstance(error, kinds) or isinstance(error, RuntimeError) and _BROKEN.search(str(error))
    return bool(is_one) or is_broken_connection(error.__cause__ or error.__context__)
