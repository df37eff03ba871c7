#!/usr/bin/env python3
"""Compare the HNSW engine of Azimuth, without server and SQL, with other libraries in one run.

The method is described in README.md next to this file.
"""

import argparse
import concurrent.futures
import contextlib
import ctypes
import dataclasses
import datetime
import gc
import importlib.metadata
import json
import math
import multiprocessing
import os
import pathlib
import platform
import statistics
import subprocess
import tempfile
import time
import traceback

import numpy as np

from hnsw_versus import load, machine, ratio, say, show

K = 10
TARGETS = (0.95, 0.99)
TIE = 1e-6  # relative; an answer this little farther than the tenth neighbour counts
REPOSITORY = pathlib.Path(__file__).resolve().parents[2]

CLUSTERS = {"clusters128": (100_000, 128), "clusters768": (50_000, 768)}
SETS = ("wordnet", *CLUSTERS)
DISTANCES = ("cosine", "l2")
CENTRES = 500
SPREAD = 1.0
DECAY = -0.4
QUERIES = 1000
SEED = 20_240


# ---------------------------------------------------------------- data and truth


def clusters(rows, dim):
    """Gaussian clusters whose coordinates differ in scale, randomly rotated."""
    rng = np.random.default_rng(SEED + dim)
    centres = rng.standard_normal((CENTRES, dim), dtype=np.float32)
    scale = np.arange(1, dim + 1, dtype=np.float32) ** np.float32(DECAY)
    rotation = np.linalg.qr(rng.standard_normal((dim, dim)))[0].astype(np.float32)

    def draw(count):
        points = centres[rng.integers(CENTRES, size=count)]
        points += np.float32(SPREAD) * rng.standard_normal((count, dim), dtype=np.float32)
        return (points * scale) @ rotation

    return draw(rows), draw(QUERIES)


def prepare(name, args, folder):
    """Paths of the vectors and the queries of a set, as f32 .npy files that all sides read."""
    base, queries = clusters(*CLUSTERS[name]) if name in CLUSTERS else load(args.data)
    base = base[: args.rows]
    paths = folder / f"{name}-{len(base)}.npy", folder / f"{name}-queries.npy"
    for path, array in zip(paths, (base, queries)):
        np.save(path, array)
    return paths


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Exact:
    """Brute force neighbours in f64, and recall against them."""

    def __init__(self, base, queries, distance):
        self.base = base
        self.queries = queries.astype(np.float64)
        self.cosine = distance == "cosine"
        nearest = self.nearest()
        kth = [self.distances(row, ids).max() for row, ids in enumerate(nearest)]
        self.limit = np.array(kth) * (1 + TIE) + 1e-12

    def nearest(self, block=8192):
        """The K nearest rows of every query, in no order."""
        ids = np.empty((len(self.queries), 0), dtype=np.int64)
        keys = np.empty((len(self.queries), 0))
        for start in range(0, len(self.base), block):
            part = self.base[start : start + block].astype(np.float64)
            if self.cosine:
                part_keys = -(self.queries @ unit(part).T)
            else:
                part_keys = np.einsum("ij,ij->i", part, part) - 2 * (self.queries @ part.T)
            part_ids = np.broadcast_to(np.arange(start, start + len(part)), part_keys.shape)
            keys = np.hstack([keys, part_keys])
            ids = np.hstack([ids, part_ids])
            best = np.argpartition(keys, K - 1, axis=1)[:, :K]
            keys = np.take_along_axis(keys, best, axis=1)
            ids = np.take_along_axis(ids, best, axis=1)
        return ids

    def distances(self, row, ids):
        vectors, query = self.base[ids].astype(np.float64), self.queries[row]
        if self.cosine:
            norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
            return 1 - vectors @ query / norms
        return np.linalg.norm(vectors - query, axis=1)

    def recall(self, answers):
        """Mean share of the K answers that are as near as the K-th exact one."""
        hits = 0
        for row, ids in enumerate(answers):
            distinct = list(dict.fromkeys(int(i) for i in ids if i >= 0))[:K]
            hits += int((self.distances(row, distinct) <= self.limit[row]).sum())
        return hits / (K * len(answers))


