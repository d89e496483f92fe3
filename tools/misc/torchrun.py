"""torchrun, which ends quietly with status 2 where a process does: that process has told the usage error."""

import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

USAGE_ERROR = 2

if __name__ == '__main__':
    try:
        main()
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode != USAGE_ERROR:
            raise
        print(f'{error.name} has ended with status 2, see above', file=sys.stderr)
        sys.exit(USAGE_ERROR)
