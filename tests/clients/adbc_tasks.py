"""The ADBC driver for PostgreSQL: Arrow in and out, by binary COPY."""

from __future__ import annotations

import threading
from datetime import date, datetime, timezone
from typing import Any

import adbc_driver_postgresql.dbapi as dbapi
import pyarrow as pa

from tasks import DATABASE, USER, equal, host_port, run, task


def connect(**options: Any) -> Any:
    host, port = host_port()
    return dbapi.connect(f"postgresql://{USER}@{host}:{port}/{DATABASE}", **options)


def fresh(connection: Any, table: str, columns: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {table}")
        cursor.execute(f"CREATE TABLE {table} ({columns})")
    connection.commit()


def table(rows: int = 1000) -> pa.Table:
    return pa.table(
        {
            "id": pa.array(range(rows), pa.int64()),
            "title": [None if i % 10 == 0 else f"row {i}" for i in range(rows)],
            "price": [i / 2 for i in range(rows)],
        }
    )


def fetch(connection: Any, query: str, parameters: Any = None) -> pa.Table:
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return cursor.fetch_arrow_table()


@task
def ingest_create() -> None:
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS adbc_create")
        equal(cursor.adbc_ingest("adbc_create", table(), mode="create"), 1000)
        connection.commit()
        equal(fetch(connection, "SELECT * FROM adbc_create ORDER BY id"), table())


@task
def ingest_append() -> None:
    with connect() as connection, connection.cursor() as cursor:
        fresh(connection, "adbc_append", "id bigint PRIMARY KEY, title text, price float8")
        equal(cursor.adbc_ingest("adbc_append", table(), mode="append"), 1000)
        connection.commit()
        equal(fetch(connection, "SELECT * FROM adbc_append ORDER BY id"), table())


@task
def ingest_replace() -> None:
    with connect() as connection, connection.cursor() as cursor:
        for rows in (10, 20):
            cursor.adbc_ingest("adbc_replace", table(rows), mode="replace")
        connection.commit()
        found = fetch(connection, "SELECT count(*) AS n FROM adbc_replace")
        equal(found.to_pydict(), {"n": [20]})


@task
def ingest_stream() -> None:
    batches = table(20000).to_batches(max_chunksize=1000)
    with connect() as connection, connection.cursor() as cursor:
        reader = pa.RecordBatchReader.from_batches(batches[0].schema, batches)
        cursor.adbc_ingest("adbc_stream", reader, mode="replace")
        cursor.execute("SELECT id FROM adbc_stream")
        total = rows = 0
        for batch in cursor.fetch_record_batch():
            rows += batch.num_rows
            total += sum(batch.column(0).to_pylist())
        equal((rows, total), (20000, 199_990_000))


@task
def ingest_scalar_types() -> None:
    instant = datetime(2001, 2, 3, 4, 5, 6, 789012)
    given = pa.table(
        {
            "a": pa.array([True, None]),
            "b": pa.array([-3, None], pa.int16()),
            "c": pa.array([2**31 - 1, None], pa.int32()),
            "d": pa.array([-(2**63), None], pa.int64()),
            "e": pa.array([1.5, None], pa.float32()),
            "f": pa.array([0.1, None], pa.float64()),
            "g": pa.array(["Grüße", None]),
            "h": pa.array([b"\0\xff", None], pa.binary()),
            "i": pa.array([date(1999, 12, 31), None], pa.date32()),
            "j": pa.array([instant, None], pa.timestamp("us")),
            "k": pa.array([instant.replace(tzinfo=timezone.utc), None], pa.timestamp("us", "UTC")),
        }
    )
    with connect() as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("adbc_types", given, mode="replace")
        found = fetch(connection, "SELECT * FROM adbc_types ORDER BY c")
        equal(found.to_pylist(), given.to_pylist())
        equal([str(f.type) for f in found.schema][:9], [str(f.type) for f in given.schema][:9])


@task
def ingest_lists() -> None:
    given = pa.table({"id": [1], "tags": [["a", "b"]], "numbers": [[1, 2, 3]]})
    with connect() as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("adbc_lists", given, mode="replace")
        equal(fetch(connection, "SELECT * FROM adbc_lists").to_pylist(), given.to_pylist())


@task
def numeric_type() -> None:
    with connect() as connection:
        found = fetch(
            connection,
            "SELECT 12.50::numeric(10, 2) AS v, avg(i) a FROM (VALUES (1), (2)) t(i)",
        )
        equal([str(v) for v in found.to_pylist()[0].values()], ["12.50", "1.5000000000000000"])


@task
def vector_search() -> None:
    with connect() as connection, connection.cursor() as cursor:
        fresh(connection, "adbc_vectors", "id bigint PRIMARY KEY, embedding vector(3)")
        cursor.executemany(
            "INSERT INTO adbc_vectors VALUES ($1, $2::text::vector)",
            [(i, f"[{i},0,1]") for i in range(50)],
        )
        found = fetch(
            connection,
            "SELECT id, embedding::text AS e, embedding <-> $1::text::vector AS distance "
            "FROM adbc_vectors ORDER BY embedding <-> $1::text::vector LIMIT 2",
            ("[7,0,1]",),
        )
        equal(found["distance"].to_pylist(), [0.0, 1.0])
        equal(found.slice(0, 1).to_pylist(), [{"id": 7, "e": "[7,0,1]", "distance": 0.0}])


@task
def ingest_vectors_by_cast() -> None:
    """Numbers are ingested as an array and become vectors in the database."""
    given = pa.table({"id": [1, 2], "v": pa.array([[1, 2, 3], [4, 5, 6]], pa.list_(pa.float32()))})
    with connect() as connection, connection.cursor() as cursor:
        fresh(connection, "adbc_cast", "id bigint PRIMARY KEY, embedding vector(3)")
        cursor.adbc_ingest("adbc_cast_given", given, mode="replace")
        cursor.execute("INSERT INTO adbc_cast SELECT id, v::vector(3) FROM adbc_cast_given")
        found = fetch(connection, "SELECT embedding::real[] AS v FROM adbc_cast ORDER BY id")
        equal(found["v"].to_pylist(), [[1, 2, 3], [4, 5, 6]])


@task
def vector_column_as_bytes() -> None:
    """A type that the driver does not know comes as its binary form."""
    with connect() as connection, connection.cursor() as cursor:
        fresh(connection, "adbc_raw", "id bigint PRIMARY KEY, embedding vector(2)")
        cursor.execute("INSERT INTO adbc_raw VALUES (1, '[1,2]')")
        (row,) = fetch(connection, "SELECT embedding FROM adbc_raw").to_pylist()
        equal(row["embedding"], b"\x00\x02\x00\x00\x3f\x80\x00\x00\x40\x00\x00\x00")


@task
def parameters() -> None:
    with connect() as connection, connection.cursor() as cursor:
        fresh(connection, "adbc_parameters", "id bigint PRIMARY KEY, title text, price float8")
        cursor.executemany(
            "INSERT INTO adbc_parameters VALUES ($1, $2, $3)", [(1, "a", 0.5), (2, None, None)]
        )
        rows = fetch(connection, "SELECT * FROM adbc_parameters WHERE id = $1", (2,)).to_pylist()
        equal(rows, [{"id": 2, "title": None, "price": None}])


@task
def transaction_rollback() -> None:
    with connect() as connection, connection.cursor() as cursor:
        fresh(connection, "adbc_rollback", "id bigint PRIMARY KEY, title text, price float8")
        cursor.adbc_ingest("adbc_rollback", table(5), mode="append")
        connection.rollback()
        equal(fetch(connection, "SELECT count(*) n FROM adbc_rollback").to_pydict(), {"n": [0]})


@task
def savepoint() -> None:
    with connect() as connection, connection.cursor() as cursor:
        fresh(connection, "adbc_savepoint", "id bigint PRIMARY KEY")
        cursor.execute("INSERT INTO adbc_savepoint VALUES (1)")
        cursor.execute("SAVEPOINT one")
        cursor.execute("INSERT INTO adbc_savepoint VALUES (9)")
        cursor.execute("ROLLBACK TO SAVEPOINT one")
        cursor.execute("INSERT INTO adbc_savepoint VALUES (2)")
        connection.commit()
        found = fetch(connection, "SELECT id FROM adbc_savepoint ORDER BY id")
        equal(found.to_pydict(), {"id": [1, 2]})


@task
def error_and_use() -> None:
    with connect(autocommit=True) as connection, connection.cursor() as cursor:
        for statement, state in (
            ("SELECT * FROM adbc_nowhere", "42P01"),
            ("SELEC 1", "42601"),
            ("SELECT 1 / 0", "22012"),
        ):
            try:
                cursor.execute(statement)
                cursor.fetchall()
                raise AssertionError(f"{statement} did not fail")
            except dbapi.Error as error:
                equal(error.sqlstate, state)
        cursor.execute("SELECT 1")
        equal(cursor.fetchall(), [(1,)])


@task
def upsert_returning() -> None:
    with connect() as connection:
        fresh(connection, "adbc_upsert", "id bigint PRIMARY KEY, title text")
        for title in ("a", "b"):
            found = fetch(
                connection,
                "INSERT INTO adbc_upsert VALUES ($1, $2) ON CONFLICT (id) "
                "DO UPDATE SET title = excluded.title RETURNING id, title",
                (1, title),
            )
            equal(found.to_pylist(), [{"id": 1, "title": title}])


@task
def table_schema() -> None:
    with connect() as connection:
        fresh(connection, "adbc_schema", "id bigint PRIMARY KEY, title text, price real, at date")
        found = connection.adbc_get_table_schema("adbc_schema")
        equal(
            [(f.name, str(f.type)) for f in found],
            [("id", "int64"), ("title", "string"), ("price", "float"), ("at", "date32[day]")],
        )


@task
def objects() -> None:
    with connect() as connection:
        fresh(connection, "adbc_objects", "id bigint PRIMARY KEY, title text NOT NULL")
        reader = connection.adbc_get_objects(
            depth="all", catalog_filter=DATABASE, db_schema_filter="public",
            table_name_filter="adbc_objects",
        )
        (catalog,) = reader.read_all().to_pylist()
        (schema,) = catalog["catalog_db_schemas"]
        (found,) = schema["db_schema_tables"]
        equal((catalog["catalog_name"], schema["db_schema_name"], found["table_type"]),
              (DATABASE, "public", "table"))
        equal([c["column_name"] for c in found["table_columns"]], ["id", "title"])
        (key,) = found["table_constraints"]
        equal((key["constraint_name"], key["constraint_type"], key["constraint_column_names"]),
              ("adbc_objects_pkey", "PRIMARY KEY", ["id"]))


@task
def table_types_and_info() -> None:
    with connect() as connection:
        assert "table" in connection.adbc_get_table_types()
        equal(connection.adbc_get_info()["vendor_name"], "PostgreSQL")
        equal((connection.adbc_current_catalog, connection.adbc_current_db_schema),
              (DATABASE, "public"))


@task
def cancel() -> None:
    with connect(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("adbc_long", table(20000), mode="replace")
        threading.Timer(0.5, cursor.adbc_cancel).start()
        try:
            cursor.execute("SELECT count(*) FROM adbc_long a, adbc_long b WHERE a.id + b.id = 7")
            cursor.fetchall()
            raise AssertionError("it was not cancelled")
        except dbapi.Error as error:
            equal(error.sqlstate, "57014")
    with connect() as connection:
        equal(fetch(connection, "SELECT 1 AS one").to_pydict(), {"one": [1]})


if __name__ == "__main__":
    run("adbc")