# ------------------------------------------------------------------------- peers


@dataclasses.dataclass(frozen=True)
class Job:
    """What a peer's process is told."""

    peer: str
    base: pathlib.Path
    queries: pathlib.Path
    folder: pathlib.Path
    distance: str
    m: int
    ef_construction: int
    oversample: int
    seconds: float
    threads: int
    searching: int


class Peer:
    """A library under measurement; its constructor makes the inputs, which is not timed."""

    package = None
    searches = "batch"

    def __init__(self, job):
        self.job = job
        self.cosine = job.distance == "cosine"
        self.base = np.load(job.base)
        self.queries = np.load(job.queries)
        self.dim = self.base.shape[1]

    def fill(self):
        """Storing that has to precede the build and is timed apart."""

    def build(self):
        raise NotImplementedError

    def settle(self):
        """What an application does once after the build; not timed."""

    def searching(self, ef):
        """A function that makes one pass over the queries with the threads of a search."""
        raise NotImplementedError

    def answers(self, found):
        """The row numbers in what a pass returned."""
        raise NotImplementedError

    def close(self):
        """Releases what would outlive the object."""


class Hnswlib(Peer):
    package = "hnswlib"

    def __init__(self, job):
        import hnswlib

        super().__init__(job)
        self.index = hnswlib.Index(space=job.distance, dim=self.dim)

    def build(self):
        self.index.init_index(
            max_elements=len(self.base), M=self.job.m, ef_construction=self.job.ef_construction
        )
        self.index.add_items(self.base, np.arange(len(self.base)), num_threads=self.job.threads)
        self.index.set_num_threads(self.job.searching)

    def searching(self, ef):
        self.index.set_ef(ef)
        return lambda: self.index.knn_query(self.queries, k=K)

    def answers(self, found):
        return found[0]


class FaissSq8(Peer):
    """Cosine as L2 between unit vectors, which keeps more recall here than inner product."""

    package = "faiss-cpu"

    def __init__(self, job):
        import faiss

        super().__init__(job)
        self.faiss = faiss
        if self.cosine:
            self.base, self.queries = unit(self.base), unit(self.queries)

    def build(self):
        faiss = self.faiss
        faiss.omp_set_num_threads(self.job.threads)
        bits = faiss.ScalarQuantizer.QT_8bit
        self.index = faiss.IndexHNSWSQ(self.dim, bits, self.job.m, faiss.METRIC_L2)
        self.index.hnsw.efConstruction = self.job.ef_construction
        self.index.train(self.base)
        self.index.add(self.base)
        faiss.omp_set_num_threads(self.job.searching)

    def searching(self, ef):
        parameters = self.faiss.SearchParametersHNSW(efSearch=ef)
        return lambda: self.index.search(self.queries, K, params=parameters)

    def answers(self, found):
        return found[1]


class Svs(Peer):
    """Vamana; cosine as inner product of unit vectors, which is the faster form."""

    package = "scalable-vs"

    def __init__(self, job):
        import svs

        super().__init__(job)
        self.svs = svs
        self.metric = svs.DistanceType.L2
        if self.cosine:
            self.base, self.queries = unit(self.base), unit(self.queries)
            self.metric = svs.DistanceType.MIP
        self.source = self.stored()

    def stored(self):
        """The vectors in the form that the index is built from."""
        raise NotImplementedError

    def build(self):
        parameters = self.svs.VamanaBuildParameters(
            graph_max_degree=2 * self.job.m, window_size=self.job.ef_construction
        )
        self.index = self.svs.Vamana.build(parameters, self.source, self.metric, self.job.threads)
        self.index.num_threads = self.job.searching

    def searching(self, ef):
        self.index.search_window_size = ef
        return lambda: self.index.search(self.queries, K)

    def answers(self, found):
        return found[0]


class SvsLvq8(Svs):
    def stored(self):
        path = str(self.job.folder / "base.fvecs")
        self.svs.write_vecs(self.base, path)
        plain = self.svs.VectorDataLoader(path, self.svs.DataType.float32, self.dim)
        return self.svs.LVQLoader(plain, primary=8, padding=32)


