"""Texts from outside without the characters that a terminal obeys."""

from __future__ import annotations

import re

# Control characters but for line breaks and tabs, those that reverse the order of what is shown, and parts of
# names that are not UTF-8, which cannot be printed.
_OBEYED = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]')
LONGEST_NAME = 500


def printable(text: str) -> str:
    r"""Return a text with control characters as escapes, ``\x1b``; lines and tabs stay."""
    return _OBEYED.sub(lambda found: found[0].encode('unicode_escape').decode(), text)


def printable_name(name: object) -> str:
    """Return a name on one line, without control characters, and cut if it is very long."""
    text = str(name)
    text = text if len(text) <= LONGEST_NAME else f'{text[:LONGEST_NAME]}…'
    return printable(text).replace('\n', '\\n')
