"""psqlODBC, by pyodbc: what spreadsheets and reporting tools go through."""

from __future__ import annotations

import threading
import uuid
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyodbc

from tasks import DATABASE, USER, equal, host_port, run, task


def connect(options: str = "", **arguments: Any) -> pyodbc.Connection:
    host, port = host_port()
    return pyodbc.connect(
        f"Driver={{PostgreSQL Unicode}};Server={host};Port={port};Database={DATABASE};Uid={USER};"
        + options,
        **arguments,
    )


def fresh(connection: pyodbc.Connection, table: str, columns: str) -> None:
    connection.execute(f"DROP TABLE IF EXISTS {table}")
    connection.execute(f"CREATE TABLE {table} ({columns})")
    connection.commit()


def rows(connection: pyodbc.Connection, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in connection.execute(query, *parameters).fetchall()]


def round_trip(table: str, type_name: str, value: Any, expected: Any = None) -> None:
    connection = connect()
    fresh(connection, table, f"id integer PRIMARY KEY, v {type_name}")
    connection.execute(f"INSERT INTO {table} VALUES (1, ?)", value)
    connection.execute(f"INSERT INTO {table} VALUES (2, NULL)")
    equal(rows(connection, f"SELECT v FROM {table} ORDER BY id"), [(expected or value,), (None,)])


def fails(connection: pyodbc.Connection, statement: str, state: str) -> None:
    try:
        connection.execute(statement).fetchall()
    except pyodbc.Error as error:
        equal((statement, error.args[0]), (statement, state))
        return
    raise AssertionError(f"{statement} did not fail")


@task
def create_insert_select() -> None:
    connection = connect()
    fresh(connection, "odbc_docs", "id integer PRIMARY KEY, title text NOT NULL")
    equal(connection.execute("INSERT INTO odbc_docs VALUES (?, ?)", 1, "one").rowcount, 1)
    cursor = connection.execute("SELECT * FROM odbc_docs")
    equal([(c[0], c[1]) for c in cursor.description], [("id", int), ("title", str)])
    equal([tuple(row) for row in cursor], [(1, "one")])


@task
def executemany() -> None:
    for fast in (False, True):
        connection = connect()
        fresh(connection, "odbc_many", "id integer PRIMARY KEY, title text")
        cursor = connection.cursor()
        cursor.fast_executemany = fast
        cursor.executemany(
            "INSERT INTO odbc_many VALUES (?, ?)", [(i, f"row {i}") for i in range(500)]
        )
        connection.commit()
        equal(rows(connection, "SELECT count(*), max(id) FROM odbc_many"), [(500, 499)])
        connection.close()


@task
def prepared_vector_search() -> None:
    connection = connect()
    fresh(connection, "odbc_vectors", "id integer PRIMARY KEY, embedding vector(3)")
    for i in range(50):
        connection.execute("INSERT INTO odbc_vectors VALUES (?, ?::vector)", i, f"[{i},0,1]")
    connection.commit()
    query = "SELECT id, embedding FROM odbc_vectors ORDER BY embedding <-> ?::vector LIMIT 1"
    for wanted in (10, 20, 30):
        equal(rows(connection, query, f"[{wanted},0,1]"), [(wanted, f"[{wanted},0,1]")])


@task
def transaction_rollback() -> None:
    connection = connect()
    fresh(connection, "odbc_rollback", "id integer PRIMARY KEY")
    connection.execute("INSERT INTO odbc_rollback VALUES (1)")
    connection.rollback()
    equal(rows(connection, "SELECT * FROM odbc_rollback"), [])


@task
def savepoint() -> None:
    connection = connect()
    fresh(connection, "odbc_savepoint", "id integer PRIMARY KEY")
    connection.execute("INSERT INTO odbc_savepoint VALUES (1)")
    connection.execute("SAVEPOINT a")
    connection.execute("INSERT INTO odbc_savepoint VALUES (9)")
    connection.execute("ROLLBACK TO SAVEPOINT a")
    connection.execute("INSERT INTO odbc_savepoint VALUES (2)")
    connection.commit()
    equal(rows(connection, "SELECT id FROM odbc_savepoint ORDER BY id"), [(1,), (2,)])


