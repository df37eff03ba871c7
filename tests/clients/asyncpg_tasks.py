"""asyncpg, with pgvector's codecs."""

from __future__ import annotations

import asyncio
import io
import json
import uuid
from collections.abc import Awaitable, Callable
from datetime import date, datetime, timedelta, timezone
from datetime import time as time_of_day
from decimal import Decimal
from typing import Any

import asyncpg
import numpy as np
from pgvector.asyncpg import register_vector

from tasks import DATABASE, USER, equal, host_port, run, task

Connection = asyncpg.Connection
AsyncTask = Callable[[Connection], Awaitable[None]]


async def connect(**options: Any) -> Connection:
    host, port = host_port()
    return await asyncpg.connect(host=host, port=port, user=USER, database=DATABASE, **options)


def connected(function: AsyncTask) -> AsyncTask:
    """Makes a task of a coroutine that takes a connection."""

    async def with_connection() -> None:
        connection = await connect()
        try:
            await function(connection)
        finally:
            connection.terminate()

    def in_loop() -> None:
        asyncio.run(with_connection())

    in_loop.__name__ = function.__name__
    task(in_loop)
    return function


async def fresh(connection: Connection, table: str, columns: str) -> None:
    await connection.execute(f"DROP TABLE IF EXISTS {table}")
    await connection.execute(f"CREATE TABLE {table} ({columns})")


async def round_trip(connection: Connection, table: str, type_name: str, value: Any) -> None:
    await fresh(connection, table, f"id integer PRIMARY KEY, v {type_name}")
    await connection.execute(f"INSERT INTO {table} VALUES (1, $1), (2, NULL)", value)
    rows = await connection.fetch(f"SELECT v FROM {table} ORDER BY id")
    equal([row["v"] for row in rows], [value, None])


@connected
async def create_insert_select(connection: Connection) -> None:
    await fresh(connection, "asyncpg_docs", "id integer PRIMARY KEY, title text NOT NULL")
    tag = await connection.execute("INSERT INTO asyncpg_docs VALUES ($1, $2)", 1, "one")
    equal(tag, "INSERT 0 1")
    row = await connection.fetchrow("SELECT * FROM asyncpg_docs WHERE id = $1", 1)
    equal(dict(row), {"id": 1, "title": "one"})


@connected
async def executemany(connection: Connection) -> None:
    await fresh(connection, "asyncpg_many", "id integer PRIMARY KEY, title text")
    await connection.executemany(
        "INSERT INTO asyncpg_many VALUES ($1, $2)", [(i, f"row {i}") for i in range(1000)]
    )
    row = await connection.fetchrow("SELECT count(*), max(id), min(title) FROM asyncpg_many")
    equal(tuple(row), (1000, 999, "row 0"))


@connected
async def prepared_vector_search(connection: Connection) -> None:
    await register_vector(connection)
    await fresh(connection, "asyncpg_vectors", "id integer PRIMARY KEY, embedding vector(3)")
    await connection.executemany(
        "INSERT INTO asyncpg_vectors VALUES ($1, $2)",
        [(i, np.array([i, 0, 1])) for i in range(100)],
    )
    await connection.execute("CREATE INDEX ON asyncpg_vectors USING hnsw (embedding vector_l2_ops)")
    search = await connection.prepare(
        "SELECT id, embedding FROM asyncpg_vectors ORDER BY embedding <-> $1 LIMIT $2"
    )
    equal([p.name for p in search.get_parameters()], ["vector", "int8"])
    equal([(a.name, a.type.name) for a in search.get_attributes()],
          [("id", "int4"), ("embedding", "vector")])
    for wanted in (10, 50, 90):
        rows = await search.fetch(np.array([wanted, 0, 1]), 1)
        equal([(r["id"], r["embedding"].to_list()) for r in rows], [(wanted, [wanted, 0, 1])])


@connected
async def transaction_rollback(connection: Connection) -> None:
    await fresh(connection, "asyncpg_rollback", "id integer PRIMARY KEY")
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("INSERT INTO asyncpg_rollback VALUES (1)")
    equal(await connection.fetchval("SELECT count(*) FROM asyncpg_rollback"), 1)
    await transaction.rollback()
    equal(await connection.fetchval("SELECT count(*) FROM asyncpg_rollback"), 0)


