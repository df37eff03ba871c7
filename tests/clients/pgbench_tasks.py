"""pgbench, with its own scripts and with custom ones.

PGBIN, if set, is the folder of the programs.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

from tasks import DATABASE, USER, Skip, equal, host_port, run, task


def program(name: str, *arguments: str) -> str:
    """Runs a program of PostgreSQL; the answer is what it printed."""
    host, port = host_port()
    path = str(Path(os.environ["PGBIN"]) / name) if "PGBIN" in os.environ else name
    environment = {
        **os.environ, "PGHOST": host, "PGPORT": str(port), "PGUSER": USER, "PGDATABASE": DATABASE,
    }
    try:
        done = subprocess.run(
            [path, *arguments], env=environment, capture_output=True, text=True, timeout=50
        )
    except FileNotFoundError:
        raise Skip(f"{name} is not there") from None
    if done.returncode != 0 or "ERROR" in done.stderr:
        raise AssertionError(f"exit code {done.returncode}: {done.stderr[-600:]}")
    return done.stdout + done.stderr


def sql(*statements: str) -> str:
    commands = [part for statement in statements for part in ("-c", statement)]
    return program("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", *commands).strip()


def bench(script: str, *options: str, transactions: int = 20) -> str:
    """Runs a script; all of its transactions have to be done, none may fail."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        out = program("pgbench", "-n", "-t", str(transactions), "-f", file.name, *options)
    clients = int(options[options.index("-c") + 1]) if "-c" in options else 1
    processed = re.search(r"transactions actually processed: (\d+)/(\d+)", out)
    assert processed is not None, out
    equal(processed.groups(), (str(transactions * clients),) * 2)
    failed = re.search(r"number of failed transactions: (\d+)", out)
    equal(failed.group(1) if failed else "0", "0")
    return out


def vectors(table: str) -> None:
    rows = ", ".join(f"({i}, '[{i},{i % 7},1]')" for i in range(200))
    sql(
        f"DROP TABLE IF EXISTS {table}",
        f"CREATE TABLE {table} (id integer PRIMARY KEY, embedding vector(3))",
        f"INSERT INTO {table} VALUES {rows}",
        f"CREATE INDEX ON {table} USING hnsw (embedding vector_l2_ops)",
    )


def search(protocol: str) -> None:
    table = f"bench_search_{protocol}"
    log = f"bench_found_{protocol}"
    vectors(table)
    sql(f"DROP TABLE IF EXISTS {log}", f"CREATE TABLE {log} (wanted integer, found integer)")
    bench(
        "\\set wanted random(0, 199)\n"
        f"SELECT embedding AS q FROM {table} WHERE id = :wanted \\gset\n"
        f"SELECT id AS found FROM {table} ORDER BY embedding <-> :q LIMIT 1 \\gset\n"
        f"INSERT INTO {log} VALUES (:wanted, :found);\n",
        "-M", protocol,
    )
    equal(sql(f"SELECT count(*), count(*) FILTER (WHERE wanted = found) FROM {log}"), "20|20")


@task
def search_simple() -> None:
    vectors("bench_simple")
    bench(
        "\\set x random(0, 199)\n"
        "SELECT id FROM bench_simple ORDER BY embedding <-> '[:x,0,1]' LIMIT 5;\n"
    )


@task
def search_extended() -> None:
    search("extended")


@task
def search_prepared() -> None:
    search("prepared")


@task
def insert_prepared() -> None:
    sql("DROP TABLE IF EXISTS bench_insert",
        "CREATE TABLE bench_insert (client integer, n integer, title text)")
    bench(
        "\\set n random(1, 9)\nINSERT INTO bench_insert VALUES (:client_id, :n, 'title');\n",
        "-M", "prepared", "-c", "2", transactions=50,
    )
    found = sql("SELECT client, count(*), min(n) > 0 FROM bench_insert GROUP BY client ORDER BY 1")
    equal(found.splitlines(), ["0|50|t", "1|50|t"])


@task
def upsert_by_two_clients() -> None:
    sql("DROP TABLE IF EXISTS bench_upsert",
        "CREATE TABLE bench_upsert (id integer PRIMARY KEY, n integer)")
    bench(
        "INSERT INTO bench_upsert AS t VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET n = t.n + 1;\n",
        "-c", "2", transactions=50,
    )
    equal(sql("SELECT n FROM bench_upsert"), "100")


@task
def update_by_two_clients() -> None:
    """A statement that meets a change of the same row waits, and counts on what it finds then."""
    sql("DROP TABLE IF EXISTS bench_update",
        "CREATE TABLE bench_update (id integer PRIMARY KEY, n integer)",
        "INSERT INTO bench_update VALUES (1, 0)")
    bench("UPDATE bench_update SET n = n + 1 WHERE id = 1;\n", "-c", "2", transactions=50)
    equal(sql("SELECT n FROM bench_update"), "100")


