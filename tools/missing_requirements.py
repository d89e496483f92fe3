"""Print the requirements that are not installed (for tools/install.sh; standard library only).

Usage: python missing_requirements.py [--exact] FILE...   one missing requirement per line
       python missing_requirements.py --freeze            constraints for packages that are never replaced
       python missing_requirements.py --project ROOT      'missing' unless ROOT is installed (editable)

A distribution whose version differs from the file, or from pins.txt in the same folder, is kept and reported
on stderr; with --exact it counts as missing.
"""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import PackageNotFoundError, distribution, distributions
from pathlib import Path

# Distributions that provide the same import: at most one of each row may be installed.
EQUIVALENT = (
    {'mmengine', 'mmengine-lite', 'onedl-mmengine'},
    {'mmcv', 'mmcv-full', 'mmcv-lite', 'onedl-mmcv', 'onedl-mmcv-lite'},
    {'mmpretrain', 'mmcls', 'onedl-mmpretrain'},
    {'mmsegmentation', 'onedl-mmsegmentation'},
    {'mmdet', 'onedl-mmdetection'},
    {'mmaction2', 'onedl-mmaction2'},
    {'imaug', 'imgaug'},
    {
        'opencv-python',
        'opencv-python-headless',
        'opencv-contrib-python',
        'opencv-contrib-python-headless',
    },
)
KEPT = {'torch', 'torchvision', 'torchaudio', 'numpy'}.union(*EQUIVALENT)


def normalize(name: str) -> str:
    return re.sub(r'[-_.]+', '-', name).lower()


def installed() -> dict[str, str]:
    names = ((dist.metadata['Name'], dist.version) for dist in distributions())
    return {normalize(name): version for name, version in names if name}


def requirements(file: Path) -> dict[str, str]:
    """Return the requirements of a file by the name of their distribution."""
    lines = (line.split('#')[0].strip() for line in file.read_text().splitlines())
    return {normalize(re.match(r'[\w.-]+', line).group()): line for line in lines if line}


def pinned(file: Path) -> dict[str, str]:
    """Return the requirements of a file, with the versions of ``pins.txt`` in the same folder."""
    pins = file.with_name('pins.txt')
    exact = requirements(pins) if pins.is_file() else {}
    return {name: exact.get(name, line) for name, line in requirements(file).items()}


def missing(files: list[str], exact: bool) -> None:
    have = installed()
    for name, requirement in (item for file in files for item in pinned(Path(file)).items()):
        pin = requirement.partition('==')[2]
        rivals = next((row for row in EQUIVALENT if name in row), set())
        found = next((other for other in (name, *sorted(rivals)) if other in have), None)
        if found is None:
            print(requirement)
        elif found != name or (pin and have[found].split('+')[0] != pin):
            if exact:
                print(requirement)
            else:
                note = f'-- keeping {found} {have[found]} (tested with {requirement})'
                print(note, file=sys.stderr)


def project_is_installed(root: str) -> bool:
    try:
        origin = json.loads(distribution('resformer-mm').read_text('direct_url.json') or '{}')
    except PackageNotFoundError:
        return False
    editable = origin.get('dir_info', {}).get('editable', False)
    return editable and origin.get('url') == Path(root).resolve().as_uri()


def main() -> None:
    first, *rest = sys.argv[1:]
    if first == '--freeze':
        kept = (f'{name}=={version}' for name, version in installed().items() if name in KEPT)
        print('\n'.join(kept))
    elif first == '--project':
        print('' if project_is_installed(rest[0]) else 'missing')
    else:
        exact = first == '--exact'
        missing(rest if exact else [first, *rest], exact)


if __name__ == '__main__':
    main()