@connected
async def savepoint(connection: Connection) -> None:
    await fresh(connection, "asyncpg_savepoint", "id integer PRIMARY KEY")
    async with connection.transaction():
        await connection.execute("INSERT INTO asyncpg_savepoint VALUES (1)")
        try:
            async with connection.transaction():
                await connection.execute("INSERT INTO asyncpg_savepoint VALUES (2)")
                await connection.execute("INSERT INTO asyncpg_savepoint VALUES (1)")
        except asyncpg.UniqueViolationError:
            pass
        await connection.execute("INSERT INTO asyncpg_savepoint VALUES (3)")
    rows = await connection.fetch("SELECT id FROM asyncpg_savepoint ORDER BY id")
    equal([row["id"] for row in rows], [1, 3])


@connected
async def isolation_levels(connection: Connection) -> None:
    for level in ("read_committed", "repeatable_read", "serializable"):
        async with connection.transaction(isolation=level):
            shown = await connection.fetchval("SHOW transaction_isolation")
            equal(shown, level.replace("_", " "))


@connected
async def errors(connection: Connection) -> None:
    await fresh(connection, "asyncpg_errors", "id integer PRIMARY KEY, v text NOT NULL")
    await connection.execute("INSERT INTO asyncpg_errors VALUES (1, 'a')")
    cases: list[tuple[str, tuple[Any, ...], type[Exception]]] = [
        ("SELECT * FROM asyncpg_nowhere", (), asyncpg.UndefinedTableError),
        ("SELECT nothing FROM asyncpg_errors", (), asyncpg.UndefinedColumnError),
        ("SELECT FROM WHERE", (), asyncpg.PostgresSyntaxError),
        ("SELECT 1 / (id - 1) FROM asyncpg_errors", (), asyncpg.DivisionByZeroError),
        ("INSERT INTO asyncpg_errors VALUES (1, 'b')", (), asyncpg.UniqueViolationError),
        ("INSERT INTO asyncpg_errors VALUES (2, $1)", (None,), asyncpg.NotNullViolationError),
        ("SELECT id FROM asyncpg_errors WHERE id = $1", ("x",), asyncpg.DataError),
    ]
    for statement, arguments, kind in cases:
        try:
            await connection.fetch(statement, *arguments)
        except kind:
            pass
        else:
            raise AssertionError(f"{statement} did not fail")
        equal(await connection.fetchval("SELECT 1"), 1)


@connected
async def error_fields(connection: Connection) -> None:
    await fresh(connection, "asyncpg_fields", "id integer PRIMARY KEY")
    await connection.execute("INSERT INTO asyncpg_fields VALUES (1)")
    try:
        await connection.execute("INSERT INTO asyncpg_fields VALUES (1)")
    except asyncpg.UniqueViolationError as error:
        equal(
            (error.table_name, error.constraint_name, error.schema_name, error.detail),
            ("asyncpg_fields", "asyncpg_fields_pkey", "public", "Key (id)=(1) already exists."),
        )


@connected
async def scalar_types(connection: Connection) -> None:
    instant = datetime(2001, 2, 3, 4, 5, 6, 789012)
    for place, (type_name, value) in enumerate(
        [
            ("boolean", True),
            ("smallint", -32768),
            ("integer", 2**31 - 1),
            ("bigint", -(2**63)),
            ("real", 1.5),
            ("double precision", 0.1),
            ("text", "Grüße\n"),
            ("varchar", "größer"),
            ("bytea", bytes(range(256))),
            ("date", date(1999, 12, 31)),
            ("timestamp", instant),
            ("timestamptz", instant.replace(tzinfo=timezone.utc)),
        ]
    ):
        await round_trip(connection, f"asyncpg_scalar_{place}", type_name, value)


@connected
async def numeric_type(connection: Connection) -> None:
    value = Decimal("-12345678901234567890.123456789")
    await round_trip(connection, "asyncpg_numeric", "numeric", value)


@connected
async def uuid_type(connection: Connection) -> None:
    await round_trip(connection, "asyncpg_uuid", "uuid", uuid.UUID(int=12345678901234567890))