@task
def transaction() -> None:
    sql("DROP TABLE IF EXISTS bench_pairs",
        "CREATE TABLE bench_pairs (client integer, side integer, n integer)")
    bench(
        "\\set n random(1, 1000)\nBEGIN;\n"
        "INSERT INTO bench_pairs VALUES (:client_id, 0, :n);\n"
        "INSERT INTO bench_pairs VALUES (:client_id, 1, 0 - :n);\nEND;\n",
        "-c", "2", "-M", "prepared",
    )
    equal(sql("SELECT count(*), sum(n) FROM bench_pairs"), "80|0")


@task
def rollback_and_savepoint() -> None:
    sql("DROP TABLE IF EXISTS bench_rollback", "CREATE TABLE bench_rollback (n integer)")
    bench(
        "BEGIN;\nINSERT INTO bench_rollback VALUES (1);\nROLLBACK;\n"
        "BEGIN;\nINSERT INTO bench_rollback VALUES (2);\nSAVEPOINT a;\n"
        "INSERT INTO bench_rollback VALUES (3);\nROLLBACK TO a;\nCOMMIT;\n"
    )
    equal(sql("SELECT n, count(*) FROM bench_rollback GROUP BY n"), "2|20")


@task
def retries_of_conflicts() -> None:
    """Under REPEATABLE READ a conflict is 40001, and pgbench tries again."""
    sql("DROP TABLE IF EXISTS bench_retry",
        "CREATE TABLE bench_retry (id integer PRIMARY KEY, n integer)",
        "INSERT INTO bench_retry VALUES (1, 0)")
    bench(
        "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT n FROM bench_retry WHERE id = 1;\n"
        "UPDATE bench_retry SET n = n + 1 WHERE id = 1;\nCOMMIT;\n",
        "-c", "2", "--max-tries", "100", transactions=30,
    )
    equal(sql("SELECT n FROM bench_retry"), "60")


@task
def transactions_with_an_update() -> None:
    """Under READ COMMITTED, the default, transactions on one row wait for each other."""
    sql("DROP TABLE IF EXISTS bench_read_committed",
        "CREATE TABLE bench_read_committed (id integer PRIMARY KEY, n integer)",
        "INSERT INTO bench_read_committed VALUES (1, 0)")
    bench(
        "BEGIN;\nUPDATE bench_read_committed SET n = n + 1 WHERE id = 1;\nCOMMIT;\n",
        "-c", "2", transactions=30,
    )
    equal(sql("SELECT n FROM bench_read_committed"), "60")


@task
def pipeline() -> None:
    sql("DROP TABLE IF EXISTS bench_pipeline", "CREATE TABLE bench_pipeline (n integer)")
    bench(
        "\\startpipeline\nINSERT INTO bench_pipeline VALUES (1);\n"
        "INSERT INTO bench_pipeline VALUES (2);\nSELECT count(*) FROM bench_pipeline;\n"
        "\\endpipeline\n",
        "-M", "extended",
    )
    equal(sql("SELECT count(*), sum(n) FROM bench_pipeline"), "40|60")


@task
def latency_report() -> None:
    vectors("bench_report")
    out = bench("SELECT count(*) FROM bench_report;\n", "--report-per-command", "-C")
    assert re.search(r"SELECT count\(\*\) FROM bench_report", out), out


@task
def initialize() -> None:
    program("pgbench", "-i", "-I", "dtgvp", "-s", "1", "-q")
    found = sql("SELECT count(*), min(abalance), max(aid) FROM pgbench_accounts")
    equal(found, "100000|0|100000")
    equal(sql("SELECT count(*) FROM pgbench_tellers"), "10")


@task
def initialize_in_the_server() -> None:
    program("pgbench", "-i", "-I", "dtGp", "-s", "1", "-q")
    equal(sql("SELECT count(*), sum(bid) FROM pgbench_accounts"), "100000|100000")


@task
def tpcb() -> None:
    """The balances agree after concurrent transfers of the script that comes with pgbench."""
    program("pgbench", "-i", "-I", "dtg", "-s", "1", "-q")
    out = program("pgbench", "-n", "-t", "20", "-c", "2")
    assert "processed: 40/40" in out, out
    sums = [f"(SELECT sum({c}balance) FROM pgbench_{t})"
            for c, t in (("b", "branches"), ("t", "tellers"), ("a", "accounts"))]
    delta = "(SELECT sum(delta) FROM pgbench_history)"
    equal(sql(f"SELECT {sums[0]} = {delta}, {sums[1]} = {delta}, {sums[2]} = {delta}"), "t|t|t")


if __name__ == "__main__":
    run("pgbench")
