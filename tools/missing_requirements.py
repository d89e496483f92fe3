"""What is installed and what is missing (for tools/install.sh; standard library only).

Usage: python missing_requirements.py [--exact] [--pins FILE] FILE...  one missing requirement per line
       python missing_requirements.py --constraints FILE   constraints: what is never replaced, and the pins
       python missing_requirements.py --held               'STACK NAME VERSION' of every OpenMMLab package
       python missing_requirements.py --operators          'compiled' or 'none', if mmcv is installed
       python missing_requirements.py --project ROOT       'missing' unless ROOT is installed (editable)

Pins are the versions of a stack (requirements/stacks). A distribution whose version differs from the
requirement or its pin is kept and reported on stderr; with --exact it counts as missing.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, distribution, distributions
from importlib.util import find_spec
from pathlib import Path

# Distributions that provide the same import: at most one of each row may be installed.
LIBRARIES = (
    {'mmengine', 'mmengine-lite', 'onedl-mmengine'},
    {'mmcv', 'mmcv-full', 'mmcv-lite', 'onedl-mmcv', 'onedl-mmcv-lite'},
    {'mmpretrain', 'mmcls', 'onedl-mmpretrain'},
    {'mmsegmentation', 'onedl-mmsegmentation'},
    {'mmdet', 'onedl-mmdetection'},
    {'mmaction2', 'onedl-mmaction2'},
)
EQUIVALENT = (
    *LIBRARIES,
    {'imaug', 'imgaug'},
    {
        'opencv-python',
        'opencv-python-headless',
        'opencv-contrib-python',
        'opencv-contrib-python-headless',
    },
)
KEPT = {'torch', 'torchvision', 'torchaudio', 'numpy'}.union(*EQUIVALENT)
IN_BOTH_STACKS = {'mmaction2'}


def normalize(name: str) -> str:
    return re.sub(r'[-_.]+', '-', name).lower()


def installed() -> dict[str, str]:
    names = ((dist.metadata['Name'], dist.version) for dist in distributions())
    return {normalize(name): version for name, version in names if name}


def applies(marker: str) -> bool:
    """Evaluate the kinds of markers that the requirement files use, without parentheses."""
    return any(all(map(holds, part.split(' and '))) for part in marker.split(' or '))


def holds(comparison: str) -> bool:
    """Evaluate a part of a marker."""
    if found := re.fullmatch(r'python_version (>=|<) "3\.(\d+)"', comparison.strip()):
        return (sys.version_info.minor >= int(found[2])) == (found[1] == '>=')
    if found := re.fullmatch(r'(sys_platform|platform_machine) (==|!=) "(\w+)"', comparison.strip()):
        value = sys.platform if found[1] == 'sys_platform' else platform.machine()
        return (value == found[3]) == (found[2] == '==')
    raise ValueError(
        f'a marker other than python_version >= or < "3.N", sys_platform or platform_machine: {comparison}'
    )


def requirements(file: Path) -> dict[str, str]:
    """Return the requirements of a file and of those it includes with -c, by the name of the distribution."""
    found: dict[str, str] = {}
    for line in (line.split('#')[0].strip() for line in file.read_text().splitlines()):
        if line.startswith('-c '):
            found.update(requirements(file.parent / line[3:].strip()))
        elif line:
            requirement, _, marker = (part.strip() for part in line.partition(';'))
            if not marker or applies(marker):
                found[normalize(re.match(r'[\w.-]+', requirement).group())] = requirement
    return found


def rivals(name: str) -> set[str]:
    return next((row for row in EQUIVALENT if name in row), {name})


def version_of(requirement: str) -> str:
    return requirement.partition('==')[2]


def valid_pins(file: Path | None) -> dict[str, str]:
    """Return the pins of a stack that fit what is kept: torchvision follows a PyTorch of another version."""
    pins = {} if file is None else requirements(file)
    torch = installed().get('torch', '').split('+')[0]
    if torch and 'torch' in pins and torch != version_of(pins['torch']):
        pins.pop('torchvision', None)
    return pins


def missing(files: list[Path], pins: dict[str, str], exact: bool) -> None:
    have = installed()
    wanted = {name: pins.get(name, line) for file in files for name, line in requirements(file).items()}
    for name, requirement in wanted.items():
        pin = version_of(requirement)
        found = next((other for other in (name, *sorted(rivals(name) - {name})) if other in have), None)
        if found is None:
            print(requirement)
        elif found != name or (pin and have[found].split('+')[0] != pin):
            if exact:
                print(requirement)
            else:
                note = f'-- keeping {found} {have[found]} (tested with {requirement})'
                print(note, file=sys.stderr)


def constraints(pins: dict[str, str]) -> None:
    have = installed()
    for name, version in have.items():
        if name in KEPT:
            print(f'{name}=={version}')
    for name, requirement in pins.items():
        if not (rivals(name) & have.keys() & KEPT):
            print(requirement)


def held() -> None:
    libraries = set().union(*LIBRARIES) - IN_BOTH_STACKS
    for name, version in sorted(installed().items()):
        if name in libraries:
            print('onedl' if name.startswith('onedl-') else 'openmmlab', name, version)


def operators() -> None:
    spec = find_spec('mmcv')
    if spec is not None:
        folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
        print('compiled' if any(any(folder.glob('_ext.*')) for folder in folders) else 'none')


def project_is_installed(root: str) -> bool:
    try:
        origin = json.loads(distribution('resformer-mm').read_text('direct_url.json') or '{}')
    except PackageNotFoundError:
        return False
    editable = origin.get('dir_info', {}).get('editable', False)
    return editable and origin.get('url') == Path(root).resolve().as_uri()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('files', nargs='*', type=Path)
    parser.add_argument('--exact', action='store_true')
    parser.add_argument('--pins', type=Path)
    parser.add_argument('--constraints', type=Path)
    parser.add_argument('--held', action='store_true')
    parser.add_argument('--operators', action='store_true')
    parser.add_argument('--project')
    args = parser.parse_args()
    if args.constraints is not None:
        constraints(valid_pins(args.constraints))
    elif args.held:
        held()
    elif args.operators:
        operators()
    elif args.project is not None:
        print('' if project_is_installed(args.project) else 'missing')
    else:
        missing(args.files, valid_pins(args.pins), args.exact)


if __name__ == '__main__':
    main()