class SvsF16(Svs):
    def stored(self):
        return self.base.astype(np.float16)


class VsagSq8(Peer):
    """The hgraph index, 8 bit codes, candidates reordered by their full vectors."""

    package = "pyvsag"
    searches = "one call per query"

    def __init__(self, job):
        import pyvsag

        super().__init__(job)
        pyvsag.set_logger_off()
        parameters = {
            "dtype": "float32",
            "metric_type": job.distance,
            "dim": self.dim,
            "index_param": {
                "base_quantization_type": "sq8_uniform",
                "use_reorder": True,
                "precise_quantization_type": "fp32",
                "build_by_base": True,
                "max_degree": 2 * job.m,
                "ef_construction": job.ef_construction,
                "build_thread_count": job.threads,
            },
        }
        self.index = pyvsag.Index("hgraph", json.dumps(parameters))
        self.rows = list(self.queries)

    def build(self):
        rows = len(self.base)
        self.index.build(self.base.reshape(-1), np.arange(rows), rows, self.dim)

    def searching(self, ef):
        parameters = json.dumps({"hgraph": {"ef_search": ef}})
        search = lambda row: self.index.knn_search(row, K, parameters)
        return shared(self.rows, self.job.searching, lambda rows: list(map(search, rows)))

    def answers(self, found):
        return [ids for ids, _ in found]


class Qdrant(Peer):
    """One segment, codes and graph in memory, the best K * oversample rescored in full."""

    package = "qdrant-edge-py"

    def __init__(self, job):
        import qdrant_edge

        super().__init__(job)
        self.edge = qdrant_edge
        self.configuration = self.configured()
        self.shard = qdrant_edge.EdgeShard.create(str(job.folder), self.configuration)

    def quantization(self):
        raise NotImplementedError

    def configured(self):
        edge = self.edge
        graph = edge.HnswIndexConfig(
            m=self.job.m,
            ef_construct=self.job.ef_construction,
            full_scan_threshold=1,
            max_indexing_threads=self.job.threads,
            memory=edge.Memory.Pinned,
        )
        vectors = edge.EdgeVectorParams(
            size=self.dim,
            distance=edge.Distance.Cosine if self.cosine else edge.Distance.Euclid,
            quantization_config=self.quantization(),
            hnsw_config=graph,
        )
        single = edge.EdgeOptimizersConfig(
            default_segment_number=1, max_segment_size=2**40, indexing_threshold=1
        )
        return edge.EdgeConfig(
            vectors=vectors, optimizers=single, max_search_threads=self.job.searching, wal_enabled=False
        )

    def fill(self, chunk=100):
        edge = self.edge
        for start in range(0, len(self.base), chunk):
            rows = self.base[start : start + chunk].tolist()
            points = [edge.Point(start + n, row) for n, row in enumerate(rows)]
            self.shard.update(edge.UpdateOperation.upsert_points(points))

    def build(self):
        self.shard.optimize()
        info = self.shard.info()
        if info.indexed_vectors_count != len(self.base):
            raise RuntimeError(f"{info.indexed_vectors_count} of {len(self.base)} rows indexed")

    def settle(self):
        """Opens the shard anew, as the files of the filling stay mapped until it is closed."""
        self.shard.flush()
        self.shard.close()
        self.shard = self.edge.EdgeShard.load(str(self.job.folder), self.configuration)

    def searching(self, ef):
        """The rescored candidates are at most ef, as more would raise ef itself."""
        edge = self.edge
        rescored = edge.QuantizationSearchParams(
            rescore=True, oversampling=min(float(self.job.oversample), ef / K)
        )
        params = edge.SearchParams(hnsw_ef=ef, quantization=rescored)
        requests = [
            edge.QueryRequest(limit=K, query=edge.Query.Nearest(row.tolist()), params=params)
            for row in self.queries
        ]
        answer = lambda part: self.shard.query_batch(edge.QueryBatchRequest(part))
        return shared(requests, self.job.searching, answer)

    def answers(self, found):
        return [[point.id for point in points] for points in found]

    def close(self):
        self.shard.close()


