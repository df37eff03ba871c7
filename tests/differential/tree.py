"""Statements as trees of text, so that they can be made smaller without a parser.

A node is a sequence of text and nodes. Its kind says how it can be made smaller: an expression
has the name of its SQL type, an `OPTIONAL` may be left out, a `LIST` may lose items, a `FROM` may
become one of the relations inside it. A smaller statement need not be valid; whoever asks for it
finds out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

PLAIN, OPTIONAL, LIST, FROM, QUERY = "plain", "optional", "list", "from", "query"
CLAUSES = {PLAIN, OPTIONAL, LIST}

# What an expression of a type is replaced by when it does not matter.
SIMPLE = {
    "boolean": ("true",),
    "smallint": ("1::smallint",),
    "integer": ("1", "0"),
    "bigint": ("1::bigint",),
    "real": ("1::real",),
    "double precision": ("1::double precision",),
    "text": ("'a'", "''"),
    "varchar": ("'a'::varchar",),
    "bytea": ("'\\x00'::bytea",),
    "date": ("'2000-01-01'::date",),
    "timestamp": ("'2000-01-01'::timestamp",),
    "timestamptz": ("'2000-01-01'::timestamptz",),
    "interval": ("interval '1 day'",),
    "vector": ("'[1,2,3]'::vector(3)",),
}


@dataclass(frozen=True)
class Parameter:
    """A value sent apart from the statement: one for each time that it is executed."""

    values: tuple[str | None, ...]


@dataclass(frozen=True)
class Node:
    kind: str
    parts: tuple[str | Node | Parameter, ...]

    def __str__(self) -> str:
        return render(self)[0]


def node(kind: str, template: str, *parts: Node | Parameter | str) -> Node:
    """The template with its `{}` replaced by the parts."""
    texts = template.split("{}")
    assert len(texts) == len(parts) + 1, template
    mixed: list[str | Node | Parameter] = [texts[0]]
    for part, text in zip(parts, texts[1:]):
        mixed += [part, text]
    return Node(kind, tuple(part for part in mixed if part != ""))


def optional(template: str, *parts: Node | Parameter | str) -> Node:
    return node(OPTIONAL, template, *parts)


def items(nodes: list[Node]) -> Node:
    """Items separated by commas."""
    return Node(LIST, tuple(nodes))


def render(tree: Node) -> tuple[str, list[Parameter]]:
    """The text of a tree, and the parameters that it names `$1`, `$2`."""
    parameters: list[Parameter] = []

    def text(part: str | Node | Parameter) -> str:
        if isinstance(part, str):
            return part
        if isinstance(part, Parameter):
            parameters.append(part)
            return f"${len(parameters)}"
        return (", " if part.kind == LIST else "").join(map(text, part.parts))

    return text(tree), parameters


def expressions_below(tree: Node) -> Iterator[Node]:
    for part in tree.parts:
        if isinstance(part, Node):
            if part.kind not in CLAUSES:
                yield part
            yield from expressions_below(part)


def replacements(tree: Node) -> Iterator[Node]:
    """What this node itself may become, smallest first."""
    if tree.kind == OPTIONAL and tree.parts:
        yield Node(OPTIONAL, ())
    elif tree.kind == LIST:
        count = len(tree.parts)
        size = count // 2
        while size:
            for start in range(0, count, size):
                kept = tree.parts[:start] + tree.parts[start + size :]
                if kept:
                    yield Node(LIST, kept)
            size //= 2
    elif tree.kind not in CLAUSES:
        length = len(str(tree))
        for simple in SIMPLE.get(tree.kind, ()):
            if len(simple) < length:
                yield Node(tree.kind, (simple,))
        below = [part for part in expressions_below(tree) if part.kind == tree.kind]
        yield from sorted(below, key=lambda part: len(str(part)))


def smaller(tree: Node) -> Iterator[Node]:
    """Trees in which one node was replaced, changes near the root first."""
    yield from replacements(tree)
    for at, part in enumerate(tree.parts):
        if isinstance(part, Node):
            for changed in smaller(part):
                yield replace(tree, parts=(*tree.parts[:at], changed, *tree.parts[at + 1 :]))
