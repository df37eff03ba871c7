"""Whether declared recall is kept: for each target and filter, the recall that searches have once the
server has learned, on queries that it did not learn from.

Loads a set, holds out some of its rows as queries, lets the first half teach the server and measures
the second half against the exact answer. A search that the server answers by comparing all rows that
qualify, or by a walk for no more than k candidates, may be better than its target: there is nothing
cheaper. Any other must be within [target - 0.005, target + 0.03]. Needs the Python packages psycopg and numpy.

    python benches/recall/declared.py --azimuth target/release/azimuth --data DIR/embeddings.f16.npy
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
import psycopg

K = 10
HELD_OUT = 3_000
TARGETS = (0.90, 0.95, 0.99)
# Rows qualify by `p < limit`, where p is a permutation of the rows.
SHARES = (1.0, 0.5, 0.2, 0.05, 0.01)
OPERATORS = {"cosine": "<=>", "l2": "<->"}
BELOW, ABOVE = 0.005, 0.03


def text(vector):
    return "[" + ",".join(f"{x:.6g}" for x in vector) + "]"


def connect(arguments):
    for _ in range(100):
        try:
            return psycopg.connect(
                host="127.0.0.1",
                port=arguments.port,
                user="azimuth",
                dbname="azimuth",
                autocommit=True,
                prepare_threshold=0,
            )
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise SystemExit("the server did not start")


def load(connection, arguments, base, places):
    connection.execute(f"CREATE TABLE t (id int PRIMARY KEY, p int, v vector({base.shape[1]}))")
    with connection.cursor().copy("COPY t FROM STDIN") as copy:
        for i, vector in enumerate(base):
            copy.write_row((i, int(places[i]), text(vector)))
    connection.execute(
        f"CREATE INDEX ON t USING hnsw (v vector_{arguments.distance}_ops) "
        f"WITH (quantization = '{arguments.quantization}')"
    )


def nearness(base, queries, distance):
    """Larger is nearer."""
    if distance == "cosine":
        base = base / np.linalg.norm(base, axis=1, keepdims=True)
        return queries @ base.T
    return 2 * queries @ base.T - (base**2).sum(1)


def search(connection, arguments, query, limit):
    where = "" if limit is None else f"WHERE p < {limit} "
    sql = f"SELECT id FROM t {where}ORDER BY v {OPERATORS[arguments.distance]} %s LIMIT {K}"
    return [row[0] for row in connection.execute(sql, (text(query),)).fetchall()]


def strategy(connection, arguments, query, limit):
    where = "" if limit is None else f"WHERE p < {limit} "
    sql = f"SELECT id FROM t {where}ORDER BY v {OPERATORS[arguments.distance]} %s LIMIT {K}"
    rows = connection.execute("EXPLAIN ANALYZE " + sql, (text(query),)).fetchall()
    line = next(row[0] for row in rows if "VectorTopK: " in row[0])
    fields = dict(part.split("=", 1) for part in line.split(", ") if "=" in part)
    return fields["strategy"], fields.get("ef_walked", "-")


def samples(connection):
    """Searches that the server has learned from."""
    rows = connection.execute("SELECT sum(recall_samples) FROM azimuth.tuner").fetchone()
    return int(rows[0] or 0)


def learn(connection, arguments, queries, limit):
    """Searches until the class has enough samples, or the time is over."""
    before, began = samples(connection), time.monotonic()
    while time.monotonic() - began < arguments.seconds:
        for query in queries[:200]:
            search(connection, arguments, query, limit)
        queries = np.roll(queries, -200, axis=0)
        if samples(connection) - before >= arguments.samples:
            return


def run(connection, arguments, base, queries):
    places = np.random.default_rng(3).permutation(len(base))
    load(connection, arguments, base, places)
    half = len(queries) // 2
    taught, asked = queries[:half], queries[half:]
    near = nearness(base, asked, arguments.distance)
    failures = 0
    print("share  target  strategy  ef     recall  distance to target")
    for share in SHARES:
        limit = None if share == 1.0 else int(share * len(base))
        kept = near if limit is None else np.where(places < limit, near, -np.inf)
        truth = np.argpartition(-kept, K, axis=1)[:, :K]
        learn(connection, arguments, taught, limit)
        for target in TARGETS:
            connection.execute(f"SET hnsw.recall_target = {target}")
            hits = 0
            for row, query in zip(truth, asked):
                hits += len(set(row.tolist()) & set(search(connection, arguments, query, limit)))
            recall = hits / K / len(asked)
            way, ef = strategy(connection, arguments, asked[0], limit)
            cheapest = way != "graph" or ef == str(K)
            bad = recall < target - BELOW or (recall > target + ABOVE and not cheapest)
            failures += bad
            mark = "  MISSED" if bad else ""
            print(
                f"{share:<6g} {target:<7g} {way:<9} {ef:<6} {recall:.4f}  {recall - target:+.4f}{mark}",
                flush=True,
            )
        connection.execute("RESET hnsw.recall_target")
    rows = connection.execute(
        "SELECT k, share, ef_per_row, recall, recall_error, recall_samples, p95_us "
        "FROM azimuth.tuner ORDER BY searches DESC"
    ).fetchall()
    print("classes:", *rows, sep="\n  ")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--azimuth", required=True, type=pathlib.Path)
    parser.add_argument("--data", required=True, type=pathlib.Path, help="a .npy file of vectors")
    parser.add_argument("--distance", choices=OPERATORS, default="cosine")
    parser.add_argument("--quantization", default="sq8")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--samples", type=int, default=600)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--port", type=int, default=5477)
    arguments = parser.parse_args()
    vectors = np.load(arguments.data).astype(np.float32)
    order = np.random.default_rng(1).permutation(len(vectors))
    queries, base = vectors[order[:HELD_OUT]], vectors[order[HELD_OUT:]]
    folder = pathlib.Path(tempfile.mkdtemp())
    server = subprocess.Popen(
        [arguments.azimuth, "serve", "--data", folder, "--pg", f"127.0.0.1:{arguments.port}"],
        stderr=subprocess.DEVNULL,
    )
    try:
        with connect(arguments) as connection:
            failures = run(connection, arguments, base[: arguments.rows], queries)
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