class QdrantTurbo4(Qdrant):
    def quantization(self):
        edge = self.edge
        return edge.TurboQuantQuantizationConfig(
            bits=edge.TurboQuantBitSize.Bits4, memory=edge.Memory.Pinned
        )


class QdrantInt8(Qdrant):
    def quantization(self):
        edge = self.edge
        return edge.ScalarQuantizationConfig(
            type=edge.ScalarType.Int8, quantile=0.99, memory=edge.Memory.Pinned
        )


PEERS = {
    "svs-lvq8": SvsLvq8,
    "svs-f16": SvsF16,
    "qdrant-turbo4": QdrantTurbo4,
    "qdrant-int8": QdrantInt8,
    "vsag-sq8": VsagSq8,
    "faiss-sq8": FaissSq8,
    "hnswlib": Hnswlib,
}


# --------------------------------------------------------------- a peer's process


def resident():
    """Resident bytes of this process by kind, after freed memory went back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    kinds = {"RssAnon": "anon", "RssFile": "file", "HugetlbPages": "huge"}
    found = {}
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in kinds:
            found[kinds[name]] = int(value.split()[0]) * 1024
    return found


def clocked(work):
    """Seconds that the work took, and how many cores it kept busy."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    seconds = time.perf_counter() - wall
    return seconds, (time.process_time() - cpu) / seconds


def best_pass(one_pass, seconds):
    """Seconds of the fastest of the passes that fill the time, and the cores kept busy."""
    best = math.inf
    wall, cpu = time.perf_counter(), time.process_time()
    while (start := time.perf_counter()) - wall < seconds:
        one_pass()
        best = min(best, time.perf_counter() - start)
    return best, (time.process_time() - cpu) / (start - wall)


def shared(requests, threads, answer):
    """A function that answers the requests, a part of them in each of the threads."""
    parts = [requests[at::threads] for at in range(threads)]
    if threads == 1:
        return lambda: answer(requests)
    pool = concurrent.futures.ThreadPoolExecutor(threads)

    def one_pass():
        found = [None] * len(requests)
        for at, part in enumerate(pool.map(answer, parts)):
            found[at::threads] = part
        return found

    return one_pass


def padded(answers):
    """The answers as one array, with -1 where a query has fewer than K."""
    out = np.full((len(answers), K), -1, dtype=np.int64)
    for row, ids in zip(out, answers):
        row[: len(ids)] = ids[:K]
    return out


def measured(peer, ef):
    """One point of the sweep; the pass that gives the answers warms up the timed ones."""
    one_pass = peer.searching(ef)
    answers = padded(peer.answers(one_pass()))
    best, cores = best_pass(one_pass, peer.job.seconds)
    return {"ef": ef, "answers": answers, "qps": len(peer.queries) / best, "cores": cores}


def serve(pipe, peer):
    """Builds, then makes one sweep for every list of ef that arrives, until None does."""
    before = resident()
    fill_seconds, _ = clocked(peer.fill)
    build_seconds, cores = clocked(peer.build)
    peer.settle()
    pipe.send({"fill_seconds": fill_seconds, "build_seconds": build_seconds, "build_cores": cores})
    while (sweep := pipe.recv()) is not None:
        points = [measured(peer, ef) for ef in sweep]
        after = resident()
        grown = {kind: after[kind] - before[kind] for kind in before}
        pipe.send({"points": points, "grown": grown})


