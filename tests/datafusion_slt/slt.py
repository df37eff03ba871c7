"""Reads the dialect of sqllogictest that DataFusion's files are written in."""

from __future__ import annotations

import glob
import pathlib
import re
from dataclasses import dataclass, field
from typing import Iterator

SORT_MODES = {"nosort", "rowsort", "valuesort"}


@dataclass
class Record:
    """A statement or a query, and what it is to be answered with."""

    file: str
    line: int
    kind: str  # "ok", "error", "count" or "query"
    sql: str
    types: str = ""
    sort: str = "nosort"
    valuewise: bool = False
    count: int = 0
    error: str = ""
    expected: list[str] = field(default_factory=list)
    conditions: list[tuple[str, str]] = field(default_factory=list)

    def runs_as(self, labels: set[str]) -> bool:
        return all((label in labels) == (word == "onlyif") for word, label in self.conditions)


class Malformed(Exception):
    """A line that is no part of the dialect."""


@dataclass
class _State:
    sort: str = "nosort"
    valuewise: bool = False


def read(path: pathlib.Path, root: pathlib.Path) -> list[Record]:
    """The records of a file with those of the files it includes, up to `halt`."""
    records: list[Record] = []
    for record in _read(path, root, _State()):
        if record is None:
            break
        records.append(record)
    return records


def _read(path: pathlib.Path, root: pathlib.Path, state: _State) -> Iterator[Record | None]:
    lines = path.read_text().split("\n")
    name = str(path.relative_to(root))
    conditions: list[tuple[str, str]] = []
    at = 0
    while at < len(lines):
        line, number = lines[at].rstrip("\r"), at + 1
        at += 1
        words = line.split()
        if line.startswith("#") or not words:
            continue
        match words:
            case ["include", pattern]:
                included = sorted(glob.glob(str(path.parent / pattern)))
                if not included:
                    raise Malformed(f"{name}:{number}: no file {pattern}")
                for other in included:
                    yield from _read(pathlib.Path(other).resolve(), root, state)
            case ["halt"]:
                yield None
            case ["skipif" | "onlyif" as word, label]:
                conditions.append((word, label))
            case ["control", "sortmode", mode]:
                state.sort = mode
            case ["control", "resultmode", mode]:
                state.valuewise = mode == "valuewise"
            case ["control" | "hash-threshold" | "subtest" | "sleep" | "connection", *_]:
                pass
            case ["statement", *rest] | ["query", *rest]:
                record = Record(name, number, "ok", "", sort=state.sort, valuewise=state.valuewise)
                record.conditions, conditions = conditions, []
                _header(record, words[0], rest, line)
                at = _body(record, lines, at)
                yield record
            case _:
                raise Malformed(f"{name}:{number}: {line}")


def _header(record: Record, word: str, rest: list[str], line: str) -> None:
    match rest:
        case ["error", *_]:
            record.kind = "error"
            record.error = line.split("error", 1)[1].strip()
        case ["ok", *_] if word == "statement":
            record.kind = "ok"
        case ["count", count, *_] if word == "statement":
            record.kind, record.count = "count", int(count)
        case _ if word == "statement":
            raise Malformed(f"{record.file}:{record.line}: {line}")
        case [types, *more]:
            record.kind, record.types = "query", types
            if more and more[0] in SORT_MODES:
                record.sort = more[0]
        case []:
            record.kind = "query"


def _body(record: Record, lines: list[str], at: int) -> int:
    """The statement and its results: the line that comes after them."""
    sql = []
    while at < len(lines):
        line = lines[at].rstrip("\r")
        at += 1
        if not line and sql:
            break
        if line == "----":
            if record.kind == "error":
                # An error of several lines ends with two empty ones.
                while at < len(lines) and not (
                    not lines[at] and (at + 1 == len(lines) or not lines[at + 1])
                ):
                    record.error += lines[at] + "\n"
                    at += 1
            else:
                while at < len(lines) and lines[at].rstrip("\r"):
                    record.expected.append(lines[at].rstrip("\r"))
                    at += 1
            break
        sql.append(line)
    record.sql = "\n".join(sql)
    return at


IGNORE = "<slt:ignore>"


def matches(expected: list[str], actual: list[str]) -> bool:
    """Whether rows, a line each, are those of the file."""
    expected = [line.rstrip() for line in expected]
    actual = [line.rstrip() for line in actual]
    if not any(IGNORE in line for line in expected):
        return expected == actual
    parts = "\n".join(expected).split(IGNORE)
    return bool(re.match(".*?".join(map(re.escape, parts)), "\n".join(actual), re.DOTALL))
