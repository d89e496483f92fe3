"""Describe this environment for a bug report: versions, stack, devices, operators, usable tasks.

python -m resformer_mm.collect_env          as text
python -m resformer_mm.collect_env --json   as JSON

It also runs where PyTorch or MMEngine is missing or broken. It does not use the network.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Sequence

from resformer_mm.environment.report import format_section, sections


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(
        prog='python -m resformer_mm.collect_env', description=__doc__.partition('\n')[0]
    )
    parser.add_argument('--json', action='store_true', help='print JSON, with the sections as keys')
    args = parser.parse_args(arguments)
    warnings.simplefilter('ignore')  # of the libraries, while they are imported
    if args.json:
        print(json.dumps(dict(sections()), indent=2))
        return
    for name, facts in sections():
        print(format_section(name, facts), end='\n\n', flush=True)


if __name__ == '__main__':
    main()