def worker(pipe, job):
    """Runs in a fresh process whose output goes to a file next to its data."""
    log = os.open(job.folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        with contextlib.closing(PEERS[job.peer](job)) as peer:
            serve(pipe, peer)
    except Exception as error:
        traceback.print_exc()
        pipe.send({"error": f"{type(error).__name__}: {error}"})


class Failed(Exception):
    """A side that could not be measured, and why."""


class Process:
    """A peer in a process of its own, with an empty folder."""

    def __init__(self, job, timeout):
        self.timeout = timeout
        self.log = job.folder.with_suffix(".log")
        job.folder.mkdir()
        context = multiprocessing.get_context("spawn")
        self.pipe, far = context.Pipe()
        self.child = context.Process(target=worker, args=(far, job), daemon=True)
        self.child.start()
        far.close()

    def receive(self):
        if not self.pipe.poll(self.timeout):
            raise Failed(f"no answer in {self.timeout:.0f} s")
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):
            self.child.join()
            lines = self.log.read_text(errors="replace").strip().splitlines()
            raise Failed(
                f"the process ended with {self.child.exitcode}: {' '.join(lines[-3:])}"
            ) from None
        if "error" in message:
            raise Failed(message["error"])
        return message

    def sweep(self, ef):
        with contextlib.suppress(OSError):  # receive() says why the process is gone
            self.pipe.send(ef)
        return self.receive()

    def close(self):
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.child.join(60)
        if self.child.is_alive():
            self.child.kill()
            self.child.join()


# ------------------------------------------------------------------------- sides


class PeerSide:
    """Builds with one thread in a process that stays for the rounds, with two in another."""

    def __init__(self, name, case):
        self.name = name
        self.case = case
        self.process = None
        self.entry = {"name": name, "ours": False, "searches": PEERS[name].searches}

    def started(self, threads):
        folder = self.case.folder / f"{self.name}-{threads}"
        job = self.case.job(self.name, folder, threads)
        return Process(job, self.case.args.timeout)

    def build(self):
        with contextlib.closing(self.started(2)) as process:
            two = process.receive()
        self.process = self.started(1)
        one = self.process.receive()
        self.entry |= {"build_seconds": one["build_seconds"], "builds": {"1": one, "2": two}}
        self.entry["build_seconds_2"] = two["build_seconds"]

    def round(self):
        swept = self.process.sweep(self.case.args.ef)
        self.entry.setdefault("grown", swept["grown"])
        self.entry.setdefault("resident_bytes", sum(swept["grown"].values()))
        for point in swept["points"]:
            point["recall"] = self.case.exact.recall(point.pop("answers"))
        return swept["points"]

    def close(self):
        if self.process:
            self.process.close()


class OurSide:
    """The engine's binary, which builds anew for every round."""

    def __init__(self, quantization, case):
        self.case = case
        self.quantization = quantization
        self.builds = []
        self.entry = {"name": f"azimuth-{quantization}", "ours": True, "searches": "own loop"}

    def run(self, threads, seconds, sweep):
        args = self.case.args
        options = {
            "distance": self.case.distance,
            "quantization": self.quantization,
            "oversample": args.oversample,
            "m": args.m,
            "ef_construction": args.ef_construction,
            "build_threads": threads,
            "search_threads": args.search_threads,
            "seconds": seconds,
            "ef": ",".join(map(str, sweep)),
        }
        command = [args.engine, self.case.paths[0], self.case.paths[1]]
        command += [f"{name}={value}" for name, value in options.items()]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=True, timeout=args.timeout
            )
            return json.loads(done.stdout)
        except subprocess.CalledProcessError as error:
            raise Failed(f"ended with {error.returncode}: {error.stderr.strip()[-300:]}") from error
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise Failed(str(error)) from error

    def build(self):
        self.entry["build_seconds_2"] = self.run(2, 0, [K])["build_seconds"]

    def round(self):
        report = self.run(1, self.case.args.seconds, self.case.args.ef)
        self.builds.append(report["build_seconds"])
        full = 0 if self.quantization == "none" else self.case.base_bytes
        self.entry |= {
            "build_seconds": statistics.median(self.builds),
            "build_seconds_runs": self.builds,
            "counted": {"index": report["resident_bytes"], "full": full},
            "resident_bytes": report["resident_bytes"] + full,
        }
        return report["points"]

    def close(self):
        """Every run has already ended."""


# ----------------------------------------------------------------------- the run


