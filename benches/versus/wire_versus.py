"""Queries per second over the PostgreSQL protocol, beside PostgreSQL with pgvector, at equal recall.

Both servers hold the same vectors and are asked the same prepared search by `wire-load` (`benches`),
PostgreSQL with a sweep of `hnsw.ef_search`, Azimuth with one of `hnsw.recall_target`. The load costs
little beside them: sixteen connections, one server at a time on the same cores. Needs the Python
packages psycopg and numpy, and PostgreSQL with pgvector that is running.

    python benches/versus/wire_versus.py --azimuth target/release/azimuth \\
        --load target/release/wire-load --data DIR --pgvector "host=/tmp user=postgres dbname=postgres"
"""

import argparse
import json
import math
import pathlib
import shutil
import subprocess
import tempfile
import time

import numpy as np
import psycopg

RECALLS = (0.95, 0.99)
TARGETS = "0.85,0.9,0.93,0.95,0.96,0.97,0.98,0.99,0.995"


def text(vector):
    return "[" + ",".join(f"{x:.6g}" for x in vector) + "]"


def load(connection, base, options):
    connection.execute("DROP TABLE IF EXISTS wire")
    dim = base.shape[1]
    connection.execute(f"CREATE TABLE wire (id int PRIMARY KEY, embedding vector({dim}))")
    with connection.cursor().copy("COPY wire FROM STDIN") as copy:
        for i, vector in enumerate(base):
            copy.write_row((i, text(vector)))
    began = time.monotonic()
    connection.execute(
        f"CREATE INDEX ON wire USING hnsw (embedding vector_cosine_ops) WITH ({options})"
    )
    return time.monotonic() - began


def sweep(arguments, name, place, *more):
    vectors = [str(arguments.data / file) for file in ("embeddings.f16.npy", "queries.npy")]
    options = [f"connections={arguments.connections}", f"seconds={arguments.seconds}"]
    done = subprocess.run(
        [arguments.load, place, *vectors, *options, *more], check=True, capture_output=True, text=True
    )
    points = json.loads(done.stdout)["points"]
    for point in points:
        print(
            f"{name:15} {point['value']:>5} recall {point['recall']:.4f} {point['qps']:8.0f} QPS, "
            f"p50 {point['p50_ms']:.2f} ms, p99 {point['p99_ms']:.2f} ms",
            flush=True,
        )
    return points


def at(points, target):
    """QPS where the sweep reaches a recall, between two points in logarithms."""
    for a, b in zip(points, points[1:]):
        if a["recall"] < target <= b["recall"]:
            part = (target - a["recall"]) / (b["recall"] - a["recall"])
            return math.exp(math.log(a["qps"]) * (1 - part) + math.log(b["qps"]) * part)
    reached = [point["qps"] for point in points if point["recall"] >= target]
    return max(reached) if reached else float("nan")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--azimuth", required=True, type=pathlib.Path)
    parser.add_argument("--data", required=True, type=pathlib.Path)
    parser.add_argument("--pgvector", required=True, help="a connection string")
    parser.add_argument("--load", default="target/release/wire-load")
    parser.add_argument("--quantization", default="sq8,polar4")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--port", type=int, default=5478)
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()
    base = np.load(arguments.data / "embeddings.f16.npy").astype(np.float32)
    folder = pathlib.Path(tempfile.mkdtemp())
    results = {}
    with psycopg.connect(arguments.pgvector, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute("SET maintenance_work_mem = '1GB'")
        load(connection, base, "m = 16, ef_construction = 200")
        connection.execute("VACUUM ANALYZE wire")
    # The vectors lie beside the table, which makes reading all of it look cheap to the planner.
    place = f"{arguments.pgvector} options='-c enable_seqscan=off'"
    results["pgvector"] = sweep(arguments, "pgvector", place)
    ours = f"host=127.0.0.1 port={arguments.port} user=azimuth dbname=azimuth"
    server = subprocess.Popen(
        [arguments.azimuth, "serve", "--data", folder / "data", "--pg", f"127.0.0.1:{arguments.port}"],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        time.sleep(2)
        for quantization in arguments.quantization.split(","):
            with psycopg.connect(ours, autocommit=True) as connection:
                load(connection, base, f"quantization = '{quantization}'")
            name = f"azimuth {quantization}"
            # Declared recall, as users have it by default; the first run is what the server learns from.
            declared = ("set=hnsw.recall_target", f"values={TARGETS}")
            sweep(arguments, f"{name} learns", ours, *declared[:1], "values=0.95,0.95,0.95")
            results[name] = sweep(arguments, name, ours, *declared)
            for target in RECALLS:
                ratio = at(results[name], target) / at(results["pgvector"], target)
                print(f"{name} at {target}: {at(results[name], target):.0f} QPS, {ratio:.2f} x pgvector")
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
