"""Recall@10 over the wire on SciFact: 5,183 abstracts, 300 claims, 384 dimensions.

    python benches/recall/scifact.py --data DIR [--port 5433] [--reuse]

DIR holds corpus.jsonl, corpus.f32.npy, queries.f32.npy (BEIR's SciFact with all-MiniLM-L6-v2
embeddings). A server must be running. Prints load rate, build time, recall@10 of the index against
`enable_ann = off` at default settings, and what EXPLAIN ANALYZE says of one search.
Needs numpy and psycopg.
"""

import argparse
import json
import time

import numpy
import psycopg


def text(vector):
    return "[" + ",".join(repr(float(x)) for x in vector) + "]"


def escape(value):
    return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def load(connection, directory):
    vectors = numpy.load(f"{directory}/corpus.f32.npy")
    with open(f"{directory}/corpus.jsonl", encoding="utf-8") as lines:
        documents = [json.loads(line) for line in lines]
    assert len(documents) == len(vectors)
    connection.execute("DROP TABLE IF EXISTS docs")
    connection.execute(
        "CREATE TABLE docs (id bigint PRIMARY KEY, title text, body text, embedding vector(384))"
    )
    rows = [
        f"{d['_id']}\t{escape(d['title'])}\t{escape(d['text'])}\t{text(v)}\n"
        for d, v in zip(documents, vectors)
    ]
    started = time.perf_counter()
    with connection.cursor().copy("COPY docs FROM STDIN") as copy:
        for at in range(0, len(rows), 100):
            copy.write("".join(rows[at : at + 100]))
    seconds = time.perf_counter() - started
    print(f"loaded {len(rows)} documents in {seconds:.2f} s, {len(rows) / seconds:.0f} rows/s")
    started = time.perf_counter()
    connection.execute("CREATE INDEX docs_embedding_idx ON docs USING hnsw (embedding vector_cosine_ops)")
    print(f"built the index in {time.perf_counter() - started:.2f} s")


def answers(connection, queries):
    statement = "SELECT id FROM docs ORDER BY embedding <=> %s::vector LIMIT 10"
    started = time.perf_counter()
    found = [
        {row[0] for row in connection.execute(statement, (text(q),), prepare=True)} for q in queries
    ]
    return found, len(queries) / (time.perf_counter() - started)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--port", type=int, default=5433)
    parser.add_argument("--reuse", action="store_true", help="search what an earlier run loaded")
    arguments = parser.parse_args()
    queries = numpy.load(f"{arguments.data}/queries.f32.npy")
    address = f"host=127.0.0.1 port={arguments.port} user=azimuth dbname=azimuth"
    with psycopg.connect(address, autocommit=True) as connection:
        if not arguments.reuse:
            load(connection, arguments.data)
        found, rate = answers(connection, queries)
        connection.execute("SET enable_ann = off")
        truth, exact_rate = answers(connection, queries)
        connection.execute("SET enable_ann = on")
        assert all(len(t) == 10 for t in truth) and all(len(f) == 10 for f in found)
        recall = sum(len(f & t) for f, t in zip(found, truth)) / (10 * len(queries))
        print(f"recall@10 {recall:.4f} over {len(queries)} queries at default settings")
        print(f"{rate:.0f} queries/s with the index, {exact_rate:.0f} queries/s exact")
        plan = connection.execute(
            "EXPLAIN ANALYZE SELECT id FROM docs "
            f"ORDER BY embedding <=> '{text(queries[0])}' LIMIT 10"
        )
        print("\n".join(row[0] for row in plan))


if __name__ == "__main__":
    main()
