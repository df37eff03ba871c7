"""psycopg 3, with pgvector's adapters."""

from __future__ import annotations

import threading
import time
import uuid
from datetime import date, datetime, timedelta, timezone
from datetime import time as time_of_day
from decimal import Decimal
from typing import Any, LiteralString

import numpy as np
import psycopg
from pgvector import Bit, HalfVector, SparseVector
from pgvector.psycopg import register_vector
from psycopg import sql
from psycopg.rows import class_row, dict_row
from psycopg.types.enum import EnumInfo
from psycopg.types.json import Jsonb

from tasks import DATABASE, USER, equal, host_port, run, task

Connection = psycopg.Connection[Any]

SCALARS: list[tuple[LiteralString, Any]] = [
    ("boolean", True),
    ("smallint", -32768),
    ("integer", 2147483647),
    ("bigint", -9223372036854775808),
    ("real", 1.5),
    ("double precision", 0.1),
    ("text", "Grüße 'x' \\ \t\n"),
    ("varchar", "größer"),
    ("bytea", bytes(range(256))),
    ("date", date(1999, 12, 31)),
    ("timestamp", datetime(2001, 2, 3, 4, 5, 6, 789012)),
    ("timestamptz", datetime(2001, 2, 3, 4, 5, 6, 789012, timezone.utc)),
]


def connect(**options: Any) -> Connection:
    host, port = host_port()
    return psycopg.connect(host=host, port=port, user=USER, dbname=DATABASE, **options)


def fresh(connection: Connection, table: str, columns: LiteralString) -> None:
    name = sql.Identifier(table)
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name))
    connection.execute(sql.SQL("CREATE TABLE {} ({})").format(name, sql.SQL(columns)))
    connection.commit()


def round_trip(table: str, type_name: LiteralString, values: list[Any]) -> None:
    """Writes the values and NULL, and reads them, in text and in binary format."""
    with connect() as connection:
        fresh(connection, table, sql_columns(type_name))
        for binary in (False, True):
            placeholder = "%b" if binary else "%t"
            for place, value in enumerate([*values, None]):
                connection.execute(
                    f"INSERT INTO {table} VALUES (%s, {placeholder})",  # type: ignore[arg-type]
                    (place + (100 if binary else 0), value),
                )
            rows = connection.cursor(binary=binary).execute(
                f"SELECT v FROM {table} WHERE id >= %s ORDER BY id",  # type: ignore[arg-type]
                (100 if binary else 0,),
            )
            equal([row[0] for row in rows], [*values, None])


def numbers(connection: Connection, table: str, count: int) -> None:
    """A table with the numbers from one to `count`."""
    fresh(connection, table, "i integer PRIMARY KEY, filler text")
    with connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:  # type: ignore[arg-type]
        copy.write("".join(f"{i}\t{'x' * 100}\n" for i in range(1, count + 1)))
    connection.commit()


def sql_columns(type_name: LiteralString) -> LiteralString:
    return "id integer PRIMARY KEY, v " + type_name


@task
def create_insert_select() -> None:
    with connect() as connection:
        fresh(connection, "psycopg_docs", "id integer PRIMARY KEY, title text NOT NULL, price real")
        cursor = connection.execute(
            "INSERT INTO psycopg_docs VALUES (%s, %s, %s)", (1, "one", 1.5)
        )
        equal((cursor.rowcount, cursor.statusmessage), (1, "INSERT 0 1"))
        cursor = connection.execute("SELECT * FROM psycopg_docs")
        description = cursor.description
        assert description is not None
        equal([column.name for column in description], ["id", "title", "price"])
        equal([column.type_code for column in description], [23, 25, 700])
        equal(cursor.fetchall(), [(1, "one", 1.5)])


@task
def identity_key() -> None:
    with connect() as connection:
        fresh(
            connection,
            "psycopg_identity",
            "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text",
        )
        for number in (1, 2, 3):
            row = connection.execute(
                "INSERT INTO psycopg_identity (title) VALUES (%s) RETURNING id", (str(number),)
            ).fetchone()
            equal(row, (number,))


