"""pandas' read_sql and to_sql, over SQLAlchemy and psycopg."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from pgvector.sqlalchemy import Vector

from tasks import DATABASE, USER, equal, host_port, run, task


def new_engine() -> sa.Engine:
    host, port = host_port()
    return sa.create_engine(f"postgresql+psycopg://{USER}@{host}:{port}/{DATABASE}")


def frame(rows: int = 10) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": range(rows),
            "title": [f"row {i}" for i in range(rows)],
            "price": [i / 2 for i in range(rows)],
        }
    )


@task
def to_sql_replace() -> None:
    engine = new_engine()
    for _ in range(2):
        frame().to_sql("pandas_replace", engine, if_exists="replace", index=False)
    found = pd.read_sql("SELECT * FROM pandas_replace ORDER BY id", engine)
    pd.testing.assert_frame_equal(found, frame(), check_dtype=False)
    equal([str(t) for t in found.dtypes[["id", "price"]]], ["int64", "float64"])


@task
def to_sql_append() -> None:
    engine = new_engine()
    frame(3).to_sql("pandas_append", engine, if_exists="replace", index=False)
    frame(2).to_sql("pandas_append", engine, if_exists="append", index=False)
    found = pd.read_sql("SELECT count(*) AS n, sum(price) AS s FROM pandas_append", engine)
    equal(found.to_dict("records"), [{"n": 5, "s": 2.0}])


@task
def to_sql_fail() -> None:
    engine = new_engine()
    frame(1).to_sql("pandas_fail", engine, if_exists="replace", index=False)
    try:
        frame(1).to_sql("pandas_fail", engine, if_exists="fail", index=False)
    except ValueError as error:
        equal(str(error), "Table 'pandas_fail' already exists.")
    else:
        raise AssertionError("an existing table was written to")


@task
def to_sql_with_index() -> None:
    engine = new_engine()
    table = frame(3).set_index("id")
    table.to_sql("pandas_index", engine, if_exists="replace")
    found = pd.read_sql("SELECT * FROM pandas_index", engine, index_col="id").sort_index()
    pd.testing.assert_frame_equal(found, table, check_dtype=False)


@task
def to_sql_multi_in_chunks() -> None:
    engine = new_engine()
    frame(5000).to_sql(
        "pandas_multi", engine, if_exists="replace", index=False, method="multi", chunksize=1000
    )
    found = pd.read_sql("SELECT count(*) n, max(id) m FROM pandas_multi", engine)
    equal(found.values.tolist(), [[5000, 4999]])


def copy_method(table: Any, connection: Any, keys: list[str], rows: Iterable[Any]) -> int:
    """The method with COPY that pandas' documentation shows."""
    data = io.StringIO()
    pd.DataFrame(rows).to_csv(data, header=False, index=False)
    columns = ", ".join(f'"{key}"' for key in keys)
    cursor = connection.connection.cursor()
    with cursor.copy(f'COPY "{table.name}" ({columns}) FROM STDIN WITH CSV') as copy:
        copy.write(data.getvalue())
    return int(cursor.rowcount)


@task
def to_sql_by_copy() -> None:
    engine = new_engine()
    written = frame(2000).to_sql(
        "pandas_copy", engine, if_exists="replace", index=False, method=copy_method
    )
    found = pd.read_sql("SELECT count(*) n, sum(price) s FROM pandas_copy", engine)
    equal((written, found.values.tolist()), (2000, [[2000, 999500.0]]))


def upsert_method(table: Any, connection: Any, keys: list[str], rows: Iterable[Any]) -> int:
    insert = sa.dialects.postgresql.insert(table.table).values(
        [dict(zip(keys, row, strict=True)) for row in rows]
    )
    changed = insert.on_conflict_do_update(
        index_elements=["id"], set_={key: insert.excluded[key] for key in keys if key != "id"}
    )
    return int(connection.execute(changed).rowcount)


@task
def upsert() -> None:
    engine = new_engine()
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS pandas_upsert"))
        connection.execute(
            sa.text("CREATE TABLE pandas_upsert (id bigint PRIMARY KEY, title text, price float8)")
        )
    options: dict[str, Any] = {"if_exists": "append", "index": False, "method": upsert_method}
    frame(3).to_sql("pandas_upsert", engine, **options)
    frame(5).assign(price=9.0).to_sql("pandas_upsert", engine, **options)
    found = pd.read_sql("SELECT count(*) n, min(price) p FROM pandas_upsert", engine)
    equal(found.values.tolist(), [[5, 9.0]])


