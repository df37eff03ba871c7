"""Makes a table that a file makes in a way the server has not, so that what the file asks of it
afterwards is measured too. The statement itself stays failed."""

from __future__ import annotations

import csv
import io
import pathlib
import re

from server import Answer, Server
from values import INTERVAL

_TYPES = [
    (r"tinyint\s+unsigned", "smallint"), (r"smallint\s+unsigned", "int"),
    (r"(?:int|integer)\s+unsigned", "bigint"), (r"bigint\s+unsigned", "bigint"),
    (r"tinyint", "smallint"), (r"string", "text"), (r"double(?!\s+precision)", "double precision"),
    (r"float", "real"), (r"datetime", "timestamp"),
]  # fmt: skip
_NAMED = {
    16: "boolean", 17: "bytea", 20: "bigint", 21: "smallint", 23: "integer", 25: "text",
    700: "real", 701: "double precision", 705: "text", 1043: "text", 1082: "date", 1083: "time",
    1114: "timestamp", 1184: "timestamptz", INTERVAL: "interval", 1700: "numeric", 114: "json",
    3802: "jsonb", 2950: "uuid", 1000: "boolean[]", 1005: "smallint[]", 1007: "integer[]",
    1016: "bigint[]", 1009: "text[]", 1015: "text[]", 1021: "real[]", 1022: "double precision[]",
    1182: "date[]", 1115: "timestamp[]", 1231: "numeric[]",
}  # fmt: skip
_NAME = r'(?P<name>(?:"[^"]*"|[\w.])+)'
_MADE = re.compile(
    r"\s*create\s+(?P<replace>or\s+replace\s+)?(?:temp(?:orary)?\s+)?(?:unbounded\s+)?"
    r"(?P<external>external\s+)?(?P<what>table|view)\s+(?:if\s+not\s+exists\s+)?" + _NAME,
    re.IGNORECASE,
)
_CHANGED = re.compile(
    r"\s*(?:insert\s+(?:into|overwrite)|update|delete\s+from|copy|alter\s+table|merge\s+into|"
    r"truncate(?:\s+table)?)\s+" + _NAME,
    re.IGNORECASE,
)
_BATCH = 200


def target(sql: str) -> str:
    """The table that a statement makes or changes."""
    found = _MADE.match(sql) or _CHANGED.match(sql)
    return found["name"].strip('"').split(".")[-1].lower() if found else ""


def makes(sql: str) -> bool:
    """Whether a statement makes a table, or drops what a table stands for."""
    return bool(_MADE.match(sql) or re.match(r"\s*drop\s+view\b", sql, re.IGNORECASE))


def make(server: Server, sql: str, data: pathlib.Path | None) -> bool:
    """Makes the table of a CREATE that was refused; False when that is refused too."""
    dropped = re.match(r"\s*drop\s+view\s+(.*)", sql, re.IGNORECASE | re.DOTALL)
    if dropped:
        return not server.run(f"DROP TABLE {dropped[1]}").failed
    found = _MADE.match(sql)
    if not found:
        return False
    if found["replace"]:
        server.run(f"DROP TABLE IF EXISTS {found['name']}")
    columns, rest = _columns(sql[found.end() :])
    if found["external"]:
        return bool(columns) and _load(server, found["name"], columns, rest, data)
    query = re.match(r"\s*as\s+(.*)", rest, re.IGNORECASE | re.DOTALL)
    if not query:
        return bool(columns) and not _create(server, found["name"], columns).failed
    query_sql = query[1].rstrip().rstrip(";")
    answer = server.run(query_sql)
    if answer.failed or not answer.oids:
        return False
    if columns is None or found["what"].lower() == "view":
        names = columns.split(",") if columns else [f'"{name}"' for name in answer.names]
        if any(oid not in _NAMED for oid in answer.oids):
            return False
        columns = ", ".join(f"{n} {_NAMED[oid]}" for n, oid in zip(names, answer.oids))
    if _create(server, found["name"], columns).failed:
        return False
    return _insert(server, found["name"], answer)


def _create(server: Server, name: str, columns: str) -> Answer:
    return server.run(f"CREATE TABLE {name} ({translate(columns)})")


def translate(columns: str) -> str:
    for mine, theirs in _TYPES:
        columns = re.sub(rf"(?<=\s){mine}\b", theirs, columns, flags=re.IGNORECASE)
    return re.sub(r",\s*$", "", columns.strip())


def _insert(server: Server, name: str, answer: Answer) -> bool:
    for start in range(0, len(answer.rows), _BATCH):
        rows = ", ".join(
            "(" + ", ".join(map(_literal, row, answer.oids)) + ")"
            for row in answer.rows[start : start + _BATCH]
        )
        if server.run(f"INSERT INTO {name} VALUES {rows}").failed:
            return False
    return True


def _literal(value: str | None, oid: int) -> str:
    if value is None:
        return "NULL"
    if oid in (20, 21, 23):
        return value
    return "'" + value.replace("'", "''") + "'"


def _columns(text: str) -> tuple[str | None, str]:
    """The list of columns after the name, and what comes after it."""
    text = text.lstrip()
    if not text.startswith("("):
        return None, text
    depth = 0
    for at, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return re.sub(r"--[^\n]*", "", text[1:at]), text[at + 1 :]
    return None, text


def _load(
    server: Server, name: str, columns: str, rest: str, data: pathlib.Path | None
) -> bool:
    location = re.search(r"location\s+'([^']*)'", rest, re.IGNORECASE)
    if not location or data is None or not re.search(r"stored\s+as\s+csv", rest, re.IGNORECASE):
        return False
    path = data / pathlib.PurePosixPath(location[1]).name
    if not path.is_file():
        return False
    header = re.search(r"'format\.has_header'\s+'?true|with\s+header\s+row", rest, re.IGNORECASE)
    delimiter = re.search(r"'format\.delimiter'\s+'(.)'", rest)
    rows = list(csv.reader(path.open(), delimiter=delimiter[1] if delimiter else ","))
    if header:
        rows = rows[1:]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    wider = re.sub(r"bigint\s+unsigned", "numeric(20)", columns, flags=re.IGNORECASE)
    for definition in (columns, wider):
        if _create(server, name, definition).failed:
            return False
        copied = text.getvalue().encode()
        if not server.run(f"COPY {name} FROM STDIN (FORMAT csv)", copied).failed:
            return True
        server.run(f"DROP TABLE {name}")
    return False


def copy(server: Server, sql: str, data: pathlib.Path | None) -> Answer | None:
    """A COPY from a file as a COPY from the client."""
    found = re.match(r"(\s*copy\s+.*?\bfrom\s+)'([^']*)'(.*)", sql, re.IGNORECASE | re.DOTALL)
    if not found:
        return None
    path = data / pathlib.PurePosixPath(found[2]).name if data else None
    if path is None or not path.is_file():
        return Answer("", "the file of a COPY is not here")
    return server.run(f"{found[1]}STDIN{found[3]}", path.read_bytes())
