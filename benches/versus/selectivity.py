#!/usr/bin/env python3
"""Searches under predicates of eight selectivities, each spelled in ten ways, through SQL.

The server is started on an empty folder. The exit status is 1 when a statement fails, when rows of
an answer are missing, do not qualify, come twice or out of order, when recall@10 is below 0.95, or
when that of two spellings of a selectivity differs by more than 0.01. A choice of strategy that
makes the 95th percentile more than 1.5 times that of the best one is a warning only. The method is
described in README.md next to this file. Needs Linux and the Python packages psycopg and numpy.

    python benches/versus/selectivity.py --azimuth target/release/azimuth --data DIR \\
        [--rows N] [--quantization polar4] [--set hnsw.ef_search=128] [--out results.json]
"""

import argparse
import collections
import datetime
import json
import os
import pathlib
import re
import struct
import sys
import time

import numpy as np
import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

from hnsw_versus import Azimuth, free_port, literals, load, machine

K = 10
TIE = 1e-6  # cosine; two neighbours closer than this count as equally near
ORDER = 1e-5  # of two neighbours in an answer: the server's rounding and ours
SHARES = (10_000, 5_000, 2_000, 1_000, 500, 100, 10, 1)  # in ten thousandths of all rows
CATEGORIES = 200
LISTED_MAX = 1_000  # values of a list; beyond it, the list names categories
RECALL_MIN = 0.95
SPREAD_MAX = 0.01
SLOWDOWN_MAX = 1.5
STRATEGIES = ("graph", "scan", "exact")

# What is measured: `cursor` belongs to a connection with the settings of this run.
Run = collections.namedtuple("Run", "name cursor sql parameters")


class VectorDumper(Dumper):
    """A vector as a binary parameter: dimension, two unused bytes, numbers; all big-endian."""

    format = Format.BINARY

    def dump(self, vector):
        return struct.pack(">HH", len(vector), 0) + vector.astype(">f4").tobytes()