@task
def serial_key() -> None:
    with connect() as connection:
        fresh(connection, "psycopg_serial", "id serial PRIMARY KEY, title text")
        insert: LiteralString = "INSERT INTO psycopg_serial (title) VALUES (%s) RETURNING id"
        equal([connection.execute(insert, (t,)).fetchone() for t in "ab"], [(1,), (2,)])
        row = connection.execute("SELECT currval(pg_get_serial_sequence('psycopg_serial', 'id'))")
        equal(row.fetchone(), (2,))


@task
def defaults() -> None:
    with connect() as connection:
        fresh(
            connection,
            "psycopg_defaults",
            "id integer PRIMARY KEY, state text NOT NULL DEFAULT 'new', "
            "made timestamptz NOT NULL DEFAULT now(), count integer DEFAULT 1 + 1",
        )
        row = connection.execute(
            "INSERT INTO psycopg_defaults (id) VALUES (1) RETURNING state, made = now(), count"
        ).fetchone()
        equal(row, ("new", True, 2))
        row = connection.execute(
            "INSERT INTO psycopg_defaults VALUES (2, DEFAULT, DEFAULT, 7) RETURNING state, count"
        ).fetchone()
        equal(row, ("new", 7))


@task
def unique_constraint() -> None:
    with connect() as connection:
        fresh(connection, "psycopg_unique", "id integer PRIMARY KEY, mail text UNIQUE")
        connection.execute("INSERT INTO psycopg_unique VALUES (1, 'a@example.org')")
        connection.commit()
        try:
            connection.execute("INSERT INTO psycopg_unique VALUES (2, 'a@example.org')")
        except psycopg.errors.UniqueViolation as error:
            equal(error.diag.constraint_name, "psycopg_unique_mail_key")
            equal(error.diag.table_name, "psycopg_unique")
        else:
            raise AssertionError("a mail twice was accepted")


@task
def check_constraint() -> None:
    with connect() as connection:
        columns: LiteralString = "id integer PRIMARY KEY, price integer CHECK (price > 0)"
        fresh(connection, "psycopg_check", columns)
        try:
            connection.execute("INSERT INTO psycopg_check VALUES (1, 0)")
        except psycopg.errors.CheckViolation as error:
            equal(error.diag.constraint_name, "psycopg_check_price_check")
        else:
            raise AssertionError("a price of 0 was accepted")


@task
def foreign_key() -> None:
    with connect() as connection:
        connection.execute("DROP TABLE IF EXISTS psycopg_child")
        fresh(connection, "psycopg_parent", "id integer PRIMARY KEY")
        fresh(
            connection,
            "psycopg_child",
            "id integer PRIMARY KEY, "
            "parent integer NOT NULL REFERENCES psycopg_parent ON DELETE CASCADE",
        )
        connection.execute("INSERT INTO psycopg_parent VALUES (1)")
        connection.execute("INSERT INTO psycopg_child VALUES (10, 1)")
        connection.commit()
        try:
            connection.execute("INSERT INTO psycopg_child VALUES (11, 2)")
        except psycopg.errors.ForeignKeyViolation:
            connection.rollback()
        else:
            raise AssertionError("a child without a parent was accepted")
        connection.execute("DELETE FROM psycopg_parent")
        equal(connection.execute("SELECT count(*) FROM psycopg_child").fetchone(), (0,))


@task
def executemany() -> None:
    with connect() as connection:
        fresh(connection, "psycopg_many", "id integer PRIMARY KEY, title text")
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO psycopg_many VALUES (%s, %s)", [(i, f"row {i}") for i in range(1000)]
            )
            equal(cursor.rowcount, 1000)
        rows = connection.execute("SELECT count(*), min(title), max(id) FROM psycopg_many")
        equal(rows.fetchall(), [(1000, "row 0", 999)])


