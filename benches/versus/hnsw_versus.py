#!/usr/bin/env python3
"""Compare the HNSW index of Azimuth with hnswlib on the same data in one run.

The method is described in README.md next to this file.
"""

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import math
import multiprocessing
import os
import pathlib
import platform
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

K = 10
TARGETS = (0.95, 0.99)
TIE = 1e-6  # cosine; two neighbours closer than this count as equally near
SQL = "SELECT id FROM words ORDER BY embedding <=> %s::vector LIMIT 10"


# ---------------------------------------------------------------- shared parts


def load(data):
    """The vectors and queries as contiguous f32, exactly as stored."""
    data = pathlib.Path(data)
    base = np.load(data / "embeddings.f16.npy").astype(np.float32)
    queries = np.load(data / "queries.npy").astype(np.float32)
    if base.ndim != 2 or queries.ndim != 2 or base.shape[1] != queries.shape[1]:
        sys.exit(f"shapes do not fit: {base.shape} and {queries.shape}")
    return np.ascontiguousarray(base), np.ascontiguousarray(queries)


class Exact:
    """Brute force cosine neighbours, and recall against them."""

    def __init__(self, base, queries):
        unit = base / np.linalg.norm(base, axis=1, keepdims=True)
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        self.sims = queries @ unit.T
        self.kth = np.partition(self.sims, -K, axis=1)[:, -K]

    def recall(self, answers):
        """Mean share of the K answers that are as near as the K-th exact one."""
        hits = 0
        for row, ids in enumerate(answers):
            distinct = list(dict.fromkeys(int(i) for i in ids))[:K]
            hits += int((self.sims[row, distinct] >= self.kth[row] - TIE).sum())
        return hits / (K * len(answers))


def memory(pid):
    """Resident memory of a process in bytes, as the kernel reports it."""
    wanted = {"VmRSS", "VmHWM", "RssAnon", "RssFile"}
    found = {}
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in wanted:
            found[name] = int(value.split()[0]) * 1024
    return found


def settled_memory(pid, seconds=2.0):
    """Memory after a pause, so that freed pages can go back first."""
    time.sleep(seconds)
    return memory(pid)


def timed(one_pass, per_pass, min_seconds):
    """Queries per second over whole passes lasting at least min_seconds."""
    passes = 0
    start = time.perf_counter()
    while True:
        one_pass()
        passes += 1
        elapsed = time.perf_counter() - start
        if elapsed >= min_seconds:
            return passes * per_pass / elapsed


def at_recall(points, target):
    """QPS at a recall: log(qps) is interpolated linearly between the two
    neighbouring points of the sweep that enclose the target."""
    points = sorted(points, key=lambda p: p["ef"])
    if not points:
        return {"qps": None, "note": "no points"}
    if points[0]["recall"] >= target:
        return {"qps": points[0]["qps"], "note": f"already reached at ef {points[0]['ef']}"}
    for low, high in zip(points, points[1:]):
        if low["recall"] < target <= high["recall"]:
            share = (target - low["recall"]) / (high["recall"] - low["recall"])
            logs = math.log(low["qps"]), math.log(high["qps"])
            return {
                "qps": math.exp(logs[0] + share * (logs[1] - logs[0])),
                "note": f"between ef {low['ef']} and {high['ef']}",
            }
    return {"qps": None, "note": "not reached in the sweep"}


# --------------------------------------------------------------------- hnswlib


