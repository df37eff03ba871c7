"""A connection that sends statements and keeps what comes back as it came."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from psycopg import pq

from statements import Statement
from tree import render

# Types that one server has and the other answers with another one of.
_SAME_TYPE = {1700: 701, 1043: 25, 705: 25}
TYPE_NAMES = {16: "boolean", 17: "bytea", 20: "bigint", 21: "smallint", 23: "integer", 25: "text",
              700: "real", 701: "double precision", 1082: "date", 1114: "timestamp",
              1184: "timestamptz", 1186: "interval"}  # fmt: skip
FLOAT_TYPES = {"real", "double precision"}

Row = tuple[str | None, ...]


def type_name(oid: int) -> str:
    oid = _SAME_TYPE.get(oid, oid)
    return TYPE_NAMES.get(oid, f"type {oid}" if oid < 10000 else "other")


@dataclass
class Answer:
    """What one statement was answered with: an error, or rows and a tag."""

    state: str = ""
    message: str = ""
    tag: str = ""
    names: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def brief(self) -> str:
        if self.state:
            return f"{self.state} {self.message}"
        rows = "; ".join(
            ", ".join("NULL" if v is None else v for v in row) for row in self.rows[:8]
        )
        more = "; ..." if len(self.rows) > 8 else ""
        return f"{self.tag} {{{', '.join(self.types)}}} [{rows}{more}]"


class Lost(Exception):
    """The server ended the connection."""


class Server:
    def __init__(self, name: str, address: str, database: str):
        self.name = name
        host, port = address.split(":")
        self.conninfo = f"host={host} port={port} user=azimuth dbname={database}".encode()
        self.connect()

    def connect(self) -> None:
        self.connection = pq.PGconn.connect(self.conninfo)
        if self.connection.status != pq.ConnStatus.OK:
            raise Lost(self.connection.error_message.decode())
        for setting in ("timezone = 'UTC'", "statement_timeout = '20s'"):
            self.run(f"SET {setting}")

    def run(self, sql: str) -> Answer:
        return self._answer(self.connection.exec_(sql.encode()))

    def must(self, sql: str) -> Answer:
        answer = self.run(sql)
        if answer.state:
            raise RuntimeError(f"{self.name} refused {sql[:300]}: {answer.brief()}")
        return answer

    def send(self, statement: Statement) -> list[Answer]:
        """One answer for each time that the statement is executed."""
        sql, parameters = render(statement.tree)
        if not parameters:
            if statement.extended:
                return [self._answer(self.connection.exec_params(sql.encode(), None))]
            return [self.run(sql)]
        prepared = self._answer(self.connection.prepare(b"", sql.encode()))
        if prepared.state:
            return [prepared]
        described = self.connection.describe_prepared(b"")
        types = [type_name(described.param_type(at)) for at in range(described.nparams)]
        answers = [Answer(tag="PARAMETERS", types=types)]
        for execution in range(3):
            values = [parameter.values[execution] for parameter in parameters]
            texts = [None if value is None else value.encode() for value in values]
            answers.append(self._answer(self.connection.exec_prepared(b"", texts)))
        return answers

    def end_transaction(self) -> None:
        if self.connection.transaction_status != pq.TransactionStatus.IDLE:
            self.run("ROLLBACK")

    def _answer(self, result: pq.PGresult) -> Answer:
        if self.connection.status != pq.ConnStatus.OK:
            raise Lost(result.error_message.decode())
        if result.status == pq.ExecStatus.FATAL_ERROR:
            field_of = lambda code: (result.error_field(code) or b"").decode()  # noqa: E731
            return Answer(
                field_of(pq.DiagnosticField.SQLSTATE), field_of(pq.DiagnosticField.MESSAGE_PRIMARY)
            )
        columns = range(result.nfields)
        cell = lambda row, column: (  # noqa: E731
            None
            if (value := result.get_value(row, column)) is None
            else value.decode(errors="replace")
        )
        return Answer(
            tag=(result.command_status or b"").decode(),
            names=[(result.fname(at) or b"").decode() for at in columns],
            types=[type_name(result.ftype(at)) for at in columns],
            rows=[tuple(cell(row, column) for column in columns) for row in range(result.ntuples)],
        )


_TYPE = re.compile(
    r"\b(character varying|double precision|timestamp with(out)? time zone|boolean|smallint|integer"
    r"|bigint|real|text|bytea|date|interval|numeric|unknown|(Large)?Utf8(View)?|U?Int\d+|Float\d+"
    r"|Date\d+|Boolean|Binary|Timestamp\([^)]*\)|Duration\([^)]*\)|Interval\([^)]*\)"
    r"|FixedSizeList\([^)]*\)|vector(\(\d\))?)(?!\w)"
)


def shape_of_message(message: str) -> str:
    """A message without the names, types and numbers that differ from case to case."""
    message = _TYPE.sub("T", message)
    message = re.sub(r"\"[^\"]*\"|'[^']*'|`[^`]*`", "_", message)
    message = re.sub(r"\b[act]\d+(\.\w+)?\b|\bexcluded\.\w+", "_", message)
    message = re.sub(r"-?\d+(\.\d+)?(e[+-]?\d+)?", "0", message)
    return re.split(r"[\n\[{]", message)[0][:110]
