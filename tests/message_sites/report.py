"""Which errors of the package a run raised: a line per place that did not, with ``--all`` also the messages.

python tests/message_sites/report.py LOG [LOG ...] [--all]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sites import sites


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('log', type=Path, nargs='+', help='files that sitecustomize wrote')
    parser.add_argument('--all', action='store_true', help='list the messages that were raised as well')
    args = parser.parse_args()
    texts: dict[tuple[str, int], str] = {}
    for log in args.log:
        for line in log.read_text(encoding='utf-8').splitlines():
            entry = json.loads(line)
            texts.setdefault((entry['path'], entry['line']), entry['text'])
    found = list(sites())
    for site in found:
        text = texts.get((site.path, site.line))
        if text is None:
            print(f'NOT RAISED {site.path}:{site.line} {site.error}({site.message})')
        elif args.all:
            print(f'{site.path}:{site.line} {text}')
    raised = sum((site.path, site.line) in texts for site in found)
    print(f'{raised} of {len(found)} places were provoked')


if __name__ == '__main__':
    main()
