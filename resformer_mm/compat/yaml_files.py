"""Reading of YAML files without making objects.

MMEngine, in every version, reads YAML with a loader that calls any function that a file names
(``!!python/object/apply:os.system``), also where only a config is printed.
"""

from __future__ import annotations

from typing import Any

import yaml
from mmengine.fileio import register_handler
from mmengine.fileio.handlers import YamlHandler


class PlainLoader(getattr(yaml, 'CSafeLoader', yaml.SafeLoader)):  # type: ignore[misc]
    """Loader of plain values, and of the tuples that MMEngine writes."""

    def make_tuple(self, node: Any) -> tuple:
        """Return the tuple of a sequence."""
        return tuple(self.construct_sequence(node, deep=True))


PlainLoader.add_constructor('tag:yaml.org,2002:python/tuple', PlainLoader.make_tuple)


class PlainYamlHandler(YamlHandler):
    """MMEngine's handler of YAML files, without objects of classes."""

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        """Return the content of a file."""
        return super().load_from_fileobj(file, Loader=PlainLoader)


def read_plain_yaml() -> None:
    """Let MMEngine read YAML files in this way."""
    register_handler(['yaml', 'yml'])(PlainYamlHandler)
