"""psql: its commands and what they print. PGBIN, if set, is the folder of the programs."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from tasks import DATABASE, USER, Skip, equal, host_port, run, task


def start(*arguments: str) -> subprocess.Popen[str]:
    host, port = host_port()
    path = str(Path(os.environ["PGBIN"]) / "psql") if "PGBIN" in os.environ else "psql"
    environment = {
        **os.environ, "PGHOST": host, "PGPORT": str(port), "PGUSER": USER, "PGDATABASE": DATABASE,
        "PAGER": "", "LC_ALL": "C.UTF-8", "PGCLIENTENCODING": "UTF8", "PGTZ": "UTC",
    }
    return subprocess.Popen(
        [path, "-X", *arguments], env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )


def psql(script: str, *options: str) -> list[str]:
    """The lines that a script prints, errors among them, unaligned and without headers."""
    out, _ = start("-qAt", *options).communicate(script, timeout=50)
    return out.splitlines()


def aligned(script: str) -> list[str]:
    """The lines that a script prints as on a terminal, without blanks at their ends."""
    out, _ = start("-q").communicate(script, timeout=50)
    return [line.rstrip() for line in out.splitlines()]


def fresh(table: str, columns: str, *more: str) -> None:
    statements = [f"DROP TABLE IF EXISTS {table}", f"CREATE TABLE {table} ({columns})", *more]
    equal([line for line in psql(";\n".join(statements) + ";") if "NOTICE" not in line], [])


@task
def create_insert_select() -> None:
    fresh("psql_docs", "id integer PRIMARY KEY, title text, price real")
    out, _ = start("-At").communicate(
        "INSERT INTO psql_docs VALUES (1, 'one', 1.5), (2, NULL, NULL);\n"
        "UPDATE psql_docs SET price = 2 WHERE id = 1;\nDELETE FROM psql_docs WHERE id = 2;\n"
        "SELECT * FROM psql_docs;\n"
    )
    equal(out.splitlines(), ["INSERT 0 2", "UPDATE 1", "DELETE 1", "1|one|2"])


@task
def notices() -> None:
    drop = "DROP TABLE IF EXISTS psql_nowhere;\n"
    equal(psql(drop), ['NOTICE:  table "psql_nowhere" does not exist, skipping'])
    equal(psql("SET client_min_messages = warning;\n" + drop), [])


@task
def aligned_result() -> None:
    equal(
        aligned("SELECT 1 AS id, 'a' AS title, 1.5::real AS price;"),
        [" id | title | price", "----+-------+-------", "  1 | a     |   1.5", "(1 row)", ""],
    )


@task
def expanded() -> None:
    equal(
        aligned("\\x\nSELECT 1 AS id, 'a' AS title;"),
        ["-[ RECORD 1 ]", "id    | 1", "title | a", ""],
    )


@task
def scalar_types() -> None:
    types = {
        "boolean": "t", "smallint": "-32768", "integer": "2147483647",
        "bigint": "-9223372036854775808", "real": "1.5", "double precision": "0.1",
        "text": "Grüße", "varchar": "größer", "bytea": "\\x0001ff", "date": "1999-12-31",
        "timestamp": "2001-02-03 04:05:06.789012", "timestamptz": "2001-02-03 04:05:06.5+00",
        "vector(2)": "[1,2.5]",
    }
    columns = ", ".join(f"c{place} {name}" for place, name in enumerate(types))
    values = ", ".join(f"'{value}'" for value in types.values())
    nulls = ", ".join("NULL" for _ in types)
    fresh("psql_types", columns, f"INSERT INTO psql_types VALUES ({values}), ({nulls})")
    equal(
        psql("\\pset null ~\nSELECT * FROM psql_types ORDER BY c0 NULLS LAST;"),
        ["|".join(types.values()), "|".join("~" for _ in types)],
    )


@task
def other_types() -> None:
    for name, value in (
        ("numeric(10,2)", "12.50"), ("uuid", "12345678-1234-5678-1234-567812345678"),
        ("jsonb", '{"a": [1, null]}'), ("integer[]", "{1,NULL,3}"), ("time", "12:34:56"),
        ("interval", "1 day 02:03:04"), ("varchar(10)", "ten"), ("char(3)", "abc"),
    ):
        equal([name, *psql(f"SELECT CAST('{value}' AS {name});")], [name, value])


@task
def other_types_in_tables() -> None:
    for place, (name, value) in enumerate((
        ("numeric(10,2)", "12.50"), ("uuid", "12345678-1234-5678-1234-567812345678"),
        ("jsonb", '{"a": [1, null]}'), ("integer[]", "{1,NULL,3}"), ("time", "12:34:56"),
        ("interval", "1 day 02:03:04"), ("varchar(10)", "ten"), ("char(3)", "abc"),
    )):
        fresh(f"psql_other_{place}", f"v {name}",
              f"INSERT INTO psql_other_{place} VALUES ('{value}')")
        equal([name, *psql(f"SELECT v FROM psql_other_{place};")], [name, value])


@task
def describe_table() -> None:
    fresh("psql_described",
          "id bigint PRIMARY KEY, title text NOT NULL, at timestamptz, embedding vector(3)",
          "CREATE INDEX psql_hnsw ON psql_described USING hnsw (embedding vector_cosine_ops)")
    equal(
        aligned("\\d psql_described"),
        ['                     Table "public.psql_described"',
         "  Column   |           Type           | Collation | Nullable | Default",
         "-----------+--------------------------+-----------+----------+---------",
         " id        | bigint                   |           | not null |",
         " title     | text                     |           | not null |",
         " at        | timestamp with time zone |           |          |",
         " embedding | vector(3)                |           |          |",
         "Indexes:",
         '    "psql_described_pkey" PRIMARY KEY, btree (id)',
         '    "psql_hnsw" hnsw (embedding vector_cosine_ops)',
         ""],
    )


@task
def describe_table_more() -> None:
    fresh("psql_more", "id bigint PRIMARY KEY, title text")
    found = aligned("\\d+ psql_more")
    equal(
        [[cell.strip() for cell in line.split("|")] for line in found[3:5]],
        [["id", "bigint", "", "not null", "", "plain", "", "", ""],
         ["title", "text", "", "", "", "extended", "", "", ""]],
    )
    equal(
        found[5:],
        ["Indexes:", '    "psql_more_pkey" PRIMARY KEY, btree (id)', "Access method: heap", ""],
    )


@task
def describe_constraints() -> None:
    psql("DROP TABLE IF EXISTS psql_child;")
    fresh("psql_parent",
          "id serial PRIMARY KEY, mail varchar(30) UNIQUE, n int DEFAULT 7 CHECK (n > 0)")
    fresh("psql_child", "id int PRIMARY KEY, parent int REFERENCES psql_parent ON DELETE CASCADE")
    equal(
        psql("\\d psql_parent"),
        ["id|integer||not null|nextval('psql_parent_id_seq'::regclass)",
         "mail|character varying(30)|||", "n|integer|||7"],
    )
    equal(
        aligned("\\d psql_parent")[6:],
        ["Indexes:", '    "psql_parent_pkey" PRIMARY KEY, btree (id)',
         '    "psql_parent_mail_key" UNIQUE CONSTRAINT, btree (mail)', "Check constraints:",
         '    "psql_parent_n_check" CHECK (n > 0)', "Referenced by:",
         '    TABLE "psql_child" CONSTRAINT "psql_child_parent_fkey" FOREIGN KEY (parent) '
         "REFERENCES psql_parent(id) ON DELETE CASCADE", ""],
    )


@task
def describe_index() -> None:
    fresh("psql_index", "id integer, embedding vector(3), PRIMARY KEY (id)")
    equal(psql("\\d psql_index_pkey"), ["id|integer|yes|id"])
    equal(aligned("\\d psql_index_pkey")[4:],
          ['primary key, btree, for table "public.psql_index"', ""])


@task
def describe_nothing() -> None:
    for command in ("\\d", "\\dt", "\\dv"):
        out, _ = start("-c", f"{command} psql_nowhere").communicate(timeout=50)
        equal(out, 'Did not find any relation named "psql_nowhere".\n')


@task
def list_tables() -> None:
    fresh("psql_listed_one", "id integer")
    fresh("psql_listed_two", "id integer")
    listed = [f"public|psql_listed_{n}|table|azimuth" for n in ("one", "two")]
    equal(psql("\\dt psql_listed*"), listed)
    equal(psql("\\d psql_listed_*")[:1], ["id|integer|||"])
    assert set(listed) <= set(psql("\\dt")), "\\dt"
    assert set(listed) <= set(psql("\\d")), "\\d"


@task
def list_tables_more() -> None:
    fresh("psql_sized", "id integer")
    (line,) = psql("\\dt+ psql_sized")
    equal(line.split("|")[:6], ["public", "psql_sized", "table", "azimuth", "permanent", "heap"])


@task
def list_indexes() -> None:
    fresh("psql_with_index", "id integer PRIMARY KEY")
    equal(psql("\\di psql_with_index*"),
          ["public|psql_with_index_pkey|index|azimuth|psql_with_index"])


@task
def list_views() -> None:
    fresh("psql_viewed", "id integer")
    psql("DROP VIEW IF EXISTS psql_view;")
    equal(psql("CREATE VIEW psql_view AS SELECT id FROM psql_viewed;\n\\dv psql_view\n"
               "DROP VIEW psql_view;"),
          ["public|psql_view|view|azimuth"])


@task
def list_functions() -> None:
    found = psql("\\df l2_distance")
    assert "public|l2_distance|double precision|vector, vector|func" in found, found


@task
def list_schemas() -> None:
    psql("DROP SCHEMA IF EXISTS psql_space CASCADE;")
    equal(psql("CREATE SCHEMA psql_space;\n\\dn psql_space\nDROP SCHEMA psql_space;"),
          ["psql_space|azimuth"])


@task
def list_roles() -> None:
    (line,) = psql("\\du azimuth")
    equal(line.split("|")[0], "azimuth")
    assert "Superuser" in line and "Create role" in line, line


@task
def list_databases() -> None:
    found = [line.split("|")[:3] for line in psql("\\l azimuth")]
    equal(found[0], ["azimuth", "azimuth", "UTF8"])
    assert "azimuth" in start("-lqAt").communicate()[0]


@task
def list_extensions() -> None:
    (line,) = [line for line in psql("\\dx") if line.startswith("vector|")]
    equal(line.split("|")[2], "public")


@task
def list_types_and_operators() -> None:
    assert any(line.startswith("public|vector|") for line in psql("\\dT vector")), "\\dT"
    found = psql("\\do <->")
    assert any(l.startswith("public|<->|vector|vector|double precision") for l in found), found


@task
def list_privileges() -> None:
    fresh("psql_privileges", "id integer")
    equal(psql("\\dp psql_privileges"), ["public|psql_privileges|table|||"])


@task
def list_settings() -> None:
    equal(psql("\\dconfig statement_timeout",), ["statement_timeout|0"])


@task
def connection_information() -> None:
    host, port = host_port()
    equal(
        psql("\\conninfo"),
        [f'You are connected to database "{DATABASE}" as user "{USER}" on host "{host}" '
         f'at port "{port}".'],
    )


@task
def copy_from_and_to_a_file() -> None:
    fresh("psql_copy", "id integer PRIMARY KEY, title text")
    source, target = f"/tmp/psql_copy_{os.getpid()}.csv", f"/tmp/psql_copied_{os.getpid()}.csv"
    Path(source).write_text('id,title\n1,"a,b"\n2,\n3,""\n')
    out, _ = start("-At").communicate(
        f"\\copy psql_copy FROM '{source}' WITH (FORMAT csv, HEADER)\n"
        f"\\copy (SELECT * FROM psql_copy ORDER BY id) TO '{target}' WITH (FORMAT csv, HEADER)\n"
    )
    equal(out.splitlines(), ["COPY 3", "COPY 3"])
    equal(Path(target).read_text(), Path(source).read_text())
    Path(source).unlink()
    Path(target).unlink()


@task
def copy_from_stdin() -> None:
    fresh("psql_stdin", "id integer PRIMARY KEY, title text")
    equal(
        psql("COPY psql_stdin FROM STDIN;\n1\ta\\tb\n2\t\\N\n\\.\n"
             "SELECT id, title FROM psql_stdin ORDER BY id;\nCOPY psql_stdin TO STDOUT;"),
        ["1|a\tb", "2|", "1\ta\\tb", "2\t\\N"],
    )


@task
def fetch_count() -> None:
    fresh("psql_fetch", "i integer PRIMARY KEY",
          "INSERT INTO psql_fetch SELECT t.i FROM generate_series(1, 20000) AS t(i)")
    found = psql("SELECT i FROM psql_fetch;", "-v", "FETCH_COUNT=1000")
    equal((len(found), sum(map(int, found))), (20000, 200_010_000))


@task
def vector_search() -> None:
    fresh("psql_vectors", "id integer PRIMARY KEY, embedding vector(3)",
          "INSERT INTO psql_vectors VALUES (1, '[1,0,1]'), (2, '[2,0,1]'), (3, '[9,0,1]')",
          "CREATE INDEX ON psql_vectors USING hnsw (embedding vector_l2_ops)")
    search = "SELECT id, embedding <-> '[2,0,1]' AS d FROM psql_vectors ORDER BY d LIMIT 2;"
    equal(psql(search), ["2|0", "1|1"])


@task
def prepared_search() -> None:
    fresh("psql_prepared", "id integer PRIMARY KEY, embedding vector(3)",
          "INSERT INTO psql_prepared VALUES (1, '[1,0,1]'), (2, '[2,0,1]'), (3, '[9,0,1]')")
    equal(
        psql("PREPARE near(vector, int) AS SELECT id FROM psql_prepared "
             "ORDER BY embedding <-> $1 LIMIT $2;\nEXECUTE near('[8,0,1]', 2);\n"
             "DEALLOCATE near;\n"),
        ["3", "2"],
    )


@task
def bound_parameters() -> None:
    found = psql("SELECT $1::int + 1, $2::text \\bind 41 'a b' \\g\n")
    if found and "invalid command \\bind" in found[0]:
        raise Skip("psql before version 16 has no \\bind")
    equal(found, ["42|a b"])


@task
def transaction_and_savepoint() -> None:
    fresh("psql_transaction", "id integer PRIMARY KEY")
    equal(
        psql("BEGIN;\nINSERT INTO psql_transaction VALUES (1);\nSAVEPOINT a;\n"
             "INSERT INTO psql_transaction VALUES (2);\nROLLBACK TO a;\nCOMMIT;\n"
             "BEGIN;\nINSERT INTO psql_transaction VALUES (3);\nROLLBACK;\n"
             "SELECT id FROM psql_transaction;"),
        ["1"],
    )


@task
def on_error_rollback() -> None:
    fresh("psql_on_error", "id integer PRIMARY KEY")
    found = psql(
        "BEGIN;\nINSERT INTO psql_on_error VALUES (1);\nINSERT INTO psql_on_error VALUES (1);\n"
        "INSERT INTO psql_on_error VALUES (2);\nCOMMIT;\n"
        "SELECT id FROM psql_on_error ORDER BY id;",
        "-v", "ON_ERROR_ROLLBACK=on",
    )
    equal(found[-2:], ["1", "2"])


@task
def error_messages() -> None:
    equal(
        psql("SELECT * FROM psql_nowhere;\nSELECT 1 / 0;\n"),
        ['ERROR:  relation "psql_nowhere" does not exist', "LINE 1: SELECT * FROM psql_nowhere;",
         "                      ^", "ERROR:  division by zero"],
    )


@task
def error_codes() -> None:
    found = psql("\\set VERBOSITY sqlstate\nSELECT * FROM psql_nowhere;\nSELECT 'x'::int;\n"
                 "\\echo :SQLSTATE\nSELECT 1;\n\\echo :ROW_COUNT :ERROR\n")
    equal(found, ["ERROR:  42P01", "ERROR:  22P02", "22P02", "1", "1 false"])


@task
def describe_query() -> None:
    equal(psql("SELECT 1 AS a, 'x'::text AS b, '[1]'::vector(1) AS c, now() AS d \\gdesc"),
          ["a|integer", "b|text", "c|vector(1)", "d|timestamp with time zone"])


@task
def variables_and_gexec() -> None:
    found = psql("SELECT 3 AS n, 'x' AS s \\gset\nSELECT :n + 1, :'s';\n"
                 "SELECT 'SELECT ' || t.i FROM generate_series(1, 2) AS t(i) \\gexec\n")
    equal(found, ["4|x", "1", "2"])


@task
def crosstabview() -> None:
    found = psql("SELECT * FROM (VALUES ('a', 'x', 1), ('b', 'y', 2)) AS t(r, c, v) "
                 "\\crosstabview r c v\n")
    equal(found, ["a|1|", "b||2"])


@task
def upsert_returning() -> None:
    fresh("psql_upsert", "id integer PRIMARY KEY, n integer")
    upsert = ("INSERT INTO psql_upsert AS t VALUES (1, 1) ON CONFLICT (id) "
              "DO UPDATE SET n = t.n + 1 RETURNING *;\n")
    equal(psql(upsert * 2), ["1|1", "1|2"])


@task
def cancel_by_interrupt() -> None:
    fresh("psql_long", "i integer PRIMARY KEY",
          "INSERT INTO psql_long SELECT t.i FROM generate_series(1, 20000) AS t(i)")
    query = "SELECT count(*) FROM psql_long a, psql_long b WHERE a.i + b.i = 7;"
    running = start("-qAt", "-c", query)
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    began = time.monotonic()
    out, _ = running.communicate(timeout=50)
    assert time.monotonic() - began < 10, "it took too long"
    assert "canceling statement due to user request" in out, out


@task
def explain() -> None:
    fresh("psql_explained", "id integer PRIMARY KEY")
    found = psql("EXPLAIN (FORMAT json) SELECT * FROM psql_explained;")
    assert '"Plan"' in " ".join(found), found


if __name__ == "__main__":
    run("psql")