@task
def executemany_returning() -> None:
    with connect() as connection:
        fresh(connection, "psycopg_returning", "id integer PRIMARY KEY, title text")
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO psycopg_returning VALUES (%s, %s) RETURNING id, upper(title)",
                [(1, "a"), (2, "b"), (3, "c")],
                returning=True,
            )
            found = []
            while True:
                found.append(cursor.fetchone())
                if not cursor.nextset():
                    break
        equal(found, [(1, "A"), (2, "B"), (3, "C")])


@task
def prepared_vector_search() -> None:
    with connect() as connection:
        register_vector(connection)
        fresh(connection, "psycopg_vectors", "id integer PRIMARY KEY, embedding vector(3)")
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO psycopg_vectors VALUES (%s, %s)",
                [(i, np.array([i, 0, 1], dtype=np.float32)) for i in range(100)],
            )
        connection.execute(
            "CREATE INDEX ON psycopg_vectors USING hnsw (embedding vector_l2_ops)"
        )
        for wanted in (10, 50, 90):
            rows = connection.execute(
                "SELECT id, embedding, embedding <-> %s AS distance FROM psycopg_vectors "
                "ORDER BY embedding <-> %s LIMIT 1",
                (np.array([wanted, 0, 1]), np.array([wanted, 0, 1])),
                prepare=True,
                binary=True,
            ).fetchall()
            equal([(r[0], r[1].to_list(), r[2]) for r in rows], [(wanted, [wanted, 0, 1], 0.0)])


@task
def halfvec_and_sparsevec() -> None:
    with connect() as connection:
        register_vector(connection)
        fresh(connection, "psycopg_kinds", "id integer PRIMARY KEY, h halfvec(3), s sparsevec(5)")
        connection.execute(
            "INSERT INTO psycopg_kinds VALUES (1, %s, %s)",
            (HalfVector([1, 2.5, -3]), SparseVector({0: 1.5, 2: 2}, 5)),
        )
        for binary in (False, True):
            row = connection.execute("SELECT h, s FROM psycopg_kinds", binary=binary).fetchone()
            assert row is not None
            equal(
                (row[0].to_list(), row[1].to_list()),
                ([1.0, 2.5, -3.0], [1.5, 0.0, 2.0, 0.0, 0.0]),
            )


@task
def bit_vector() -> None:
    with connect() as connection:
        register_vector(connection)
        fresh(connection, "psycopg_bits", "id integer PRIMARY KEY, b bit(3)")
        connection.execute("INSERT INTO psycopg_bits VALUES (1, %s), (2, '001')", (Bit("101"),))
        rows = connection.execute(
            "SELECT b, b <~> %s FROM psycopg_bits ORDER BY b <~> %s", (Bit("100"), Bit("100"))
        ).fetchall()
        equal(rows, [("101", 1.0), ("001", 2.0)])


@task
def transaction_rollback() -> None:
    with connect() as connection:
        fresh(connection, "psycopg_rollback", "id integer PRIMARY KEY")
        connection.execute("INSERT INTO psycopg_rollback VALUES (1)")
        with connect() as other:
            equal(other.execute("SELECT count(*) FROM psycopg_rollback").fetchone(), (0,))
        connection.rollback()
        equal(connection.execute("SELECT count(*) FROM psycopg_rollback").fetchone(), (0,))
        equal(connection.info.transaction_status, psycopg.pq.TransactionStatus.INTRANS)


@task
def savepoint() -> None:
    with connect() as connection:
        fresh(connection, "psycopg_savepoint", "id integer PRIMARY KEY")
        with connection.transaction():
            connection.execute("INSERT INTO psycopg_savepoint VALUES (1)")
            try:
                with connection.transaction():
                    connection.execute("INSERT INTO psycopg_savepoint VALUES (2)")
                    connection.execute("INSERT INTO psycopg_savepoint VALUES (1)")
            except psycopg.errors.UniqueViolation:
                pass
            with connection.transaction(savepoint_name="third"):
                connection.execute("INSERT INTO psycopg_savepoint VALUES (3)")
        rows = connection.execute("SELECT id FROM psycopg_savepoint ORDER BY id").fetchall()
        equal(rows, [(1,), (3,)])