@connected
async def jsonb_type(connection: Connection) -> None:
    await connection.set_type_codec(
        "jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog"
    )
    await round_trip(connection, "asyncpg_jsonb", "jsonb", {"a": [1, None, "x"]})


@connected
async def array_types(connection: Connection) -> None:
    await round_trip(connection, "asyncpg_integers", "integer[]", [1, None, 3])
    await round_trip(connection, "asyncpg_texts", "text[]", ["a", 'b"c', None])


@connected
async def any_of_array(connection: Connection) -> None:
    await fresh(connection, "asyncpg_any", "id integer PRIMARY KEY")
    await connection.execute("INSERT INTO asyncpg_any VALUES (1), (2), (3)")
    rows = await connection.fetch(
        "SELECT id FROM asyncpg_any WHERE id = ANY($1::int[]) ORDER BY id", [1, 3, 9]
    )
    equal([row["id"] for row in rows], [1, 3])


@connected
async def insert_from_unnest(connection: Connection) -> None:
    await fresh(connection, "asyncpg_unnest", "id integer PRIMARY KEY, title text")
    await connection.execute(
        "INSERT INTO asyncpg_unnest SELECT * FROM unnest($1::int[], $2::text[])",
        [1, 2], ["a", "b"],
    )
    rows = await connection.fetch("SELECT * FROM asyncpg_unnest ORDER BY id")
    equal([tuple(row) for row in rows], [(1, "a"), (2, "b")])


@connected
async def time_and_interval_types(connection: Connection) -> None:
    await round_trip(connection, "asyncpg_time", "time", time_of_day(23, 59, 59, 999999))
    await round_trip(connection, "asyncpg_interval", "interval", timedelta(days=3, seconds=5))


@connected
async def enum_type(connection: Connection) -> None:
    await connection.execute("DROP TABLE IF EXISTS asyncpg_enum")
    await connection.execute("DROP TYPE IF EXISTS asyncpg_color")
    await connection.execute("CREATE TYPE asyncpg_color AS ENUM ('red', 'blue')")
    await round_trip(connection, "asyncpg_enum", "asyncpg_color", "blue")


@connected
async def rows_and_records(connection: Connection) -> None:
    equal(tuple(await connection.fetchval("SELECT ROW(1, 'a'::text)")), (1, "a"))


@connected
async def identity_key(connection: Connection) -> None:
    await fresh(
        connection,
        "asyncpg_identity",
        "id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, title text",
    )
    insert = "INSERT INTO asyncpg_identity (title) VALUES ($1) RETURNING id"
    equal([await connection.fetchval(insert, t) for t in "ab"], [1, 2])


@connected
async def cursor_stream(connection: Connection) -> None:
    await fresh(connection, "asyncpg_stream", "i integer PRIMARY KEY, filler text")
    await connection.copy_records_to_table(
        "asyncpg_stream", records=[(i, "x" * 100) for i in range(20000)]
    )
    total = 0
    async with connection.transaction():
        async for row in connection.cursor("SELECT i, filler FROM asyncpg_stream", prefetch=500):
            total += row["i"]
    equal(total, 199_990_000)


@connected
async def cursor_move(connection: Connection) -> None:
    await fresh(connection, "asyncpg_move", "i integer PRIMARY KEY")
    await connection.copy_records_to_table("asyncpg_move", records=[(i,) for i in range(100)])
    async with connection.transaction():
        cursor = await connection.cursor("SELECT i FROM asyncpg_move ORDER BY i")
        equal(await cursor.forward(10), 10)
        equal([row["i"] for row in await cursor.fetch(2)], [10, 11])


@connected
async def timeout(connection: Connection) -> None:
    await fresh(connection, "asyncpg_long", "i integer PRIMARY KEY")
    await connection.copy_records_to_table("asyncpg_long", records=[(i,) for i in range(20000)])
    try:
        await connection.fetch(
            "SELECT count(*) FROM asyncpg_long a, asyncpg_long b WHERE a.i + b.i = 7", timeout=0.5
        )
        raise AssertionError("there was no timeout")
    except asyncio.TimeoutError:
        pass
    equal(await connection.fetchval("SELECT 1"), 1)


