"""The report: its sections, as they become known, and their text."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from resformer_mm.environment import imports, machine, packages
from resformer_mm.environment.facts import Facts, describe_error

__all__ = ['format_section', 'sections']

# Imports come last: a library that ends the process leaves the rest of the report.
SECTIONS: dict[str, Callable[[], Facts]] = {
    'resformer_mm': packages.this_package,
    'system': machine.system,
    'processor': machine.processor,
    'OpenMMLab libraries': packages.libraries,
    'other packages': packages.others,
    'conflicts': lambda: {'found': packages.conflicts() or 'none'},
    'environment variables': machine.variables,
    'PyTorch': imports.pytorch,
    'devices': imports.devices,
    'compiled operators': imports.operators,
    'tasks': imports.tasks,
}


def sections() -> Iterator[tuple[str, Facts]]:
    """Yield every section when it is known. A section that fails consists of its error.

    What the libraries print while they are imported goes to the standard error stream.
    """
    with contextlib.redirect_stdout(sys.stderr):
        imports.apply_workarounds()
    for name, describe in SECTIONS.items():
        with contextlib.redirect_stdout(sys.stderr):
            try:
                facts = describe()
            except Exception as error:  # the report is for environments in which something is broken
                facts = {'error': describe_error(error)}
        yield name, facts


def format_section(name: str, facts: Facts) -> str:
    """Return a section as text, with one line per fact or per element of a list."""
    lines = [name]
    width = max(map(len, facts), default=0)
    for key, value in facts.items():
        first, *rest = value if isinstance(value, list) else [value]
        lines.append(f'  {key:<{width}}  {first}')
        lines.extend(f'  {"":<{width}}  {item}' for item in rest)
    return '\n'.join(lines)