@task
def error_codes() -> None:
    cases: list[tuple[LiteralString, str]] = [
        ("SELECT * FROM psycopg_nowhere", "42P01"),
        ("SELECT nothing FROM pg_class", "42703"),
        ("SELEC 1", "42601"),
        ("SELECT 1 / 0", "22012"),
        ("SELECT 'x'::integer", "22P02"),
        ("SELECT nothing(1)", "42883"),
        ("SELECT 'a'::text + 1", "42883"),
        ("SELECT 2147483647 + 1", "22003"),
        ("SELECT '[1,2]'::vector(3)", "22000"),
        ("CREATE TABLE psycopg_x (a nothing)", "42704"),
    ]
    with connect(autocommit=True) as connection:
        found: list[tuple[str, str | None]] = []
        for statement, _ in cases:
            try:
                connection.execute(statement)
                found.append((statement, "no error"))
            except psycopg.Error as error:
                found.append((statement, error.sqlstate))
        equal([f for f in found if f not in cases], [])
        equal(connection.execute("SELECT 1").fetchone(), (1,))


@task
def error_in_transaction() -> None:
    with connect() as connection:
        try:
            connection.execute("SELECT * FROM psycopg_nowhere")
        except psycopg.errors.UndefinedTable as error:
            equal(error.diag.message_primary, 'relation "psycopg_nowhere" does not exist')
        try:
            connection.execute("SELECT 1")
        except psycopg.errors.InFailedSqlTransaction:
            connection.rollback()
        equal(connection.execute("SELECT 1").fetchone(), (1,))


@task
def error_position() -> None:
    with connect() as connection:
        try:
            connection.execute("SELECT * FROM psycopg_nowhere")
        except psycopg.errors.UndefinedTable as error:
            equal(error.diag.statement_position, "15")


@task
def scalar_types() -> None:
    for place, (type_name, value) in enumerate(SCALARS):
        try:
            round_trip(f"psycopg_scalar_{place}", type_name, [value])
        except (psycopg.Error, AssertionError) as error:
            raise AssertionError(f"{type_name}: {error}") from error


@task
def varchar_with_length() -> None:
    round_trip("psycopg_varchar", "varchar(12)", ["twelve chars"])


@task
def numeric_type() -> None:
    round_trip(
        "psycopg_numeric", "numeric", [Decimal("0.1"), Decimal("-12345678901234567890.123456789")]
    )
    round_trip("psycopg_numeric", "numeric(10, 2)", [Decimal("12.50")])


@task
def uuid_type() -> None:
    round_trip("psycopg_uuid", "uuid", [uuid.UUID("12345678-1234-5678-1234-567812345678")])


@task
def jsonb_type() -> None:
    with connect() as connection:
        fresh(connection, "psycopg_jsonb", "id integer PRIMARY KEY, v jsonb")
        value = {"a": [1, 2.5, None, True], "b": {"c": "d"}}
        connection.execute("INSERT INTO psycopg_jsonb VALUES (1, %s), (2, NULL)", (Jsonb(value),))
        rows = connection.execute("SELECT v FROM psycopg_jsonb ORDER BY id").fetchall()
        equal(rows, [(value,), (None,)])
        row = connection.execute(
            "SELECT v -> 'b' ->> 'c', v @> '{\"b\": {}}' FROM psycopg_jsonb WHERE id = 1"
        ).fetchone()
        equal(row, ("d", True))