class Case:
    """One set with one distance."""

    def __init__(self, name, distance, paths, folder, args):
        self.name, self.distance = name, distance
        self.paths, self.folder, self.args = paths, folder, args
        base, queries = map(np.load, paths)
        self.rows, self.dim = base.shape
        self.base_bytes = base.nbytes
        self.exact = Exact(base, queries, distance)

    def job(self, peer, folder, threads):
        args = self.args
        return Job(
            peer=peer,
            base=self.paths[0],
            queries=self.paths[1],
            folder=folder,
            distance=self.distance,
            m=args.m,
            ef_construction=args.ef_construction,
            oversample=args.oversample,
            seconds=args.seconds,
            threads=threads,
            searching=args.search_threads,
        )

    def attempt(self, side, what, action):
        """The action's value, or None, the reason being kept, when it failed."""
        if "error" in side.entry:
            return None
        try:
            return action()
        except Failed as error:
            side.entry["error"] = str(error)
            say(f"  {side.entry['name']}: {what} failed: {error}")
            return None

    def build(self, sides):
        for side in sides:
            self.attempt(side, "build", side.build)
            if built := side.entry.get("build_seconds_2"):
                say(f"  {side.entry['name']}: built with 2 threads in {built:.1f} s")

    def measure(self):
        sides = [OurSide(quantization, self) for quantization in self.args.quantization]
        sides += [PeerSide(name, self) for name in self.args.peers]
        with contextlib.ExitStack() as stack:
            for side in sides:
                stack.callback(side.close)
            self.build(sides)
            rounds = {side: [] for side in sides}
            for n in range(self.args.repeat):
                say(f"  round {n + 1} of {self.args.repeat}")
                for side in sides:
                    points = self.attempt(side, "search", side.round)
                    if points:
                        rounds[side].append(points)
        for side in sides:
            if "error" not in side.entry:
                side.entry |= summary(rounds[side])
        return {
            "set": self.name,
            "distance": self.distance,
            "rows": self.rows,
            "dim": self.dim,
            "queries": len(self.exact.queries),
            "engines": [side.entry for side in sides],
        }


def at_recall(points, target):
    """QPS at a recall, log(QPS) being linear in recall between two points of the sweep; a
    lower bound when already the smallest ef reaches it, None when no ef does."""
    points = sorted(points, key=lambda p: p["ef"])
    if points[0]["recall"] >= target:
        reaching = (p["qps"] for p in points if p["recall"] >= target)
        return {"qps": max(reaching), "bound": True}
    for low, high in zip(points, points[1:]):
        if low["recall"] < target <= high["recall"]:
            share = (target - low["recall"]) / (high["recall"] - low["recall"])
            logs = math.log(low["qps"]), math.log(high["qps"])
            qps = math.exp(logs[0] + share * (logs[1] - logs[0]))
            return {"qps": qps, "bound": False}
    return None


def summary(rounds):
    """Medians over the rounds of the QPS at the targets; the sweeps stay."""
    reached = {}
    for target in TARGETS:
        found = [at_recall(points, target) for points in rounds]
        found = [one for one in found if one]
        reached[str(target)] = found and {
            "qps": statistics.median(one["qps"] for one in found),
            "bound": any(one["bound"] for one in found),
            "qps_runs": [one["qps"] for one in found],
        }
    recalls = [point["recall"] for points in rounds for point in points]
    return {
        "at_recall": {target: found or None for target, found in reached.items()},
        "recall": [min(recalls), max(recalls)],
        "rounds": rounds,
    }


def comparison(ours, theirs):
    """Ours / theirs, and on which side of it the truth lies if one of them is a bound."""
    if not ours or not theirs:
        return None
    side = {(True, False): "≥", (False, True): "≤", (True, True): "~"}
    return {
        "ratio": ratio(ours["qps"], theirs["qps"]),
        "side": side.get((ours["bound"], theirs["bound"]), ""),
    }


