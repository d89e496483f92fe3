"""Reading of XML files from strangers: no entities, no other files, bounded depth, with line numbers."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from resformer_mm.datasets.regular_files import read_file

from .annotated import FormatError

DEEPEST = 100


class LineElement(Element):
    """An element that knows the line in which it begins."""

    line: int = 0


def read_xml(path: str | Path) -> LineElement:
    """Return the root of an XML file.

    Raises:
        FormatError: the file is not XML, declares entities, or is nested too deeply.
        OSError: it cannot be read.
    """
    parser = expat.ParserCreate()
    builder = TreeBuilder(element_factory=LineElement)
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise FormatError(f'{path}, line {parser.CurrentLineNumber}: elements are nested too deeply')
        element = builder.start(tag, attributes)
        element.line = parser.CurrentLineNumber  # type: ignore[attr-defined]

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(name: str, *_: object) -> None:
        raise FormatError(
            f'{path}, line {parser.CurrentLineNumber}: it declares the entity {name[:60]!r}, which '
            'annotation files do not need and which can fill the memory: remove the declaration'
        )

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(read_file(path), True)
        root = builder.close()
    except (expat.ExpatError, AssertionError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f'{path} is not valid XML ({error}): export it anew') from error
    assert isinstance(root, LineElement)
    return root


def text_of(element: Element, tag: str) -> str:
    """Return the text of an element inside another one, without blanks around it; '' without one."""
    return (element.findtext(tag) or '').strip()