@task
def array_types() -> None:
    round_trip("psycopg_integers", "integer[]", [[1, 2, None], []])
    round_trip("psycopg_texts", "text[]", [["a", 'b"c', "d,e", None]])
    round_trip("psycopg_doubles", "double precision[]", [[0.1, -2.0]])


@task
def any_of_array() -> None:
    with connect() as connection:
        fresh(connection, "psycopg_any", "id integer PRIMARY KEY, title text")
        connection.execute("INSERT INTO psycopg_any VALUES (1, 'a'), (2, 'b'), (3, 'c')")
        query: LiteralString = "SELECT id FROM psycopg_any WHERE id = ANY(%s) ORDER BY id"
        equal(connection.execute(query, ([1, 3, 9],)).fetchall(), [(1,), (3,)])
        query = "SELECT id FROM psycopg_any WHERE title = ANY(%s) ORDER BY id"
        equal(connection.execute(query, (["b", "x"],)).fetchall(), [(2,)])
        rows = connection.execute("SELECT i FROM unnest(%s::integer[]) AS i ORDER BY i", ([3, 1],))
        equal(rows.fetchall(), [(1,), (3,)])


@task
def time_and_interval_types() -> None:
    round_trip("psycopg_time", "time", [time_of_day(23, 59, 59, 999999)])
    round_trip("psycopg_interval", "interval", [timedelta(days=3, hours=4, microseconds=5)])


@task
def enum_type() -> None:
    import enum

    class Color(enum.Enum):
        red = "red"
        blue = "blue"

    with connect() as connection:
        connection.execute("DROP TABLE IF EXISTS psycopg_enum")
        connection.execute("DROP TYPE IF EXISTS psycopg_color")
        connection.execute("CREATE TYPE psycopg_color AS ENUM ('red', 'blue')")
        info = EnumInfo.fetch(connection, "psycopg_color")
        assert info is not None
        psycopg.types.enum.register_enum(info, connection, Color)
        fresh(connection, "psycopg_enum", "id integer PRIMARY KEY, v psycopg_color")
        connection.execute("INSERT INTO psycopg_enum VALUES (1, %s)", (Color.blue,))
        equal(connection.execute("SELECT v FROM psycopg_enum").fetchone(), (Color.blue,))


@task
def parameters_without_types() -> None:
    with connect() as connection:
        row = connection.execute("SELECT %s, %s, %s::date", (1, "x", "2020-01-02")).fetchone()
        equal(row, (1, "x", date(2020, 1, 2)))
        equal(connection.execute("SELECT %s::text IS NULL", (None,)).fetchone(), (True,))
        row = connection.execute("SELECT coalesce(%s, 'none')", (None,)).fetchone()
        equal(row, ("none",))
        row = connection.execute(
            "SELECT %s + interval '1 day'", (datetime(2020, 1, 1, tzinfo=timezone.utc),)
        ).fetchone()
        equal(row, (datetime(2020, 1, 2, tzinfo=timezone.utc),))


@task
def named_cursor_stream() -> None:
    with connect() as connection:
        numbers(connection, "psycopg_named", 20000)
        with connection.cursor("numbers") as cursor:
            cursor.itersize = 1000
            cursor.execute("SELECT i, filler FROM psycopg_named")
            count = total = 0
            for number, text in cursor:
                count += len(text)
                total += number
        equal((count, total), (2_000_000, 200_010_000))


@task
def large_result_stream() -> None:
    with connect() as connection:
        numbers(connection, "psycopg_large", 100_000)
        total = 0
        for row in connection.cursor().stream("SELECT i, filler FROM psycopg_large"):
            total += row[0]
        equal(total, 5_000_050_000)


@task
def generate_series() -> None:
    with connect() as connection:
        rows = connection.execute("SELECT i, i * 2 FROM generate_series(1, 3) AS i ORDER BY i")
        equal(rows.fetchall(), [(1, 2), (2, 4), (3, 6)])
        rows = connection.execute("SELECT generate_series(1, 3)")
        equal(rows.fetchall(), [(1,), (2,), (3,)])


