"""A connection that sends statements and keeps what comes back as text."""

from __future__ import annotations

import select
import time
from dataclasses import dataclass, field

from psycopg import pq

TIMED_OUT = "no answer in time"


@dataclass
class Answer:
    state: str = ""
    message: str = ""
    tag: str = ""
    names: list[str] = field(default_factory=list)
    oids: list[int] = field(default_factory=list)
    rows: list[list[str | None]] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return bool(self.message)


class Server:
    def __init__(self, address: str, user: str, database: str, timeout: float, extended: bool):
        host, port = address.split(":")
        self.conninfo = f"host={host} port={port} user={user} dbname={database}".encode()
        self.timeout, self.extended = timeout, extended
        self.schema = ""
        self.schemas = True
        self.connect()

    def connect(self) -> None:
        self.connection = pq.PGconn.connect(self.conninfo)
        if self.connection.status != pq.ConnStatus.OK:
            raise SystemExit(f"no connection: {self.connection.error_message.decode().strip()}")
        self.connection.notice_handler = None
        self.run(f"SET statement_timeout = {int(self.timeout * 1000)}")
        self.run("SET TimeZone = 'UTC'")
        if self.schema:
            self.run(f"SET search_path TO {self.schema}")

    def fresh(self, schema: str) -> None:
        """A schema of its own for a file; where there are none, no tables."""
        self.close()
        self.schema = ""
        self.connect()
        if self.schemas:
            self.run(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
            self.run(f"CREATE SCHEMA {schema}")
            self.run(f"SET search_path TO {schema}")
            self.schemas = not self.run("CREATE TABLE probe_of_schema (a INT)").failed
            if self.schemas:
                self.run("DROP TABLE probe_of_schema")
                self.schema = schema
                return
            self.run(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
            self.close()
            self.connect()
        self.drop_all()

    def leave(self) -> None:
        if self.schema:
            self.run(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")
        else:
            self.drop_all()

    def drop_all(self) -> None:
        found = self.run(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        )
        for (name,) in found.rows:
            self.run('DROP TABLE "' + (name or "").replace('"', '""') + '"')

    def close(self) -> None:
        self.connection.finish()

    def run(self, sql: str, copied: bytes | None = None) -> Answer:
        """Sends a statement, and the rows of a COPY from the client."""
        connection = self.connection
        if "\0" in sql:
            return Answer("", "a statement with a zero byte cannot be sent")
        try:
            if self.extended and copied is None:
                connection.send_query_params(sql.encode(), None)
            else:
                connection.send_query(sql.encode())
            return self._answer(copied)
        except Exception as lost:  # noqa: BLE001  whatever ends the connection is an answer
            self.close()
            self.connect()
            return Answer("", f"connection lost: {str(lost).strip()}")

    def _answer(self, copied: bytes | None) -> Answer:
        connection, answer = self.connection, Answer()
        end = time.monotonic() + self.timeout
        while True:
            while connection.is_busy():
                left = end - time.monotonic()
                if left <= 0 or not select.select([connection.socket], [], [], left)[0]:
                    connection.get_cancel().cancel()
                    self.close()
                    self.connect()
                    return Answer("", TIMED_OUT)
                connection.consume_input()
            result = connection.get_result()
            if result is None:
                return answer
            if result.status == pq.ExecStatus.COPY_IN:
                connection.put_copy_data(copied or b"")
                connection.put_copy_end()
            elif result.status == pq.ExecStatus.COPY_OUT:
                while connection.get_copy_data(0)[0] > 0:
                    pass
            elif result.status == pq.ExecStatus.FATAL_ERROR:
                field_of = pq.DiagnosticField
                answer.state = (result.error_field(field_of.SQLSTATE) or b"").decode()
                primary = result.error_field(field_of.MESSAGE_PRIMARY) or result.error_message
                answer.message = (primary or b"an error without a message").decode().strip()
                if connection.status == pq.ConnStatus.BAD:
                    self.close()
                    self.connect()
                    answer.message = f"connection lost: {answer.message}"
                    return answer
            else:
                answer.tag = (result.command_status or b"").decode()
                columns = range(result.nfields)
                answer.names = [(result.fname(c) or b"").decode() for c in columns]
                answer.oids = [result.ftype(c) for c in columns]
                answer.rows = [
                    [None if (v := result.get_value(r, c)) is None else v.decode() for c in columns]
                    for r in range(result.ntuples)
                ]
