"""Checks that need no second server.

TLP: the rows of a query are those where a predicate is true, those where it is false, and those
where it is NULL (Rigger and Su, OOPSLA 2020). NoREC: as many rows pass a predicate in WHERE as have
it true in the select list (Rigger and Su, ESEC/FSE 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from compare import Difference, same_rows
from expressions import Expressions
from schema import INTEGER, ORDERED, VECTOR, Table
from server import FLOAT_TYPES, Answer, Server, shape_of_message
from statements import Statements
from tree import PLAIN, Node, items, node

FORMS = ["rows", "rows", "distinct", "count", "min", "max", "sum", "norec", "norec", "grouped"]


@dataclass(frozen=True)
class Check:
    """`tree` has three parts: what is selected, from what, and the predicate."""

    form: str
    tree: Node


def draw_check(rng: Random, tables: list[Table]) -> Check:
    statements = Statements(rng, tables)
    # Large tables are not joined: the pairs of their rows are too many.
    joins = 0 if any(len(table.rows) > 100 for table in tables) else rng.choice([0, 0, 1, 1, 2])
    source, scope = statements.source(joins)
    make = Expressions(rng, scope, False, False, statements.subquery)
    form = rng.choice(FORMS)
    if form == "sum":
        argument = make.tame() if rng.random() < 0.5 else make.leaf(INTEGER)
        selected: list[Node] = [argument]
    elif form in ("min", "max"):
        selected = [
            make.make(
                rng.choice(
                    [name for name in ORDERED if name not in ("boolean", "bytea", "varchar")]
                ),
                1,
            )
        ]
    else:
        types = [c.type for c in scope.columns if c.type != VECTOR or form == "rows"] or [INTEGER]
        selected = [make.make(rng.choice(types), 1) for _ in range(rng.randint(1, 3))]
    selection = items([node(PLAIN, "{}", one) for one in selected])
    return Check(form, Node(PLAIN, (selection, source, make.predicate(3))))


def run_check(server: Server, check: Check) -> tuple[Difference | None, str]:
    """The difference if there is one, and `failed` when a query did not answer."""
    selection, source, predicate = (str(part) for part in check.tree.parts)
    thirds = [predicate, f"NOT ({predicate})", f"({predicate}) IS NULL"]

    def ask(sql: str) -> Answer:
        answer = server.run(sql)
        if answer.state:
            raise Failed(answer)
        return answer

    try:
        if check.form == "norec":
            optimised = ask(f"SELECT count(*) FROM {source} WHERE {predicate}")
            flags = ask(f"SELECT ({predicate}) IS TRUE FROM {source}")
            whole, parts = [optimised.rows[0]], [(str(sum(row[0] == "t" for row in flags.rows)),)]
            tolerances = [0.0]
        else:
            what, tail = selection, ""
            if check.form in ("count", "min", "max", "sum"):
                what = "count(*)" if check.form == "count" else f"{check.form}({selection})"
            elif check.form == "distinct":
                what = f"DISTINCT {selection}"
            elif check.form == "grouped":
                groups = ", ".join(f"({one})" for one in check.tree.parts[0].parts)
                what, tail = f"{selection}, count(*)", f" GROUP BY {groups}"
            answer = ask(f"SELECT {what} FROM {source}{tail}")
            answers = [ask(f"SELECT {what} FROM {source} WHERE {third}{tail}") for third in thirds]
            tolerances = [1e-6 if name in FLOAT_TYPES else 0.0 for name in answer.types]
            whole, parts = answer.rows, combine(server, check.form, answers)
    except Failed as failed:
        answer = failed.args[0]
        if answer.state.startswith("XX"):
            return Difference(
                "internal", shape_of_message(answer.message), "", answer.brief()
            ), "failed"
        return None, "failed"
    if same_rows(whole, parts, tolerances):
        return None, "held"
    return Difference("rows", check.form, str(whole[:8]), str(parts[:8])), "broken"


class Failed(Exception):
    pass


def combine(server: Server, form: str, answers: list[Answer]) -> list[tuple[str | None, ...]]:
    rows = [row for answer in answers for row in answer.rows]
    if form == "distinct":
        return list(dict.fromkeys(rows))
    if form == "grouped":
        counts: dict[tuple, int] = {}
        for row in rows:
            counts[row[:-1]] = counts.get(row[:-1], 0) + int(row[-1] or 0)
        return [(*group, str(count)) for group, count in counts.items()]
    if form == "count":
        return [(str(sum(int(row[0] or 0) for row in rows)),)]
    values = [row[0] for row in rows if row[0] is not None]
    if form == "sum":
        return (
            [
                (
                    repr(sum(float(value) for value in values))
                    if "." in "".join(values) or answers[0].types[0] == "double precision"
                    else str(sum(map(int, values)))
                    if values
                    else None,
                )
            ]
            if values
            else [(None,)]
        )
    if form in ("min", "max"):
        if not values:
            return [(None,)]
        if answers[0].types[0] in FLOAT_TYPES | {"smallint", "integer", "bigint"}:
            # NaN is greater than every number.
            key = lambda value: (value == "NaN", float(value) if value != "NaN" else 0.0)  # noqa: E731
            if answers[0].types[0] not in FLOAT_TYPES:
                key = int  # type: ignore[assignment]
            return [(min(values, key=key) if form == "min" else max(values, key=key),)]
        if answers[0].types[0] == "text":
            key = lambda value: value.encode()  # noqa: E731
            return [(min(values, key=key) if form == "min" else max(values, key=key),)]
        # Other types are ordered as the server says.
        values_list = ", ".join(f"('{value}'::{answers[0].types[0]})" for value in values)
        return server.must(f"SELECT {form}(x) FROM (VALUES {values_list}) AS v(x)").rows
    return rows