@connected
async def copy_records(connection: Connection) -> None:
    await register_vector(connection)
    await fresh(connection, "asyncpg_copy", "id bigint PRIMARY KEY, title text, e vector(3)")
    tag = await connection.copy_records_to_table(
        "asyncpg_copy",
        columns=["id", "title", "e"],
        records=[(i, None if i % 2 else "even", np.array([i, 1, 2])) for i in range(1000)],
    )
    equal(tag, "COPY 1000")
    row = await connection.fetchrow("SELECT count(title), sum(id) FROM asyncpg_copy")
    equal(tuple(row), (500, 499500))


@connected
async def copy_from_query(connection: Connection) -> None:
    await fresh(connection, "asyncpg_copy_out", "id integer PRIMARY KEY, title text")
    await connection.execute("INSERT INTO asyncpg_copy_out VALUES (1, 'a,b'), (2, NULL)")
    out = io.BytesIO()
    await connection.copy_from_query(
        "SELECT id, title FROM asyncpg_copy_out WHERE id < $1 ORDER BY id", 10,
        output=out, format="csv",
    )
    equal(out.getvalue(), b'1,"a,b"\n2,\n')
    await connection.copy_to_table(
        "asyncpg_copy_out", source=io.BytesIO(b"3;c\n"), format="csv", delimiter=";"
    )
    equal(await connection.fetchval("SELECT title FROM asyncpg_copy_out WHERE id = 3"), "c")


@connected
async def upsert_returning(connection: Connection) -> None:
    await fresh(connection, "asyncpg_upsert", "id integer PRIMARY KEY, title text")
    upsert = (
        "INSERT INTO asyncpg_upsert VALUES ($1, $2) ON CONFLICT (id) "
        "DO UPDATE SET title = EXCLUDED.title RETURNING id, title"
    )
    equal(tuple(await connection.fetchrow(upsert, 1, "a")), (1, "a"))
    equal(tuple(await connection.fetchrow(upsert, 1, "b")), (1, "b"))


@connected
async def pool(connection: Connection) -> None:
    host, port = host_port()
    await fresh(connection, "asyncpg_pool", "id integer PRIMARY KEY")
    async with asyncpg.create_pool(
        host=host, port=port, user=USER, database=DATABASE, min_size=1, max_size=3
    ) as made:
        async def insert(number: int) -> None:
            await made.execute("INSERT INTO asyncpg_pool VALUES ($1)", number)

        await asyncio.gather(*(insert(i) for i in range(30)))
        equal(await made.fetchval("SELECT sum(id) FROM asyncpg_pool"), 435)
        async with made.acquire() as one:
            await one.execute("SET statement_timeout = '5s'")
        async with made.acquire() as one:
            equal(await one.fetchval("SHOW statement_timeout"), "0")


@connected
async def reflection(connection: Connection) -> None:
    await fresh(connection, "asyncpg_reflect", "a bigint PRIMARY KEY, b text, c vector(3) NOT NULL")
    rows = await connection.fetch(
        """
        SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull,
               EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary
                       AND a.attnum = ANY(i.indkey)) AS is_key
        FROM pg_attribute a
        WHERE a.attrelid = 'asyncpg_reflect'::regclass AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attnum
        """
    )
    equal(
        [tuple(row) for row in rows],
        [("a", "bigint", True, True), ("b", "text", False, False), ("c", "vector(3)", True, False)],
    )


@connected
async def listen_notify(connection: Connection) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    await connection.add_listener("asyncpg_news", lambda *args: heard.put_nowait(args[3]))
    other = await connect()
    await other.execute("NOTIFY asyncpg_news, 'hello'")
    equal(await asyncio.wait_for(heard.get(), 5), "hello")
    other.terminate()


@connected
async def server_settings(connection: Connection) -> None:
    other = await connect(server_settings={"application_name": "clients", "jit": "off"})
    equal(await other.fetchval("SHOW application_name"), "clients")
    equal(await other.fetchval("SELECT current_setting('jit')"), "off")
    equal(connection.get_server_version().major >= 15, True)
    other.terminate()


if __name__ == "__main__":
    run("asyncpg")