@task
def rollback_of_a_statement() -> None:
    """Protocol=7.4-2: a failed statement alone is undone, by the driver's own savepoints."""
    connection = connect("Protocol=7.4-2;")
    fresh(connection, "odbc_statement", "id integer PRIMARY KEY")
    connection.execute("INSERT INTO odbc_statement VALUES (1)")
    fails(connection, "INSERT INTO odbc_statement VALUES (1)", "23505")
    connection.execute("INSERT INTO odbc_statement VALUES (2)")
    connection.commit()
    equal(rows(connection, "SELECT id FROM odbc_statement ORDER BY id"), [(1,), (2,)])


@task
def error_and_use() -> None:
    connection = connect(autocommit=True)
    fails(connection, "SELECT * FROM odbc_nowhere", "42P01")
    fails(connection, "SELECT nothing FROM pg_class", "42703")
    fails(connection, "SELEC 1", "42601")
    fails(connection, "SELECT 1 / 0", "22012")
    equal(rows(connection, "SELECT 1"), [(1,)])


@task
def scalar_types() -> None:
    round_trip("odbc_int2", "smallint", -32768)
    round_trip("odbc_int4", "integer", 2147483647)
    round_trip("odbc_int8", "bigint", -(2**63))
    round_trip("odbc_real", "real", 1.5)
    round_trip("odbc_double", "double precision", 0.1)
    round_trip("odbc_text", "text", "Grüße 'x' \\")
    round_trip("odbc_varchar", "varchar", "größer")
    round_trip("odbc_bytea", "bytea", b"\0\1\xff")
    round_trip("odbc_date", "date", date(1999, 12, 31))
    round_trip("odbc_timestamp", "timestamp", datetime(2001, 2, 3, 4, 5, 6, 789012))


@task
def boolean_type() -> None:
    connection = connect("BoolsAsChar=0;")
    fresh(connection, "odbc_boolean", "id integer PRIMARY KEY, v boolean")
    connection.execute("INSERT INTO odbc_boolean VALUES (1, ?), (2, NULL)", True)
    equal(rows(connection, "SELECT v FROM odbc_boolean ORDER BY id"), [(True,), (None,)])


@task
def varchar_with_length() -> None:
    round_trip("odbc_length", "varchar(10)", "ten")


@task
def numeric_type() -> None:
    round_trip("odbc_numeric", "numeric(10, 2)", Decimal("12.50"))


@task
def uuid_type() -> None:
    round_trip("odbc_uuid", "uuid", uuid.UUID(int=7), str(uuid.UUID(int=7)))


@task
def serial_key() -> None:
    connection = connect()
    fresh(connection, "odbc_serial", "id serial PRIMARY KEY, title text")
    insert = "INSERT INTO odbc_serial (title) VALUES (?) RETURNING id"
    equal([rows(connection, insert, t) for t in "ab"], [[(1,)], [(2,)]])


@task
def upsert_returning() -> None:
    connection = connect()
    fresh(connection, "odbc_upsert", "id integer PRIMARY KEY, title text")
    upsert = (
        "INSERT INTO odbc_upsert VALUES (?, ?) ON CONFLICT (id) "
        "DO UPDATE SET title = excluded.title RETURNING id, title"
    )
    equal([rows(connection, upsert, 1, t) for t in "ab"], [[(1, "a")], [(1, "b")]])


@task
def large_result_stream() -> None:
    connection = connect("UseDeclareFetch=1;Fetch=500;")
    fresh(connection, "odbc_stream", "i integer PRIMARY KEY, filler text")
    connection.execute(
        "INSERT INTO odbc_stream SELECT t.i, repeat('x', 50) FROM generate_series(1, 20000) AS t(i)"
    )
    connection.commit()
    total = 0
    cursor = connection.execute("SELECT i, filler FROM odbc_stream")
    while part := cursor.fetchmany(1000):
        total += sum(row.i for row in part)
    equal(total, 200_010_000)