def hnswlib_worker(pipe, args):
    """Runs in a fresh process: builds once, then measures on request."""
    import hnswlib

    base, queries = load(args["data"])
    index = hnswlib.Index(space="cosine", dim=base.shape[1])
    before = settled_memory(os.getpid())
    start = time.perf_counter()
    index.init_index(
        max_elements=len(base),
        M=args["m"],
        ef_construction=args["ef_construction"],
        random_seed=args["seed"],
    )
    index.add_items(base, np.arange(len(base)), num_threads=args["build_threads"])
    seconds = time.perf_counter() - start
    after = settled_memory(os.getpid())
    index.set_num_threads(1)
    pipe.send({"build_seconds": seconds, "memory_before": before, "memory_after": after})

    rows = [queries[i : i + 1] for i in range(len(queries))]

    def calls():
        for row in rows:
            index.knn_query(row, k=K)

    def batch():
        index.knn_query(queries, k=K)

    while (ef := pipe.recv()) is not None:
        index.set_ef(ef)
        answers = [index.knn_query(row, k=K)[0][0].tolist() for row in rows]
        pipe.send(
            {
                "answers": answers,
                "qps_call": timed(calls, len(rows), args["min_seconds"]),
                "qps_batch": timed(batch, len(rows), args["min_seconds"]),
            }
        )


class Hnswlib:
    def __init__(self, args):
        context = multiprocessing.get_context("spawn")
        self.pipe, far = context.Pipe()
        self.process = context.Process(target=hnswlib_worker, args=(far, args), daemon=True)
        self.process.start()
        far.close()
        self.built = self.receive()

    def receive(self):
        try:
            return self.pipe.recv()
        except EOFError:
            sys.exit("the hnswlib process ended early")

    def measure(self, ef):
        self.pipe.send(ef)
        return self.receive()

    def close(self):
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.process.join()


# --------------------------------------------------------------------- Azimuth


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def literals(vectors):
    """Vector literals; nine digits give every f32 back exactly."""
    form = "[" + ",".join(["%.9g"] * vectors.shape[1]) + "]"
    return [form % tuple(row) for row in vectors.tolist()]