@task
def scrollable_cursor() -> None:
    with connect() as connection:
        numbers(connection, "psycopg_scroll", 100)
        with connection.cursor("there_and_back", scrollable=True) as cursor:
            cursor.execute("SELECT i FROM psycopg_scroll ORDER BY i")
            equal(cursor.fetchmany(3), [(1,), (2,), (3,)])
            cursor.scroll(-2)
            equal(cursor.fetchone(), (2,))
            cursor.scroll(49, mode="absolute")
            equal(cursor.fetchone(), (50,))


@task
def cursor_with_hold() -> None:
    with connect() as connection:
        numbers(connection, "psycopg_held", 10)
        with connection.cursor("held", withhold=True) as cursor:
            cursor.execute("SELECT i FROM psycopg_held ORDER BY i")
            connection.commit()
            equal(cursor.fetchmany(2), [(1,), (2,)])


def long_query(connection: Connection) -> LiteralString:
    """A statement that takes a while."""
    numbers(connection, "psycopg_long", 20_000)
    return (
        "SELECT count(*) FROM psycopg_long a, psycopg_long b WHERE a.i + b.i = 7"
    )


@task
def cancel() -> None:
    with connect(autocommit=True) as connection:
        query = long_query(connection)
        threading.Timer(0.5, connection.cancel).start()
        began = time.monotonic()
        try:
            connection.execute(query)
            raise AssertionError("it was not cancelled")
        except psycopg.errors.QueryCanceled as error:
            equal(error.sqlstate, "57014")
        assert time.monotonic() - began < 10, "it took too long"
        equal(connection.execute("SELECT 1").fetchone(), (1,))


@task
def cancel_of_a_sleep() -> None:
    with connect(autocommit=True) as connection:
        threading.Timer(0.5, connection.cancel).start()
        try:
            connection.execute("SELECT pg_sleep(30)")
            raise AssertionError("it was not cancelled")
        except psycopg.errors.QueryCanceled:
            pass
        equal(connection.execute("SELECT 1").fetchone(), (1,))


@task
def statement_timeout() -> None:
    with connect() as connection:
        query = long_query(connection)
    with connect(options="-c statement_timeout=500", autocommit=True) as connection:
        equal(connection.execute("SHOW statement_timeout").fetchone(), ("500ms",))
        try:
            connection.execute(query)
            raise AssertionError("there was no timeout")
        except psycopg.errors.QueryCanceled:
            pass
        equal(connection.execute("SELECT 1").fetchone(), (1,))


@task
def copy_rows_in() -> None:
    with connect() as connection:
        fresh(connection, "psycopg_copy", "id integer PRIMARY KEY, title text, price real")
        with connection.cursor() as cursor:
            with cursor.copy("COPY psycopg_copy (id, title, price) FROM STDIN") as copy:
                for i in range(5000):
                    copy.write_row((i, None if i % 10 == 0 else f"a\tb\\{i}", i / 2))
            equal(cursor.rowcount, 5000)
        row = connection.execute(
            "SELECT count(*), count(title), sum(price) FROM psycopg_copy"
        ).fetchone()
        equal(row, (5000, 4500, 6248750.0))
        row = connection.execute("SELECT title FROM psycopg_copy WHERE id = 11").fetchone()
        equal(row, ("a\tb\\11",))


@task
def copy_binary_vectors() -> None:
    with connect() as connection:
        register_vector(connection)
        fresh(connection, "psycopg_copy_vectors", "id bigint PRIMARY KEY, embedding vector(8)")
        vectors = np.arange(8000, dtype=np.float32).reshape(1000, 8)
        with connection.cursor() as cursor:
            with cursor.copy(
                "COPY psycopg_copy_vectors (id, embedding) FROM STDIN WITH (FORMAT BINARY)"
            ) as copy:
                copy.set_types(["int8", "vector"])
                for place, vector in enumerate(vectors):
                    copy.write_row((place, vector))
            with cursor.copy(
                "COPY (SELECT id, embedding FROM psycopg_copy_vectors ORDER BY id) "
                "TO STDOUT (FORMAT BINARY)"
            ) as copy:
                copy.set_types(["int8", "vector"])
                rows = list(copy.rows())
        equal(len(rows), 1000)
        equal((rows[999][0], rows[999][1].to_list()), (999, vectors[999].tolist()))