def ratios(result):
    """Each of our engines against the best peer and against hnswlib, at every target."""
    engines = [e for e in result["engines"] if "error" not in e]
    peers = {e["name"]: e["at_recall"] for e in engines if not e["ours"]}
    out = []
    for target in map(str, TARGETS):
        reaching = {name: reached[target] for name, reached in peers.items() if reached[target]}
        best = max(reaching, key=lambda name: reaching[name]["qps"], default=None)
        for engine in engines:
            if engine["ours"]:
                ours = engine["at_recall"][target]
                out.append(
                    {
                        "name": engine["name"],
                        "target": target,
                        "best_peer": best,
                        "to_best": comparison(ours, reaching.get(best)),
                        "to_hnswlib": comparison(ours, reaching.get("hnswlib")),
                    }
                )
    return out


# -------------------------------------------------------------------- the report


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def qps_text(reached):
    if not reached:
        return "not reached"
    return f"{'≥ ' if reached['bound'] else ''}{reached['qps']:.0f}"


def ratio_text(compared):
    return f"{compared['side']} {compared['ratio']:.2f}".strip() if compared else "-"


def parts_text(engine, rows):
    """The parts of the resident bytes per vector, and of which kind they are."""
    if engine["ours"]:
        parts = {"index": engine["counted"]["index"], "vectors": engine["counted"]["full"]}
    else:
        parts = engine["grown"]
    return ", ".join(f"{kind} {size / rows:.0f}" for kind, size in parts.items() if size)


def engine_row(engine, rows):
    if "error" in engine:
        return [engine["name"], f"failed: {engine['error']}".replace("|", "/"), *"-------"]
    recalls = engine["recall"]
    return [
        engine["name"],
        engine["searches"],
        show(engine["build_seconds"], ".1f"),
        show(engine["build_seconds_2"], ".1f"),
        show(engine["resident_bytes"] / rows, ".0f"),
        parts_text(engine, rows),
        f"{recalls[0]:.3f} to {recalls[1]:.4f}",
        *(qps_text(engine["at_recall"][str(target)]) for target in TARGETS),
    ]


def report(result):
    targets = [f"QPS at {target}" for target in TARGETS]
    head = ["engine", "searches", "build s, 1 thread", "build s, 2 threads"]
    head += ["resident B/vector", "of it", "recall@10", *targets]
    lines = [
        f"## {result['set']}, {result['distance']}: {result['rows']} vectors of "
        f"{result['dim']} dimensions, {result['queries']} queries",
        "",
    ]
    lines += table(head, [engine_row(engine, result["rows"]) for engine in result["engines"]])
    head = ["ours", "recall", "best peer", "ours / best peer", "ours / hnswlib"]
    rows = [
        [
            one["name"],
            one["target"],
            one["best_peer"] or "-",
            ratio_text(one["to_best"]),
            ratio_text(one["to_hnswlib"]),
        ]
        for one in result["ratios"]
    ]
    return "\n".join([*lines, "", *(table(head, rows) if rows else []), ""])


def warnings(results, load_average, cpus, searching):
    out = []
    # The run itself keeps about one core busy when it ends.
    if load_average["start"][0] > 0.3 * cpus or load_average["end"][0] - 1 > 0.5 * cpus:
        out.append(
            "the machine was busy with other work (load average "
            f"{load_average['start'][0]:.1f} at the start, {load_average['end'][0]:.1f} "
            "at the end): take the numbers as a rough guide"
        )
    shares = []
    for result in results:
        for engine in result["engines"]:
            where = f"{result['set']}, {result['distance']}, {engine['name']}"
            points = [point for points in engine.get("rounds", []) for point in points]
            cores = [point["cores"] for point in points if "cores" in point]
            shares += cores
            if cores and max(cores) > searching + 0.1:
                out.append(f"{where}: the search kept {max(cores):.1f} cores busy")
            if points and engine["recall"][1] < TARGETS[0]:
                out.append(f"{where}: recall stays below {TARGETS[0]}, check its answers")
    if starved := sum(share < 0.9 * searching for share in shares):
        out.append(f"{starved} of the peers' {len(shares)} timings kept too few cores busy")
    return out


