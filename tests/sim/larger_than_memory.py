"""A table ten times as large as `memory_bytes` is loaded, indexed, searched, and aggregated.

Watches the server's private memory (anonymous pages: what it cannot give back) all the while; pages of
mapped files are the system's to drop. Needs Linux and the Python package psycopg.

    python tests/sim/larger_than_memory.py --azimuth target/release/azimuth [--memory-mib 64]
"""

import argparse
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import psycopg

DIM = 1024
COPIED = 2_000


def anonymous(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) << 10
    return 0


class Watch(threading.Thread):
    """The most private memory of each phase."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.phase, self.most = pid, "start", {}
        self.start()

    def run(self):
        while True:
            try:
                now = anonymous(self.pid)
            except OSError:
                return
            self.most[self.phase] = max(self.most.get(self.phase, 0), now)
            time.sleep(0.02)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--azimuth", required=True)
    parser.add_argument("--memory-mib", type=int, default=64)
    parser.add_argument("--port", type=int, default=5474)
    arguments = parser.parse_args()
    limit = arguments.memory_mib << 20
    rows = 10 * limit // (4 * DIM) // COPIED * COPIED + COPIED
    directory = pathlib.Path(tempfile.mkdtemp())
    (directory / "azimuth.toml").write_text(f"memory_bytes = {limit}\n")
    server = subprocess.Popen(
        [arguments.azimuth, "serve", "--data", directory / "data", "--pg"]
        + [f"127.0.0.1:{arguments.port}", "--config", directory / "azimuth.toml"],
        stdout=open(directory / "server.log", "w"),
        stderr=subprocess.STDOUT,
    )
    watch = Watch(server.pid)
    failed = []

    def connect():
        return psycopg.connect(
            host="127.0.0.1", port=arguments.port, user="azimuth", dbname="azimuth", autocommit=True
        )

    def phase(name, work):
        watch.phase = name
        began = time.monotonic()
        result = work()
        time.sleep(0.05)
        most = watch.most.get(name, 0) >> 20
        print(f"{name}: {time.monotonic() - began:.1f} s, {most} MiB private", flush=True)
        return result

    try:
        for _ in range(500):
            try:
                connection = connect()
                break
            except psycopg.OperationalError:
                time.sleep(0.02)
        chance = random.Random(1)
        # Around two thousand centres, as embeddings of texts are.
        pool = [chance.gauss(0, 1) for _ in range(1 << 16)]

        def vector(seed):
            base = (seed * 7919) % (len(pool) - DIM)
            centre = (seed % 2000) * 31 % (len(pool) - DIM)
            pairs = zip(pool[centre : centre + DIM], pool[base : base + DIM])
            return "[" + ",".join(f"{a + 0.4 * b:.4f}" for a, b in pairs) + "]"

        def load():
            connection.execute(f"CREATE TABLE t (id int PRIMARY KEY, n int, v vector({DIM}))")
            with connection.cursor() as cursor:
                for first in range(0, rows, COPIED):
                    with cursor.copy("COPY t FROM STDIN") as copy:
                        for at in range(first, first + COPIED):
                            copy.write(f"{at}\t{at % 97}\t{vector(at)}\n")

        phase("load", load)
        size = sum(f.stat().st_size for f in (directory / "data").rglob("*") if f.is_file())
        print(f"{rows} rows of {DIM} dimensions, {size >> 20} MiB of files, limit {limit >> 20} MiB")
        phase("index", lambda: connection.execute("CREATE INDEX ON t USING hnsw (v vector_l2_ops)"))

        def search():
            hits = 0
            for query in range(200):
                text = vector(rows + query)
                statement = f"SELECT id FROM t ORDER BY v <-> '{text}' LIMIT 10"
                found = {row[0] for row in connection.execute(statement)}
                if query < 20:
                    connection.execute("SET enable_ann = off")
                    exact = {row[0] for row in connection.execute(statement)}
                    connection.execute("SET enable_ann = on")
                    hits += len(found & exact)
            return hits / 200

        recall = phase("search", search)
        print(f"recall@10 {recall:.3f}")
        groups = phase(
            "aggregate",
            lambda: connection.execute("SELECT n, count(*), max(id) FROM t GROUP BY n").fetchall(),
        )
        sort = phase(
            "update",
            lambda: connection.execute("UPDATE t SET n = n + 1 WHERE id % 50 = 0").rowcount,
        )
        if sum(group[1] for group in groups) != rows or sort != rows // 50 or recall < 0.9:
            failed.append("wrong answers")
        if connection.execute("SELECT count(*) FROM t").fetchone()[0] != rows:
            failed.append("rows are missing")
        server.kill()
        server.wait()
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(directory, ignore_errors=True)
    print("most private memory:", {name: f"{most >> 20} MiB" for name, most in watch.most.items()})
    if failed:
        sys.exit("; ".join(failed))


if __name__ == "__main__":
    main()