@task
def copy_csv_out() -> None:
    with connect() as connection:
        fresh(connection, "psycopg_csv", "id integer PRIMARY KEY, title text")
        connection.execute("INSERT INTO psycopg_csv VALUES (1, 'a,\"b'), (2, NULL), (3, '')")
        with connection.cursor().copy("COPY psycopg_csv TO STDOUT (FORMAT csv, HEADER)") as copy:
            data = b"".join(bytes(block) for block in copy)
        equal(data, b'id,title\n1,"a,""b"\n2,\n3,""\n')


@task
def copy_error() -> None:
    with connect() as connection:
        fresh(connection, "psycopg_copy_error", "id integer PRIMARY KEY")
        try:
            with connection.cursor().copy("COPY psycopg_copy_error FROM STDIN") as copy:
                copy.write("1\nx\n")
        except psycopg.errors.InvalidTextRepresentation:
            connection.rollback()
        equal(connection.execute("SELECT count(*) FROM psycopg_copy_error").fetchone(), (0,))


@task
def upsert_returning() -> None:
    with connect() as connection:
        fresh(connection, "psycopg_upsert", "id integer PRIMARY KEY, title text, seen integer")
        upsert: LiteralString = (
            "INSERT INTO psycopg_upsert AS t VALUES (%s, %s, 1) ON CONFLICT (id) DO UPDATE "
            "SET title = excluded.title, seen = t.seen + 1 RETURNING id, title, seen"
        )
        equal(connection.execute(upsert, (1, "a")).fetchone(), (1, "a", 1))
        equal(connection.execute(upsert, (1, "b")).fetchone(), (1, "b", 2))


@task
def pipeline() -> None:
    with connect(autocommit=True) as connection:
        fresh(connection, "psycopg_pipeline", "id integer PRIMARY KEY")
        with connection.pipeline():
            for i in range(100):
                connection.execute("INSERT INTO psycopg_pipeline VALUES (%s)", (i,))
            cursor = connection.execute("SELECT sum(id) FROM psycopg_pipeline")
            equal(cursor.fetchone(), (4950,))


@task
def row_factories() -> None:
    class Point:
        def __init__(self, x: int, y: int) -> None:
            self.x, self.y = x, y

    with connect() as connection:
        row = connection.cursor(row_factory=dict_row).execute("SELECT 1 AS a, 'b' AS b").fetchone()
        equal(row, {"a": 1, "b": "b"})
        points = connection.cursor(row_factory=class_row(Point))
        point = points.execute("SELECT 1 x, 2 y").fetchone()
        assert point is not None
        equal((point.x, point.y), (1, 2))
        names = connection.execute("SELECT count(*), 1 + 1, lower('A'), now() IS NULL").description
        assert names is not None
        equal([n.name for n in names], ["count", "?column?", "lower", "?column?"])


@task
def information_schema() -> None:
    with connect() as connection:
        fresh(
            connection,
            "psycopg_reflect",
            "a integer NOT NULL, b varchar, c double precision, d vector(3), PRIMARY KEY (a)",
        )
        rows = connection.execute(
            "SELECT column_name, data_type, is_nullable, character_maximum_length, udt_name "
            "FROM information_schema.columns WHERE table_name = 'psycopg_reflect' "
            "ORDER BY ordinal_position"
        ).fetchall()
        equal(
            rows,
            [
                ("a", "integer", "NO", None, "int4"),
                ("b", "character varying", "YES", None, "varchar"),
                ("c", "double precision", "YES", None, "float8"),
                ("d", "USER-DEFINED", "YES", None, "vector"),
            ],
        )