def qualifying(rows):
    """How many rows qualify at each selectivity; in a small table two may be the same."""
    counts = {-(-rows * share // 10_000): share for share in SHARES}
    return sorted(counts.items(), reverse=True)


def category(number, rows):
    """The category of a row by its number: whole ones are chosen, their labels are not a range."""
    return number * CATEGORIES // rows * 77 % CATEGORIES


def spellings(count, share):
    """What follows FROM, and its parameters, for the rows with a number less than `count`."""
    column, values = "p", range(count)
    if count > LISTED_MAX and share * CATEGORIES % 10_000 == 0:
        column, values = "c", (category(i, CATEGORIES) for i in range(share * CATEGORIES // 10_000))
    values, keys = ", ".join(map(str, values)), f"s_{count}"
    return {
        "equality": (f"t WHERE e_{count} = 1", ()),
        "range": (f"t WHERE p < {count}", ()),
        "parameter": ("t WHERE p < %s", (count,)),
        "in": (f"t WHERE {column} IN ({values})", ()),
        "any": (f"t WHERE {column} = ANY (ARRAY[{values}])", ()),
        "join": (f"t JOIN {keys} USING (id)", ()),
        "keys-first": (f"{keys} JOIN t USING (id)", ()),
        "comma": (f"t, {keys} WHERE t.id = {keys}.id", ()),
        "subquery": (f"t WHERE id IN (SELECT id FROM {keys})", ()),
        "exists": (f"t WHERE EXISTS (SELECT 1 FROM {keys} WHERE {keys}.id = t.id)", ()),
    }


def connect(args, settings=()):
    connection = psycopg.connect(
        host="127.0.0.1", port=args.port, user=args.user, dbname=args.dbname, autocommit=True
    )
    connection.adapters.register_dumper(np.ndarray, VectorDumper)
    for name, value in [*args.set, *settings]:
        connection.execute(f"SET {name} = '{value}'")
    return connection


def fill(connection, base, numbers, quantization, rng):
    """The tables, in an order that is neither that of ids nor of numbers, and the index."""
    rows, counts = len(base), [count for count, _ in qualifying(len(base))]
    columns = "".join(f"e_{count} int, " for count in counts)
    connection.execute(
        f"CREATE TABLE t (id bigint PRIMARY KEY, p int, c int, {columns}"
        f"embedding vector({base.shape[1]}))"
    )
    with connection.cursor().copy("COPY t FROM STDIN") as copy:
        for ids in np.array_split(rng.permutation(rows), -(-rows // 256)):
            for id_, number, text in zip(ids.tolist(), numbers[ids].tolist(), literals(base[ids])):
                flags = (int(number < count) for count in counts)
                copy.write_row((id_, number, category(number, rows), *flags, text))
    for count in counts:
        connection.execute(f"CREATE TABLE s_{count} (id bigint PRIMARY KEY)")
        with connection.cursor().copy(f"COPY s_{count} FROM STDIN") as copy:
            for id_ in rng.permutation(np.flatnonzero(numbers < count)).tolist():
                copy.write_row((id_,))
    began = time.monotonic()
    connection.execute(
        "CREATE INDEX t_embedding ON t USING hnsw (embedding vector_cosine_ops) "
        f"WITH (quantization = {quantization})"
    )
    built = time.monotonic() - began
    connection.execute("CHECKPOINT")
    wanted = "covered_rows = rows" + ("" if quantization == "none" else " AND code_bytes >= rows")
    while not connection.execute(f"SELECT {wanted} FROM azimuth.indexes").fetchone()[0]:
        time.sleep(0.1)
    return built


def one_pass(run, queries, seconds_max=float("inf")):
    """Answers and latencies; the warm-up of a slow statement ends before it is through."""
    answers, seconds = [], []
    for query in queries:
        began = time.perf_counter()
        run.cursor.execute(run.sql, (*run.parameters, query), prepare=True)
        rows = run.cursor.fetchall()
        seconds.append(time.perf_counter() - began)
        answers.append([row[0] for row in rows])
        if sum(seconds) > seconds_max:
            break
    return answers, seconds


def explained(run, query):
    """What EXPLAIN ANALYZE shows, and its columns of the table."""
    cursor = run.cursor.connection.cursor()
    cursor.execute("EXPLAIN ANALYZE " + run.sql, (*run.parameters, query))
    plan = re.sub(r"\[-?[0-9][^]]{40,}\]", "[...]", "\n".join(row[0] for row in cursor))
    chosen = re.search(r"VectorTopK: .*strategy=((?:graph|scan|exact)(?:, then exact)?)", plan)
    counts = dict(re.findall(r"(rows_qualifying|distances_computed)=(\d+)", plan))
    operator = chosen[1] if chosen else re.search(r"\w*JoinExec|\w*Scan|$", plan)[0]
    return {"plan": plan, "strategy": operator} | counts


def judged(answers, cosines, member):
    """Recall, the fewest rows of an answer, and what is wrong with the answers."""
    want = min(K, int(member.sum()))
    hits, wrong = 0, collections.Counter()
    for answer, row in zip(answers, cosines):
        kth = np.partition(row[member], -want)[-want]
        found = np.array(list(dict.fromkeys(answer)), dtype=np.int64)
        hits += int((member[found] & (row[found] >= kth - TIE)).sum())
        wrong["not as many rows as there are"] += len(answer) != want
        wrong["a row twice"] += len(found) != len(answer)
        wrong["a row that does not qualify"] += not member[found].all()
        wrong["rows out of order"] += bool((np.diff(row[answer]) > ORDER).any())
    problems = [f"{what} ({times} answers)" for what, times in wrong.items() if times]
    return hits / (want * len(answers)), min(map(len, answers)), problems


def measured(runs, queries, cosines, member, args):
    """A line for each run; after a warm-up of all, the runs take turns in every round."""
    live, lines = list(runs), {run.name: {"problems": []} for run in runs}
    rounds = {run.name: [] for run in runs}

    def each(work):
        for run in list(live):
            try:
                work(run)
            except psycopg.Error as error:
                lines[run.name]["problems"].append(f"{error.sqlstate}: {error}".splitlines()[0])
                live.remove(run)

    each(lambda run: one_pass(run, queries, args.seconds))
    each(lambda run: lines[run.name].update(explained(run, queries[0])))
    began = time.monotonic()
    for done in range(args.repeat):
        if done == 0 or time.monotonic() - began < args.seconds * len(runs):
            each(lambda run: rounds[run.name].append(one_pass(run, queries)))
    for run in live:
        line = lines[run.name]
        times = [np.percentile(seconds, [50, 95]) * 1e3 for _, seconds in rounds[run.name]]
        line["p50_ms"], line["p95_ms"] = np.median(times, axis=0).tolist()
        line["p95_ms_rounds"] = [float(p95) for _, p95 in times]
        answers = rounds[run.name][-1][0]
        line["recall"], line["returned"], line["problems"] = judged(answers, cosines, member)
    return lines


def accepted(lines):
    """The verdict on one selectivity; lines of a strategy alone have a `+` in their names."""
    own = {name: line for name, line in lines.items() if "+" not in name}
    failures = [f"{name}: {what}" for name, line in lines.items() for what in line["problems"]]
    recalls = {name: line["recall"] for name, line in own.items() if "recall" in line}
    for name, recall in recalls.items():
        if recall < RECALL_MIN:
            failures.append(f"{name}: recall {recall:.4f}")
    if recalls and max(recalls.values()) - min(recalls.values()) > SPREAD_MAX + 1e-9:
        least, most = min(recalls, key=recalls.get), max(recalls, key=recalls.get)
        failures.append(f"recall {recalls[least]:.4f} by {least}, {recalls[most]:.4f} by {most}")
    alone = {
        name: line["p95_ms"]
        for name, line in lines.items()
        if "+" in name and line.get("recall", 0) >= RECALL_MIN
    }
    if not alone or "p95_ms" not in own.get("equality", {}):
        return {"failures": failures, "warnings": [], "p95_to_best": None}
    best = min(alone, key=alone.get)
    ratio = own["equality"]["p95_ms"] / alone[best]
    slow = [f"equality: p95 is {ratio:.2f} times that of {best}"] * (ratio > SLOWDOWN_MAX)
    return {"failures": failures, "warnings": slow, "p95_to_best": ratio}


def line_text(share, count, name, line):
    start = f"| {share / 100:g} % | {count} | {name} |"
    problems = "; ".join(line["problems"])
    if "recall" not in line:
        return f"{start} | | | | | | | {problems} |"
    return (
        f"{start} {line['recall']:.4f} | {line['returned']} | {line['p50_ms']:.2f} "
        f"| {line['p95_ms']:.2f} | {line['strategy']} | {line.get('rows_qualifying', '')} "
        f"| {line.get('distances_computed', '')} | {problems} |"
    )


def sweep(args, connection, queries, cosines, numbers):
    alone = {name: connect(args, [("hnsw.strategy", name)]) for name in STRATEGIES}
    print("| qualify | rows | spelling | recall | returned | p50 ms | p95 ms | strategy ", end="")
    print("| rows_qualifying | distances | wrong |")
    print("|--:|--:|---|--:|--:|--:|--:|---|--:|--:|---|", flush=True)
    results = []
    for count, share in qualifying(len(numbers)):
        runs = []
        for name, (source, parameters) in spellings(count, share).items():
            if name not in args.spellings:
                continue
            sql = f"SELECT t.id FROM {source} ORDER BY embedding <=> %s LIMIT {K}"
            used = {name: connection}
            if name == "equality":
                used |= {f"{name} + {strategy}": alone[strategy] for strategy in STRATEGIES}
            runs += [Run(n, c.cursor(binary=True), sql, parameters) for n, c in used.items()]
        # All in turn: the server learns meanwhile, and each is to meet it as wise as the others.
        lines = measured(runs, queries, cosines, numbers < count, args)
        for run_name, line in lines.items():
            print(line_text(share, count, run_name, line), flush=True)
        verdict = accepted(lines)
        results.append({"share": share / 10_000, "rows": count, "lines": lines} | verdict)
    return results


def report(results):
    print("\n| qualify | rows | p95 to best strategy | verdict |\n|--:|--:|--:|---|")
    for result in results:
        ratio = f"{result['p95_to_best']:.2f}" if result["p95_to_best"] else ""
        verdict = [f"FAILED {x}" for x in result["failures"]]
        verdict = "; ".join(verdict + [f"warning: {x}" for x in result["warnings"]]) or "good"
        print(f"| {result['share'] * 100:g} % | {result['rows']} | {ratio} | {verdict} |")


def arguments():
    def setting(text):
        name, _, value = text.partition("=")
        return name.strip(), value.strip()

    names = list(spellings(1, 1))
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--azimuth", required=True, help="the server binary")
    parser.add_argument("--data", required=True, help="embeddings.f16.npy and queries.npy")
    parser.add_argument("--rows", type=int, help="the first rows of the data only")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--quantization", default="sq8")
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--spellings", type=lambda x: x.split(","), default=",".join(names))
    parser.add_argument("--parameters", choices=("binary", "text"), default="binary")
    parser.add_argument("--repeat", type=int, default=3, help="timed rounds")
    parser.add_argument("--seconds", type=float, default=20, help="no further round after these")
    parser.add_argument("--cpus", type=int, default=2, help="cores for server and client together")
    parser.add_argument("--out", help="JSON with plans and all rounds")
    parser.set_defaults(user="azimuth", dbname="azimuth", serve_args="", start_timeout=60)
    parser.set_defaults(port=free_port())
    args = parser.parse_args()
    # A declared recall is a mean over the queries that come: a little above what is held to here.
    args.set = args.set or [setting("hnsw.recall_target=0.96")]
    if unknown := set(args.spellings) - set(names):
        parser.error(f"unknown spelling {', '.join(sorted(unknown))}")
    return args


def main():
    args = arguments()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-args.cpus :])
    base, queries = load(args.data)
    base, queries = base[: args.rows], queries[: args.queries]
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, base)]
    cosines = unit[0] @ unit[1].T
    rng = np.random.default_rng(7)
    numbers = rng.permutation(len(base))
    given = queries if args.parameters == "binary" else literals(queries)
    load_average = [os.getloadavg()]
    server = Azimuth(args)
    try:
        connection = connect(args)
        built = fill(connection, base, numbers, args.quantization, rng)
        print(f"{base.shape} vectors, {args.quantization} index built in {built:.0f} s\n")
        results = sweep(args, connection, given, cosines, numbers)
    finally:
        server.close()
    report(results)
    if args.out:
        facts = {"date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
        facts |= {"machine": machine(args.cpus), "arguments": vars(args), "rows": len(base)}
        facts |= {"load_average": [*load_average, os.getloadavg()], "results": results}
        pathlib.Path(args.out).write_text(json.dumps(facts, indent=1))
    sys.exit(any(result["failures"] for result in results))


if __name__ == "__main__":
    main()