class Azimuth:
    """A server process of its own on an empty data folder, and one connection."""

    def __init__(self, args):
        self.args = args
        self.connection = None
        self.process = None
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="versus-"))
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self):
        import psycopg

        port = self.args.port or free_port()
        command = [
            self.args.azimuth,
            "serve",
            "--data",
            str(self.folder / "data"),
            "--pg",
            f"127.0.0.1:{port}",
            *shlex.split(self.args.serve_args),
        ]
        (self.folder / "data").mkdir()
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        end = time.monotonic() + self.args.start_timeout
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended at once\n{self.log_tail()}")
            try:
                self.connection = psycopg.connect(
                    host="127.0.0.1",
                    port=port,
                    user=self.args.user,
                    dbname=self.args.dbname,
                    sslmode="disable",
                    gssencmode="disable",
                    connect_timeout=5,
                    autocommit=True,
                )
                break
            except psycopg.OperationalError as error:
                if time.monotonic() > end:
                    raise RuntimeError(f"no answer: {error}\n{self.log_tail()}") from error
                time.sleep(0.1)
        self.cursor = self.connection.cursor()

    def log_tail(self):
        return (self.folder / "log").read_bytes()[-4000:].decode(errors="replace")

    def build(self, rows, dim):
        """Load and index; rows are the lines of COPY, made beforehand."""
        pid = self.process.pid
        out = {"memory_start": settled_memory(pid)}
        self.cursor.execute(
            f"CREATE TABLE words (id bigint PRIMARY KEY, embedding vector({dim}))"
        )
        start = time.perf_counter()
        with self.cursor.copy("COPY words (id, embedding) FROM STDIN") as copy:
            for chunk in rows:
                copy.write(chunk)
        out["load_seconds"] = time.perf_counter() - start
        self.cursor.execute("SELECT count(*) FROM words")
        out["rows"] = int(self.cursor.fetchone()[0])
        out["rows_per_second"] = out["rows"] / out["load_seconds"]
        out["memory_loaded"] = settled_memory(pid)
        start = time.perf_counter()
        self.cursor.execute(
            "CREATE INDEX ON words USING hnsw (embedding vector_cosine_ops) "
            f"WITH (m = {self.args.m}, ef_construction = {self.args.ef_construction})"
        )
        out["index_seconds"] = time.perf_counter() - start
        out["memory_indexed"] = settled_memory(pid)
        return out

    def explain(self, query):
        with contextlib.suppress(Exception):
            literal = query.replace("'", "")
            self.cursor.execute("EXPLAIN " + SQL.replace("%s", f"'{literal}'"))
            plan = "\n".join(" ".join(str(c) for c in row) for row in self.cursor.fetchall())
            return plan.replace(literal, "[...]")
        return None

    def search(self, text):
        self.cursor.execute(SQL, (text,), prepare=True)
        return self.cursor.fetchall()

    def measure(self, ef, texts):
        self.cursor.execute(f"SET hnsw.ef_search = {int(ef)}")
        answers = [[row[0] for row in self.search(text)] for text in texts]
        times = []

        def calls():
            for text in texts:
                start = time.perf_counter()
                self.search(text)
                times.append(time.perf_counter() - start)

        qps = timed(calls, len(texts), self.args.min_seconds)
        times.sort()
        return {
            "answers": answers,
            "qps_call": qps,
            "p50_ms": times[len(times) // 2] * 1e3,
            "p99_ms": times[min(len(times) - 1, int(len(times) * 0.99))] * 1e3,
        }

    def round_trips(self):
        """Round trips per second of a query that does no work."""

        def calls():
            for _ in range(100):
                self.cursor.execute("SELECT 1", prepare=True)
                self.cursor.fetchall()

        calls()
        return timed(calls, 100, self.args.min_seconds)

    def close(self):
        if self.connection is not None:
            with contextlib.suppress(Exception):
                self.connection.close()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                print("the server did not stop on SIGTERM in 60 s", file=sys.stderr)
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def copy_chunks(base, rows_per_chunk=256):
    chunks = []
    for start in range(0, len(base), rows_per_chunk):
        texts = literals(base[start : start + rows_per_chunk])
        lines = (f"{start + n}\t{text}\n" for n, text in enumerate(texts))
        chunks.append("".join(lines).encode())
    return chunks


# ------------------------------------------------------------------- the run


def machine(cpus):
    model = platform.processor() or None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        text = subprocess.run(
            ["lscpu"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "LC_ALL": "C"},
        ).stdout
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        model = fields.get("Model name", "").strip() or model
    total = None
    with contextlib.suppress(OSError):
        line = pathlib.Path("/proc/meminfo").read_text().splitlines()[0]
        total = int(line.split()[1]) * 1024
    return {
        "model": model,
        "cores": os.cpu_count(),
        "cores_used": cpus,
        "memory_bytes": total,
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions(args):
    out = {"python": platform.python_version()}
    for name in ("numpy", "hnswlib", "psycopg"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            out[name] = importlib.metadata.version(name)
    if args.azimuth:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            shown = subprocess.run(
                [args.azimuth, "--version"], capture_output=True, text=True, timeout=20
            )
            out["azimuth"] = shown.stdout.strip() or None
    return out


def median_points(points):
    """One point per ef out of the repeats: medians; the raw lists stay."""
    out = []
    for ef, runs in points.items():
        point = {"ef": ef}
        for name in runs[0]:
            point[name] = statistics.median(run[name] for run in runs)
            point[f"{name}_runs"] = [run[name] for run in runs]
        out.append(point)
    return out


def curve(points, name):
    return [{"ef": p["ef"], "recall": p["recall"], "qps": p[name]} for p in points]


def grown(later, earlier):
    return later["VmRSS"] - earlier["VmRSS"]


def measure(args, base, queries):
    exact = Exact(base, queries)
    plain = {
        "data": args.data,
        "m": args.m,
        "ef_construction": args.ef_construction,
        "build_threads": args.build_threads,
        "seed": args.seed,
        "min_seconds": args.min_seconds,
    }
    results = {}
    library = server = None
    try:
        # Builds one after the other, nothing else of ours running meanwhile.
        builds = []
        for n in range(args.repeat):
            if library:
                library.close()
            library = Hnswlib(plain)
            builds.append(library.built)
            say(f"hnswlib build {n + 1}: {library.built['build_seconds']:.1f} s")
        results["hnswlib"] = {
            "builds": builds,
            "build_seconds": statistics.median(b["build_seconds"] for b in builds),
            "resident_bytes": int(
                statistics.median(grown(b["memory_after"], b["memory_before"]) for b in builds)
            ),
        }

        texts = []
        if args.azimuth:
            say("writing the vectors as text")
            rows, texts = copy_chunks(base), literals(queries)
            builds = []
            for n in range(args.repeat):
                if server:
                    server.close()
                server = Azimuth(args)
                built = server.build(rows, base.shape[1])
                if built["rows"] != len(base):
                    raise RuntimeError(f"{built['rows']} rows arrived out of {len(base)}")
                builds.append(built)
                say(
                    f"Azimuth build {n + 1}: load {built['load_seconds']:.1f} s, "
                    f"index {built['index_seconds']:.1f} s"
                )
            del rows
            middle = lambda value: statistics.median(value(b) for b in builds)  # noqa: E731
            results["azimuth"] = {
                "builds": builds,
                "load_rows_per_second": middle(lambda b: b["rows_per_second"]),
                "load_seconds": middle(lambda b: b["load_seconds"]),
                "index_seconds": middle(lambda b: b["index_seconds"]),
                "table_resident_bytes": int(
                    middle(lambda b: grown(b["memory_loaded"], b["memory_start"]))
                ),
                "index_resident_bytes": int(
                    middle(lambda b: grown(b["memory_indexed"], b["memory_loaded"]))
                ),
                "resident_bytes": int(
                    middle(lambda b: grown(b["memory_indexed"], b["memory_start"]))
                ),
                "plan": server.explain(texts[0]),
            }

        # Searches take turns, so that a noisy moment meets both sides.
        points = {"hnswlib": {ef: [] for ef in args.ef}, "azimuth": {ef: [] for ef in args.ef}}
        floors = []
        for n in range(args.repeat):
            say(f"sweep {n + 1} of {args.repeat}")
            for ef in args.ef:
                got = library.measure(ef)
                got = {"recall": exact.recall(got.pop("answers")), **got}
                points["hnswlib"][ef].append(got)
                if server:
                    got = server.measure(ef, texts)
                    got = {"recall": exact.recall(got.pop("answers")), **got}
                    points["azimuth"][ef].append(got)
            if server:
                floors.append(server.round_trips())
        results["hnswlib"]["points"] = median_points(points["hnswlib"])
        if server:
            results["azimuth"]["points"] = median_points(points["azimuth"])
            results["azimuth"]["round_trips_per_second"] = statistics.median(floors)
            results["azimuth"]["memory_searched"] = memory(server.process.pid)
    finally:
        if library:
            library.close()
        if server:
            server.close()
    return results


def add_targets(results, engine):
    lib = results["hnswlib"]
    curves = {
        "hnswlib_call": curve(lib["points"], "qps_call"),
        "hnswlib_batch": curve(lib["points"], "qps_batch"),
    }
    if "azimuth" in results:
        curves["azimuth_sql"] = curve(results["azimuth"]["points"], "qps_call")
    if engine:
        curves["azimuth_engine"] = engine["points"]
    results["at_recall"] = {
        name: {str(target): at_recall(points, target) for target in TARGETS}
        for name, points in curves.items()
    }


def comparisons(results, engine):
    """Rows of (what, better, ours, theirs, format)."""
    lib = results["hnswlib"]
    reached = results["at_recall"]
    rows = []
    if "azimuth" in results:
        ours = results["azimuth"]
        load_and_index = ours["load_seconds"] + ours["index_seconds"]
        rows += [
            ("index build, s", "lower", ours["index_seconds"], lib["build_seconds"], ".1f"),
            ("load + index build, s", "lower", load_and_index, lib["build_seconds"], ".1f"),
            (
                "resident, vectors + index, MiB",
                "lower",
                ours["resident_bytes"] / 2**20,
                lib["resident_bytes"] / 2**20,
                ".0f",
            ),
        ]
        for target in map(str, TARGETS):
            rows.append(
                (
                    f"QPS at recall {target}, SQL against Python call",
                    "higher",
                    reached["azimuth_sql"][target]["qps"],
                    reached["hnswlib_call"][target]["qps"],
                    ".0f",
                )
            )
    if engine:
        rows += [
            (
                "engine: index build, s",
                "lower",
                engine.get("build_seconds"),
                lib["build_seconds"],
                ".1f",
            ),
            (
                "engine: resident, MiB",
                "lower",
                engine["resident_bytes"] / 2**20 if engine.get("resident_bytes") else None,
                lib["resident_bytes"] / 2**20,
                ".0f",
            ),
        ]
        for target in map(str, TARGETS):
            rows.append(
                (
                    f"engine: QPS at recall {target}, against batch call",
                    "higher",
                    reached["azimuth_engine"][target]["qps"],
                    reached["hnswlib_batch"][target]["qps"],
                    ".0f",
                )
            )
    return rows


def ratio(ours, theirs):
    return ours / theirs if ours is not None and theirs and theirs > 0 else None


def show(value, form):
    return "-" if value is None else format(value, form)


def report(results, engine):
    lines = []
    rows = comparisons(results, engine)
    if rows:
        lines += ["| | better | Azimuth | hnswlib | ours / hnswlib |", "|---|---|--:|--:|--:|"]
        for name, better, ours, theirs, form in rows:
            lines.append(
                f"| {name} | {better} | {show(ours, form)} | {show(theirs, form)} "
                f"| {show(ratio(ours, theirs), '.2f')} |"
            )
        lines.append("")
    lib = results["hnswlib"]
    ours = results.get("azimuth")
    lines += [
        f"hnswlib: build {lib['build_seconds']:.1f} s, "
        f"resident +{lib['resident_bytes'] / 2**20:.0f} MiB.",
    ]
    if ours:
        lines.append(
            f"Azimuth: load {ours['load_rows_per_second']:.0f} rows/s, "
            f"table +{ours['table_resident_bytes'] / 2**20:.0f} MiB, "
            f"index +{ours['index_resident_bytes'] / 2**20:.0f} MiB, "
            f"{ours['round_trips_per_second']:.0f} empty round trips/s."
        )
    for name, targets in results["at_recall"].items():
        for target, found in targets.items():
            lines.append(
                f"{name}: {show(found['qps'], '.0f')} QPS at recall {target} ({found['note']})."
            )
    lines.append("")
    head = ["ef", "hnswlib recall@10", "QPS, call", "QPS, batch"]
    if ours:
        head += ["Azimuth recall@10", "QPS, SQL", "p50 ms", "p99 ms"]
    lines += ["| " + " | ".join(head) + " |", "|" + "--:|" * len(head)]
    mine = {p["ef"]: p for p in ours["points"]} if ours else {}
    for p in lib["points"]:
        cells = [p["ef"], f"{p['recall']:.4f}", f"{p['qps_call']:.0f}", f"{p['qps_batch']:.0f}"]
        if ours:
            q = mine[p["ef"]]
            cells += [f"{q['recall']:.4f}", f"{q['qps_call']:.0f}"]
            cells += [f"{q['p50_ms']:.2f}", f"{q['p99_ms']:.2f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    if engine:
        lines += ["", "| ef | engine recall@10 | engine QPS |", "|--:|--:|--:|"]
        for p in sorted(engine["points"], key=lambda p: p["ef"]):
            lines.append(f"| {p['ef']} | {p['recall']:.4f} | {p['qps']:.0f} |")
    return "\n".join(lines)


def warnings(results, load_average, cpus):
    out = []
    # The run itself keeps about one core busy when it ends.
    if load_average["start"][0] > 0.3 * cpus or load_average["end"][0] - 1 > 0.5 * cpus:
        out.append(
            "the machine was busy with other work (load average "
            f"{load_average['start'][0]:.1f} at the start, {load_average['end'][0]:.1f} "
            "at the end): take the numbers as a rough guide"
        )
    if "azimuth" in results:
        recalls = [p["recall"] for p in results["azimuth"]["points"]]
        if len(recalls) > 1 and max(recalls) - min(recalls) < 1e-9:
            out.append(
                "Azimuth's recall is the same at every ef: the index is not used "
                "or hnsw.ef_search has no effect; its QPS is not comparable"
            )
    return out


def say(text):
    print(text, file=sys.stderr, flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with embeddings.f16.npy, queries.npy")
    parser.add_argument("--azimuth", help="server binary; without it only hnswlib is measured")
    parser.add_argument("--engine-json", help="results of the engine's own benchmark")
    parser.add_argument("--out", default="results.json")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument(
        "--ef",
        type=lambda text: [int(x) for x in text.split(",")],
        default=[10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512],
        help="comma separated",
    )
    parser.add_argument("--m", type=int, default=16)
    parser.add_argument("--ef-construction", type=int, default=200)
    parser.add_argument("--build-threads", type=int, default=2, help="of hnswlib")
    parser.add_argument("--cpus", type=int, default=2, help="cores that everything may use")
    parser.add_argument("--seed", type=int, default=100, help="of hnswlib")
    parser.add_argument("--min-seconds", type=float, default=0.5, help="of each timing")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--user", default="postgres")
    parser.add_argument("--dbname", default="postgres")
    parser.add_argument("--serve-args", default="", help="further arguments of the server")
    parser.add_argument("--start-timeout", type=float, default=60)
    args = parser.parse_args()
    if args.repeat < 1:
        parser.error("--repeat must be at least 1")
    if min(args.ef) < K:
        parser.error(f"--ef must not be below {K}")
    args.ef = sorted(set(args.ef))
    return args


def main():
    args = arguments()
    # Everything below, the server too, inherits this set of cores.
    cores = sorted(os.sched_getaffinity(0))[: args.cpus]
    os.sched_setaffinity(0, cores)
    engine = None
    if args.engine_json:
        engine = json.loads(pathlib.Path(args.engine_json).read_text())
    base, queries = load(args.data)
    date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    load_average = {"start": os.getloadavg()}
    results = measure(args, base, queries)
    load_average["end"] = os.getloadavg()
    add_targets(results, engine)
    notes = warnings(results, load_average, len(cores))
    out = {
        "date": date,
        "machine": machine(len(cores)),
        "load_average": load_average,
        "versions": versions(args),
        "settings": {
            "rows": len(base),
            "dim": base.shape[1],
            "queries": len(queries),
            "k": K,
            "m": args.m,
            "ef_construction": args.ef_construction,
            "build_threads": args.build_threads,
            "seed": args.seed,
            "repeat": args.repeat,
            "min_seconds": args.min_seconds,
        },
        "warnings": notes,
        **results,
        "engine": engine,
        "ratios": {
            name: ratio(ours, theirs)
            for name, _, ours, theirs, _ in comparisons(results, engine)
        },
    }
    pathlib.Path(args.out).write_text(json.dumps(out, indent=2) + "\n")
    m = out["machine"]
    print(
        f"{len(base)} vectors of {base.shape[1]} dimensions, {len(queries)} queries, "
        f"{m['model']}, {m['cores_used']} of {m['cores']} cores, {date}\n"
    )
    print(report(results, engine))
    for note in notes:
        print(f"\nWarning: {note}.")


if __name__ == "__main__":
    main()