@task
def information_schema_keys() -> None:
    with connect() as connection:
        fresh(connection, "psycopg_keys", "a integer, b integer, PRIMARY KEY (b, a)")
        rows = connection.execute(
            "SELECT tc.constraint_name, tc.constraint_type, kcu.column_name "
            "FROM information_schema.table_constraints tc "
            "JOIN information_schema.key_column_usage kcu "
            "USING (constraint_schema, constraint_name) "
            "WHERE tc.table_name = 'psycopg_keys' ORDER BY kcu.ordinal_position"
        ).fetchall()
        equal(rows, [("psycopg_keys_pkey", "PRIMARY KEY", c) for c in "ba"])


@task
def isolation_levels() -> None:
    with connect() as connection:
        for level, name in (
            (psycopg.IsolationLevel.READ_COMMITTED, "read committed"),
            (psycopg.IsolationLevel.REPEATABLE_READ, "repeatable read"),
            (psycopg.IsolationLevel.SERIALIZABLE, "serializable"),
        ):
            connection.isolation_level = level
            row = connection.execute("SHOW transaction_isolation").fetchone()
            equal(row, (name,))
            connection.rollback()


@task
def listen_notify() -> None:
    with connect(autocommit=True) as connection:
        connection.execute("LISTEN psycopg_news")
        with connect(autocommit=True) as other:
            other.execute("SELECT pg_notify('psycopg_news', 'hello')")
        for notice in connection.notifies(timeout=5, stop_after=1):
            equal((notice.channel, notice.payload), ("psycopg_news", "hello"))
            return
        raise AssertionError("no notification came")


@task
def alter_table() -> None:
    with connect() as connection:
        fresh(connection, "psycopg_alter", "id integer PRIMARY KEY")
        connection.execute("INSERT INTO psycopg_alter VALUES (1)")
        connection.execute("ALTER TABLE psycopg_alter ADD COLUMN title text DEFAULT 'none'")
        equal(connection.execute("SELECT * FROM psycopg_alter").fetchall(), [(1, "none")])
        connection.execute("ALTER TABLE psycopg_alter RENAME COLUMN title TO name")
        connection.execute("ALTER TABLE psycopg_alter DROP COLUMN name")
        equal(connection.execute("SELECT * FROM psycopg_alter").fetchall(), [(1,)])


@task
def view() -> None:
    with connect() as connection:
        connection.execute("DROP VIEW IF EXISTS psycopg_view")
        fresh(connection, "psycopg_viewed", "id integer PRIMARY KEY")
        connection.execute("INSERT INTO psycopg_viewed VALUES (1), (2)")
        connection.execute("CREATE VIEW psycopg_view AS SELECT id * 10 AS id FROM psycopg_viewed")
        rows = connection.execute("SELECT id FROM psycopg_view ORDER BY id").fetchall()
        equal(rows, [(10,), (20,)])
        connection.execute("DROP VIEW psycopg_view")


@task
def secondary_index() -> None:
    with connect() as connection:
        fresh(connection, "psycopg_indexed", "id integer PRIMARY KEY, lang text")
        connection.execute("CREATE INDEX psycopg_lang ON psycopg_indexed (lang)")
        rows = connection.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'psycopg_indexed' "
            "ORDER BY indexname"
        ).fetchall()
        equal(
            rows,
            [
                (
                    "psycopg_indexed_pkey",
                    "CREATE UNIQUE INDEX psycopg_indexed_pkey ON public.psycopg_indexed "
                    "USING btree (id)",
                ),
                (
                    "psycopg_lang",
                    "CREATE INDEX psycopg_lang ON public.psycopg_indexed USING btree (lang)",
                ),
            ],
        )


if __name__ == "__main__":
    run("psycopg")
