"""Tables in Markdown, and the places of documents that hold them."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from .console import RefusedError

Content = TypeVar("Content")


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, left: int | None = None) -> str:
    """A table whose first `left` columns, or all, are aligned to the left and the others to the right."""
    rule = ["---" if left is None or column < left else "---:" for column in range(len(header))]
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in (header, rule, *rows))


def fill(text: str, kind: str, tables: Mapping[str, Callable[[Content], str]], content: Content) -> str:
    """A document with what is between ``<!-- kind: NAME -->`` and ``<!-- /kind -->`` made anew.

    Parameters
    ----------
    text
        The document.
    kind
        Of its markers.
    tables
        What makes each table of the content, by name; the first one's marker needs no name.
    content
        What the tables are made of.

    Raises
    ------
    RefusedError
        If a marker names no table, or there is none.
    """
    marker = re.compile(rf"^(<!-- {kind}(?:: (\w+))? -->)\n.*?^(<!-- /{kind} -->)$", re.MULTILINE | re.DOTALL)

    def replaced(match: re.Match[str]) -> str:
        name = match[2] or next(iter(tables))
        if name not in tables:
            raise RefusedError(f"<!-- {kind}: {name} --> must name one of {', '.join(tables)}")
        return f"{match[1]}\n{tables[name](content)}\n{match[3]}"

    filled, count = marker.subn(replaced, text)
    if not count:
        raise RefusedError(f"there is no <!-- {kind} --> … <!-- /{kind} --> to write a table to")
    return filled
