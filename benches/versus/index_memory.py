#!/usr/bin/env python3
"""Memory of a vector index by quantization, from the server's resident pages after a search load.

For each quantization the server is started anew on the same table, so that nothing is left of
building; it then answers searches and its pages are counted, private ones (`RssAnon`) apart from
those of mapped files (`RssFile`), which are the system's to drop. The same without an index is taken
off. Needs Linux and the Python package psycopg.

    python benches/versus/index_memory.py --azimuth target/release/azimuth --rows 1000000 --dim 128
"""

import argparse
import pathlib
import shutil
import subprocess
import tempfile
import time

import psycopg

SEARCHES = 2_000


def resident(pid):
    """Bytes of private and of mapped pages."""
    fields = {}
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("RssAnon", "RssFile"):
            fields[name] = int(value.split()[0]) << 10
    return fields["RssAnon"], fields["RssFile"]


class Server:
    def __init__(self, arguments, directory):
        self.arguments, self.directory = arguments, directory
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [self.arguments.azimuth, "serve", "--data", self.directory / "data"]
            + ["--pg", f"127.0.0.1:{self.arguments.port}"],
            stdout=open(self.directory / "server.log", "a"),
            stderr=subprocess.STDOUT,
        )
        for _ in range(600):
            try:
                self.connection = psycopg.connect(
                    host="127.0.0.1",
                    port=self.arguments.port,
                    user="azimuth",
                    dbname="azimuth",
                    autocommit=True,
                )
                return
            except psycopg.OperationalError:
                time.sleep(0.1)
        raise SystemExit("the server did not start")

    def stop(self):
        self.connection.close()
        self.process.terminate()
        self.process.wait(60)

    def restart(self):
        self.stop()
        self.start()

    def run(self, sql):
        return self.connection.execute(sql)


def vector(dim, seed):
    """Numbers that differ from row to row, as an SQL array over the expression `seed`."""
    number = lambda i: f"sin({seed} * {0.37 + 0.0113 * i:.4f} + {i})"
    return "ARRAY[" + ", ".join(number(i) for i in range(dim)) + "]"


def search_load(server, dim):
    for seed in range(SEARCHES):
        row = server.run(f"SELECT v FROM t WHERE id = {seed * 37 % 1000 + 1}").fetchone()
        server.run(f"SELECT id FROM t ORDER BY v <-> '{row[0]}' LIMIT 10").fetchall()
        if seed == 0:
            plan = "\n".join(
                line[0]
                for line in server.run(
                    f"EXPLAIN ANALYZE SELECT id FROM t ORDER BY v <-> '{row[0]}' LIMIT 10"
                )
            )
            print("   " + next(x for x in plan.splitlines() if "VectorTopK" in x).strip()[:230])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--azimuth", required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--quantization", default="none,sq8,polar4")
    parser.add_argument("--port", type=int, default=5475)
    arguments = parser.parse_args()
    directory = pathlib.Path(tempfile.mkdtemp())
    rows, dim = arguments.rows, arguments.dim
    server = Server(arguments, directory)
    try:
        server.run(f"CREATE TABLE t (id int PRIMARY KEY, v vector({dim}))")
        for start in range(0, rows, 100_000):
            server.run(
                f"INSERT INTO t SELECT g, {vector(dim, 'g')} FROM "
                f"generate_series({start + 1}, {min(start + 100_000, rows)}) AS s(g)"
            )
        server.run("CHECKPOINT")
        server.restart()
        time.sleep(2)
        server.run("SELECT count(*) FROM t").fetchone()
        base = resident(server.process.pid)
        print(f"{rows} rows of {dim} dimensions; without an index {base[0] >> 20} MiB private")
        full = None
        for name in arguments.quantization.split(","):
            began = time.monotonic()
            server.run(f"CREATE INDEX t_v ON t USING hnsw (v vector_l2_ops) WITH (quantization = {name})")
            built = time.monotonic() - began
            server.run("CHECKPOINT")
            server.restart()
            ready = time.monotonic()
            wanted = "covered_rows = rows" + ("" if name == "none" else f" AND code_bytes >= {rows}")
            while not server.run(f"SELECT {wanted} FROM azimuth.indexes").fetchone()[0]:
                time.sleep(0.1)
            ready = time.monotonic() - ready
            search_load(server, dim)
            time.sleep(1)
            now = resident(server.process.pid)
            private = (now[0] - base[0]) / rows
            # Without codes the walk reads the full vectors, so they have to be resident.
            vectors = 4 * dim if name == "none" else 0
            total = private + vectors
            full = full or total
            counted = server.run("SELECT memory_bytes, code_bytes FROM azimuth.indexes").fetchone()
            print(
                f"{name}: built in {built:.0f} s, codes again {ready:.1f} s after a start; "
                f"{private:.0f} bytes a vector private + {vectors} of vectors = {total:.0f}, "
                f"{total / full:.3f} of none; counted {counted[0] / rows:.0f}, codes "
                f"{counted[1] / rows:.0f}; mapped {now[1] >> 20} MiB",
                flush=True,
            )
            server.run("DROP INDEX t_v")
    finally:
        server.stop()
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