@task
def nulls_and_types() -> None:
    engine = new_engine()
    instants = pd.to_datetime(["2001-02-03 04:05:06.789", None])
    table = pd.DataFrame(
        {
            "flag": pd.array([True, None], dtype="boolean"),
            "number": pd.array([2**40, None], dtype="Int64"),
            "share": [0.1, np.nan],
            "title": ["Grüße", None],
            "naive": instants,
            "aware": instants.tz_localize("UTC"),
            "day": [instants[0].date(), None],
        }
    )
    table.to_sql("pandas_types", engine, if_exists="replace", index=False)
    found = pd.read_sql("SELECT * FROM pandas_types ORDER BY number NULLS LAST", engine)
    first, second = found.to_dict("records")
    equal(
        [bool(first["flag"]), int(first["number"]), first["share"], first["title"], first["day"]],
        [True, 2**40, 0.1, "Grüße", instants[0].date()],
    )
    equal(first["naive"], instants[0])
    equal(first["aware"], instants[0].tz_localize("UTC"))
    equal([bool(pd.isna(value)) for value in second.values()], [True] * 7)


@task
def column_types_in_database() -> None:
    engine = new_engine()
    frame(1).assign(at=pd.Timestamp("2001-02-03")).to_sql(
        "pandas_dtypes", engine, if_exists="replace", index=False
    )
    found = pd.read_sql(
        "SELECT column_name, data_type FROM information_schema.columns "
        "WHERE table_name = 'pandas_dtypes' ORDER BY ordinal_position",
        engine,
    )
    equal(
        found.values.tolist(),
        [["id", "bigint"], ["title", "text"], ["price", "double precision"],
         ["at", "timestamp without time zone"]],
    )


@task
def vectors() -> None:
    engine = new_engine()
    table = pd.DataFrame({"id": range(20), "embedding": [[i, 0, 1] for i in range(20)]})
    table.to_sql(
        "pandas_vectors", engine, if_exists="replace", index=False, dtype={"embedding": Vector(3)}
    )
    found = pd.read_sql(
        sa.text(
            "SELECT id, embedding::text AS embedding, embedding <-> CAST(:q AS vector) AS distance "
            "FROM pandas_vectors ORDER BY embedding <-> CAST(:q AS vector) LIMIT 2"
        ),
        engine, params={"q": "[7,0,1]"},
    )
    equal(found["id"].iloc[0], 7)
    equal(found["distance"].tolist(), [0.0, 1.0])
    equal(json.loads(found["embedding"].iloc[0]), [7, 0, 1])


@task
def jsonb_column() -> None:
    engine = new_engine()
    table = pd.DataFrame({"id": [1], "meta": [{"a": [1, 2]}]})
    table.to_sql(
        "pandas_json", engine, if_exists="replace", index=False,
        dtype={"meta": sa.dialects.postgresql.JSONB},
    )
    found = pd.read_sql("SELECT meta FROM pandas_json", engine)
    equal(found["meta"].iloc[0], {"a": [1, 2]})


@task
def read_sql_table() -> None:
    engine = new_engine()
    frame(4).to_sql("pandas_table", engine, if_exists="replace", index=False)
    found = pd.read_sql_table("pandas_table", engine, columns=["id", "price"])
    equal(found.sort_values("id").values.tolist(), [[0, 0.0], [1, 0.5], [2, 1.0], [3, 1.5]])


@task
def read_in_chunks() -> None:
    engine = new_engine()
    frame(20000).to_sql("pandas_chunks", engine, if_exists="replace", index=False, chunksize=5000)
    with engine.connect().execution_options(stream_results=True) as connection:
        parts = [
            len(part)
            for part in pd.read_sql("SELECT * FROM pandas_chunks", connection, chunksize=3000)
        ]
    equal(parts, [3000] * 6 + [2000])


@task
def parameters_and_groups() -> None:
    engine = new_engine()
    frame(100).to_sql("pandas_groups", engine, if_exists="replace", index=False)
    found = pd.read_sql(
        sa.text(
            "SELECT id % 3 AS rest, count(*) AS n, avg(price) AS mean FROM pandas_groups "
            "WHERE id < :below GROUP BY id % 3 ORDER BY rest"
        ),
        engine, params={"below": 9}, dtype={"mean": "float64"},
    )
    equal(found.values.tolist(), [[0, 3, 1.5], [1, 3, 2.0], [2, 3, 2.5]])


@task
def numeric_average() -> None:
    query = "SELECT avg(i) AS a, sum(i) AS s FROM (VALUES (1), (2)) AS t(i)"
    found = pd.read_sql(query, new_engine())
    equal(found["a"].iloc[0], 1.5)
    equal((int(found["s"].iloc[0]), str(found["s"].dtype)), (3, "int64"))


@task
def error_and_rollback() -> None:
    engine = new_engine()
    frame(1).to_sql("pandas_error", engine, if_exists="replace", index=False)
    with engine.connect() as connection:
        try:
            pd.read_sql("SELECT nothing FROM pandas_error", connection)
        except pd.errors.DatabaseError as error:
            assert 'column "nothing" does not exist' in str(error), error
        connection.rollback()
        equal(pd.read_sql("SELECT id FROM pandas_error", connection)["id"].tolist(), [0])
        frame(3).to_sql("pandas_error", connection, if_exists="append", index=False)
        connection.rollback()
    equal(len(pd.read_sql("SELECT * FROM pandas_error", engine)), 1)


if __name__ == "__main__":
    run("pandas")
