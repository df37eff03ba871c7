"""A fifth of a table is deleted and inserted again, ten times over, while searches go on.

Each round checks that every deleted id is gone and every new one is found by its own vector at once,
that an updated row is never found by its old vector, and at the end that recall is within 0.01 and
the 95th percentile within 1.3 times of an index built anew. Needs the Python packages psycopg and
numpy.

    python tests/sim/churn.py --azimuth target/release/azimuth [--rows 20000] [--quantization sq8]
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
import psycopg

DIM = 64
K = 10
QUERIES = 300


def text(vector):
    return "[" + ",".join(f"{x:.6g}" for x in vector) + "]"


class World:
    def __init__(self, arguments):
        self.arguments = arguments
        self.rng = np.random.default_rng(7)
        self.centres = self.rng.standard_normal((200, DIM), dtype=np.float32)
        self.vectors = {}

    def connect(self):
        for _ in range(100):
            try:
                connection = psycopg.connect(
                    host="127.0.0.1",
                    port=self.arguments.port,
                    user="azimuth",
                    dbname="azimuth",
                    autocommit=True,
                    prepare_threshold=0,
                )
                # The same walk before and after: a declared recall would be met by both.
                connection.execute("SET hnsw.ef_search = 64")
                return connection
            except psycopg.OperationalError:
                time.sleep(0.1)
        raise SystemExit("the server did not start")

    def draw(self, count):
        points = self.centres[self.rng.integers(200, size=count)]
        return points + self.rng.standard_normal((count, DIM), dtype=np.float32)

    def copy(self, connection, ids):
        vectors = self.draw(len(ids))
        with connection.cursor().copy("COPY t FROM STDIN") as copy:
            for i, vector in zip(ids, vectors):
                copy.write_row((i, text(vector)))
        self.vectors.update(zip(ids, vectors))

    def search(self, connection, vector):
        sql = "SELECT id FROM t ORDER BY v <-> %s LIMIT 10"
        return [row[0] for row in connection.execute(sql, (text(vector),)).fetchall()]

    def measure(self, connection, queries):
        """Mean recall and the 95th percentile of latency, in milliseconds."""
        ids = np.array(list(self.vectors))
        matrix = np.stack(list(self.vectors.values()))
        norms = (matrix**2).sum(1)
        for query in queries[:20]:
            self.search(connection, query)
        hits, times = 0, []
        for query in queries:
            began = time.perf_counter()
            found = self.search(connection, query)
            times.append(time.perf_counter() - began)
            truth = set(ids[np.argpartition(norms - 2 * matrix @ query, K)[:K]].tolist())
            hits += len(truth & set(found))
        return hits / K / len(queries), float(np.percentile(times, 95)) * 1e3


def settle(connection):
    while True:
        row = connection.execute("SELECT covered_rows >= rows FROM azimuth.indexes").fetchone()
        if row[0]:
            return
        time.sleep(0.1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--azimuth", required=True)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--quantization", default="sq8")
    parser.add_argument("--port", type=int, default=5476)
    arguments = parser.parse_args()
    directory = pathlib.Path(tempfile.mkdtemp())
    server = subprocess.Popen(
        [arguments.azimuth, "serve", "--data", directory, "--pg", f"127.0.0.1:{arguments.port}"],
        stdout=open(directory.with_suffix(".log"), "w"),
        stderr=subprocess.STDOUT,
    )
    failed = []

    def check(true, what):
        if not true:
            failed.append(what)
            print(f"FAILED: {what}", flush=True)

    try:
        world = World(arguments)
        connection = world.connect()
        connection.execute(f"CREATE TABLE t (id int PRIMARY KEY, v vector({DIM}))")
        world.copy(connection, list(range(arguments.rows)))
        index = (
            "CREATE INDEX t_v ON t USING hnsw (v vector_l2_ops) "
            f"WITH (quantization = {arguments.quantization})"
        )
        connection.execute(index)
        queries = world.draw(QUERIES)
        print("built: recall %.4f, p95 %.2f ms" % world.measure(connection, queries), flush=True)
        stop, searches = threading.Event(), [0]

        def reader():
            mine = world.connect()
            while not stop.is_set():
                found = world.search(mine, queries[searches[0] % QUERIES])
                check(len(found) == K, "fewer rows than there are")
                searches[0] += 1

        thread = threading.Thread(target=reader)
        thread.start()
        for number in range(arguments.rounds):
            gone = world.rng.choice(arguments.rows, arguments.rows // 5, replace=False).tolist()
            old = {i: world.vectors[i] for i in gone}
            if number % 2 == 0:
                connection.execute(f"DELETE FROM t WHERE id IN ({', '.join(map(str, gone))})")
                for i in gone:
                    del world.vectors[i]
                for i in gone[:50]:
                    check(i not in world.search(connection, old[i]), "a deleted row was found")
                world.copy(connection, gone)
            else:
                for i in gone[:300]:
                    world.vectors[i] = world.draw(1)[0]
                    connection.execute(
                        "UPDATE t SET v = %s WHERE id = %s", (text(world.vectors[i]), i)
                    )
            changed = gone if number % 2 == 0 else gone[:300]
            for i in changed[:100]:
                found = world.search(connection, world.vectors[i])
                check(found[0] == i, "a new vector was not found at once")
                near = ((world.vectors[i] - old[i]) ** 2).sum()
                ghost = world.search(connection, old[i])[0] == i
                check(not ghost or near < 1, "a row was found by its old vector")
            if number == arguments.rounds // 2:
                connection.execute("VACUUM t")
        stop.set()
        thread.join()
        settle(connection)
        churned = world.measure(connection, queries)
        connection.execute("DROP INDEX t_v")
        connection.execute(index)
        fresh = world.measure(connection, queries)
        print(f"{arguments.rounds} rounds, {searches[0]} searches meanwhile", flush=True)
        print("churned: recall %.4f, p95 %.2f ms" % churned)
        print("built anew: recall %.4f, p95 %.2f ms" % fresh)
        check(churned[0] >= fresh[0] - 0.01, "recall fell")
        check(churned[1] <= 1.3 * fresh[1], "searches became slower")
    finally:
        server.terminate()
        server.wait(60)
        shutil.rmtree(directory)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
