"""Extension of griffe, which reads the package for the API reference.

It turns the Sphinx roles of docstrings into the cross-references of mkdocstrings:
``:class:`~resformer_mm.models.ResFormer` `` becomes ``[`ResFormer`][resformer_mm.models.ResFormer]``. Names
of other packages, which have no page here, stay as code. What a package offers of its modules is documented
once, in the module.
"""

from __future__ import annotations

import re

import griffe

ROLE = re.compile(r':(?:class|func|meth|attr|mod|data):`(~?)([\w.]+)`')


def _reference(match: re.Match) -> str:
    short, target = match.groups()
    name = f'`{target.rpartition(".")[2] if short else target}`'
    return f'[{name}][{target}]' if target.startswith('resformer_mm.') else name


class ApiReference(griffe.Extension):
    """Rewrites docstrings before they are parsed, and hides what a package imports from its modules."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = ROLE.sub(_reference, obj.docstring.value)

    def on_module_members(self, *, mod: griffe.Module, **kwargs: object) -> None:
        """Forget ``__all__``, which would make imported names members of the package."""
        mod.exports = None
