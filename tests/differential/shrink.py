"""Cases, and how they are made smaller while they still show the same difference."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from compare import Difference, compare, same_rows
from schema import Table
from server import Answer, Lost, Server
from statements import Statement
from tree import Node, render, smaller

SECONDS = 12.0
# As many tables are drawn at most.
TABLES_MOST = 3


@dataclass(frozen=True)
class Case:
    tables: tuple[Table, ...]
    script: tuple[Statement, ...]


def load(server: Server, tables: tuple[Table, ...] | list[Table]) -> None:
    """The tables, anew, in the schema that the connection is in."""
    server.end_transaction()
    # Also those that are left out: a statement that reads one does not show what it showed.
    for at in range(TABLES_MOST):
        server.must(f"DROP TABLE IF EXISTS t{at}")
    for table in tables:
        server.must(table.create())
        for statement in table.insert():
            server.must(statement)


def read_tables(server: Server, tables: tuple[Table, ...] | list[Table]) -> list[Answer]:
    return [
        server.must(f"SELECT {', '.join(c.sql for c in table.columns)} FROM {table.name}")
        for table in tables
    ]


@dataclass
class Run:
    """The first difference, where it showed, and the tables in PostgreSQL afterwards."""

    difference: Difference | None = None
    at: int = 0
    tables: list[Answer] = field(default_factory=list)
    refused: int = 0


def run_script(postgres: Server, azimuth: Server, case: Case) -> Run:
    refused = 0
    for at, statement in enumerate(case.script):
        expected = postgres.send(statement)
        try:
            found = azimuth.send(statement)
        except Lost as lost:
            azimuth.connect()
            azimuth.must(f"SET search_path = {azimuth.schema}")
            return Run(Difference("lost", "", expected[-1].brief(), str(lost)), at)
        if len(expected) == 1 < len(found) and expected[0].state:
            # What one refuses when it is prepared the other may refuse when it is executed.
            found = found[1:]
        for a, b in zip(expected, found):
            difference = compare(statement, a, b)
            if difference is not None:
                postgres.end_transaction()
                azimuth.end_transaction()
                return Run(difference, at, refused=refused)
        refused += bool(expected[-1].state)
    postgres.end_transaction()
    azimuth.end_transaction()
    if not any(statement.writes for statement in case.script):
        return Run(refused=refused)
    expected, found = read_tables(postgres, case.tables), read_tables(azimuth, case.tables)
    for table, a, b in zip(case.tables, expected, found):
        tolerances = [
            2e-6 if c.type == "real" else 1e-9 if c.type == "double precision" else 0.0
            for c in table.columns
        ]
        if not same_rows(a.rows, b.rows, tolerances):
            return Run(Difference("table", "", a.brief(), b.brief()), len(case.script) - 1)
    return Run(None, 0, expected, refused)


def same(a: Difference, b: Difference | None) -> bool:
    return b is not None and (a.kind, a.detail) == (b.kind, b.detail)


def smaller_tables(tables: tuple[Table, ...]) -> Iterator[tuple[Table, ...]]:
    for at, table in enumerate(tables):
        yield tables[:at] + tables[at + 1 :]
        changed: list[Table] = []
        count, size = len(table.rows), len(table.rows)
        while size:
            for start in range(0, count, size):
                changed.append(replace(table, rows=table.rows[:start] + table.rows[start + size :]))
            size //= 2
        for column in table.columns:
            if column not in table.key:
                gone = table.columns.index(column)
                rows = [row[:gone] + row[gone + 1 :] for row in table.rows]
                kept = [other for other in table.columns if other is not column]
                changed.append(replace(table, columns=kept, rows=rows))
        for other in changed:
            yield tables[:at] + (other,) + tables[at + 1 :]


def is_ordered(tree: Node) -> bool:
    """Whether a query still has the ORDER BY that is its own, and no part's."""
    return any(isinstance(part, str) and "ORDER BY" in part for part in tree.parts)


def smaller_scripts(script: tuple[Statement, ...]) -> Iterator[tuple[Statement, ...]]:
    for at, statement in enumerate(script):
        if len(script) > 1:
            yield script[:at] + script[at + 1 :]
        if statement.extended and not render(statement.tree)[1]:
            yield script[:at] + (replace(statement, extended=False),) + script[at + 1 :]
        for tree in smaller(statement.tree):
            ordered = statement.ordered and is_ordered(tree)
            yield script[:at] + (replace(statement, tree=tree, ordered=ordered),) + script[at + 1 :]


def shrink(
    postgres: Server, azimuth: Server, case: Case, difference: Difference
) -> tuple[Case, Difference]:
    """The smallest case found; the servers are in a schema of their own."""
    deadline = time.monotonic() + SECONDS
    found = difference
    loaded: tuple[Table, ...] | None = None

    def shows(candidate: Case) -> bool:
        nonlocal found, loaded
        try:
            if loaded is not candidate.tables:
                loaded = None
                load(postgres, candidate.tables)
                load(azimuth, candidate.tables)
                loaded = candidate.tables
            other = run_script(postgres, azimuth, candidate).difference
        except RuntimeError:
            return False
        if any(statement.writes for statement in candidate.script):
            loaded = None
        if same(difference, other):
            found = other
            return True
        return False

    if not shows(case):
        return case, replace(difference, detail=difference.detail + " (not shown again)")
    changed = True
    while changed and time.monotonic() < deadline:
        changed = False
        for candidates in (
            (replace(case, script=script) for script in smaller_scripts(case.script)),
            (replace(case, tables=tables) for tables in smaller_tables(case.tables)),
        ):
            for candidate in candidates:
                if time.monotonic() > deadline:
                    break
                if shows(candidate):
                    case, changed = candidate, True
                    break
    shows(case)
    return case, found


def shrink_tree(tree: Node, shows: Callable[[Node], bool]) -> Node:
    deadline = time.monotonic() + SECONDS
    changed = True
    while changed and time.monotonic() < deadline:
        changed = False
        for candidate in smaller(tree):
            if time.monotonic() > deadline:
                break
            if shows(candidate):
                tree, changed = candidate, True
                break
    return tree


def shape(tree: Node) -> str:
    """A statement without its constants and names, to tell causes apart."""

    def text(part: object) -> str:
        if isinstance(part, str):
            return part
        if not isinstance(part, Node):
            return "$"
        if part.kind not in ("plain", "optional", "list", "from", "query") and all(
            isinstance(p, str) for p in part.parts
        ):
            return f"<{part.kind}>"
        return (", " if part.kind == "list" else "").join(map(text, part.parts))

    line = re.sub(r"\b[at]\d+ AS a\d+", "_", text(tree))
    line = re.sub(r"\ba\d+\.\w+", "_", line)
    return re.sub(r"'[^']*'|\b\d+\b|\b[atcx]\d+\b", "_", line)