@task
def cancel() -> None:
    connection = connect(autocommit=True)
    fresh(connection, "odbc_long", "i integer PRIMARY KEY")
    connection.execute("INSERT INTO odbc_long SELECT t.i FROM generate_series(1, 20000) AS t(i)")
    cursor = connection.cursor()
    threading.Timer(0.5, cursor.cancel).start()
    try:
        cursor.execute("SELECT count(*) FROM odbc_long a, odbc_long b WHERE a.i + b.i = 7")
        raise AssertionError("it was not cancelled")
    except pyodbc.Error as error:
        equal(error.args[0], "57014")
    equal(rows(connection, "SELECT 1"), [(1,)])


@task
def tables() -> None:
    connection = connect()
    fresh(connection, "odbc_tables", "id integer PRIMARY KEY")
    found = connection.cursor().tables(table="odbc_tables", schema="public").fetchall()
    equal([(t.table_schem, t.table_name, t.table_type) for t in found],
          [("public", "odbc_tables", "TABLE")])


@task
def columns() -> None:
    connection = connect()
    fresh(connection, "odbc_columns",
          "id bigint PRIMARY KEY, title text NOT NULL, price double precision, v vector(3)")
    found = connection.cursor().columns(table="odbc_columns", schema="public").fetchall()
    equal(
        [(c.column_name, c.type_name, c.nullable, c.ordinal_position) for c in found],
        [("id", "int8", 0, 1), ("title", "text", 0, 2), ("price", "float8", 1, 3),
         ("v", "vector", 1, 4)],
    )


@task
def primary_keys() -> None:
    connection = connect()
    fresh(connection, "odbc_keys", "a integer, b integer, PRIMARY KEY (b, a)")
    found = connection.cursor().primaryKeys("odbc_keys", schema="public").fetchall()
    equal(sorted((k.key_seq, k.column_name, k.pk_name) for k in found),
          [(1, "b", "odbc_keys_pkey"), (2, "a", "odbc_keys_pkey")])


@task
def indexes() -> None:
    connection = connect()
    fresh(connection, "odbc_indexed", "id integer PRIMARY KEY, embedding vector(3)")
    connection.execute(
        "CREATE INDEX odbc_hnsw ON odbc_indexed USING hnsw (embedding vector_l2_ops)"
    )
    connection.commit()
    found = connection.cursor().statistics("odbc_indexed", schema="public").fetchall()
    equal(sorted((i.index_name, i.column_name, i.non_unique) for i in found if i.index_name),
          [("odbc_hnsw", "embedding", 1), ("odbc_indexed_pkey", "id", 0)])


@task
def foreign_keys() -> None:
    connection = connect()
    connection.execute("DROP TABLE IF EXISTS odbc_child")
    fresh(connection, "odbc_parent", "id integer PRIMARY KEY")
    fresh(connection, "odbc_child", "id integer PRIMARY KEY, parent integer REFERENCES odbc_parent")
    found = connection.cursor().foreignKeys(foreignTable="odbc_child").fetchall()
    equal([(k.pktable_name, k.pkcolumn_name, k.fkcolumn_name) for k in found],
          [("odbc_parent", "id", "parent")])


@task
def no_foreign_keys() -> None:
    connection = connect()
    fresh(connection, "odbc_alone", "id integer PRIMARY KEY")
    equal(connection.cursor().foreignKeys(foreignTable="odbc_alone").fetchall(), [])
    equal(connection.cursor().foreignKeys(table="odbc_alone").fetchall(), [])


@task
def types_and_info() -> None:
    connection = connect()
    names = {row.type_name for row in connection.cursor().getTypeInfo().fetchall()}
    assert {"int4", "text", "timestamptz"} <= names, names
    equal(connection.getinfo(pyodbc.SQL_DBMS_NAME), "PostgreSQL")
    equal(connection.getinfo(pyodbc.SQL_DATABASE_NAME), DATABASE)


if __name__ == "__main__":
    run("odbc")