def versions():
    out = {"python": platform.python_version()}
    packages = {"numpy", *(peer.package for peer in PEERS.values())}
    for name in sorted(packages):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            out[name] = importlib.metadata.version(name)
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        described = subprocess.run(
            ["git", "-C", REPOSITORY, "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            check=True,
        )
        out["azimuth"] = described.stdout.strip()
    return out


# ------------------------------------------------------------------ command line


def choice(allowed):
    """A parser of comma separated names out of the allowed ones."""

    def parse(text):
        names = text.split(",")
        unknown = [name for name in names if name not in allowed]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(allowed)}")
        return names

    return parse


def numbers(text):
    return sorted({int(number) for number in text.split(",")})


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--engine", default=str(REPOSITORY / "target/release/engine-hnsw"), help="our binary")
    add("--set", dest="sets", type=choice(SETS), default=list(SETS), help="comma separated")
    add("--distance", dest="distances", type=choice(DISTANCES), default=list(DISTANCES))
    add("--quantization", type=lambda text: text.split(","), default=["sq8", "polar4", "none"])
    add("--peers", type=choice(PEERS), default=list(PEERS), help="comma separated")
    data = REPOSITORY.parent / "shared/data/wordnet"
    add("--data", default=str(data), help="folder of the wordnet set")
    add("--work", type=pathlib.Path, help="folder for data and indexes; else a temporary one")
    add("--out", default="engine_results.json")
    add("--repeat", type=int, default=3, help="rounds")
    add("--seconds", type=float, default=0.5, help="of each timing, at least")
    sweep = [10, 16, 24, 32, 40, 48, 64, 96, 128, 192, 256, 384, 512]
    add("--ef", type=numbers, default=sweep, help="comma separated")
    add("--search-threads", type=int, default=1, help="that share the queries of a pass")
    add("--rows", type=int, help="only the first rows of every set")
    add("--m", type=int, default=16)
    add("--ef-construction", type=int, default=200)
    add("--oversample", type=int, default=3, help="of ours and Qdrant: candidates rescored / k")
    add("--cpus", type=int, default=2, help="cores that everything may use")
    add("--timeout", type=float, default=3600, help="seconds for a build, and for a sweep")
    args = parser.parse_args()
    if args.search_threads < 1:
        parser.error("--search-threads must be at least 1")
    if args.repeat < 1 or args.seconds <= 0:
        parser.error("--repeat must be at least 1 and --seconds above 0")
    if args.ef[0] < K:
        parser.error(f"--ef must not be below {K}")
    return args


@contextlib.contextmanager
def work_folder(args):
    """A new folder, in --work if that is given, removed at the end."""
    if args.work:
        args.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="versus-", dir=args.work) as folder:
        yield pathlib.Path(folder)


def measure(args):
    """The results of every set with every distance, printed as they come."""
    results = []
    for name in args.sets:
        with work_folder(args) as folder:
            paths = prepare(name, args, folder)
            for distance in args.distances:
                say(f"{name}, {distance}")
                scratch = folder / distance
                scratch.mkdir()
                result = Case(name, distance, paths, scratch, args).measure()
                results.append({**result, "ratios": ratios(result)})
                print(report(results[-1]), flush=True)
    return results


def main():
    args = arguments()
    # Everything below, our binary too, inherits this set of cores.
    cores = sorted(os.sched_getaffinity(0))[: args.cpus]
    os.sched_setaffinity(0, cores)
    settings = ["repeat", "seconds", "ef", "rows", "m", "ef_construction", "oversample"]
    settings.append("search_threads")
    out = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(len(cores)),
        "load_average": {"start": os.getloadavg()},
        "versions": versions(),
        "settings": {"k": K, "seed": SEED, **{name: getattr(args, name) for name in settings}},
    }
    m = out["machine"]
    print(f"{m['model']}, {m['cores_used']} of {m['cores']} cores, {out['date']}")
    print(", ".join(f"{name} {version}" for name, version in out["versions"].items()) + "\n")
    out["results"] = measure(args)
    out["load_average"]["end"] = os.getloadavg()
    out["warnings"] = warnings(
        out["results"], out["load_average"], len(cores), args.search_threads
    )
    pathlib.Path(args.out).write_text(json.dumps(out, indent=2) + "\n")
    for note in out["warnings"]:
        print(f"Warning: {note}.")


if __name__ == "__main__":
    main()
