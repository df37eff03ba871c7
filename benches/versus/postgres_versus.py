#!/usr/bin/env python3
"""SQL over the wire, beside PostgreSQL 16 with pgvector: keys, writes, COPY, long answers, scans.

Both servers get a fresh data directory on the same file system (TMPDIR) and run at once, but the
one that is not measured is halted (SIGSTOP), so that what it puts off is done in its own time. They
take turns at every case; every other round PostgreSQL begins. Clients and servers share the
processors (`taskset` chooses some), so what sixteen connections of pgbench cost is missing to both.

Both are durable: PostgreSQL has SETTINGS and locale C, else its defaults, as Azimuth has. Both are
reached over TCP without TLS, and told to CHECKPOINT between loading and measuring, PostgreSQL to
VACUUM ANALYZE, too. Both HNSW indexes have m = 16 and ef_construction = 200, Azimuth's its default
codes; wire_versus.py compares what they find. All numbers are rates, medians of the rounds.

    python benches/versus/postgres_versus.py --azimuth target/release/azimuth --pg-bin DIR

Needs the Python packages psycopg and numpy, and Linux. Exits with 1 when something failed.
"""

import argparse
import contextlib
import functools
import json
import os
import pathlib
import re
import shlex
import signal
import socket
import struct
import tempfile
import time
from subprocess import DEVNULL, Popen, run

import numpy as np
import psycopg

from engine_versus import REPOSITORY, table, versions
from hnsw_versus import copy_chunks, free_port, machine, ratio, say, show, timed

VECTORS = REPOSITORY.parent / "shared/data/wordnet/embeddings.f16.npy"
SEED = 20_240
BLOCK, BUFFER = 1 << 18, memoryview(bytearray(1 << 20))  # what is sent and read at once
SETTINGS = """listen_addresses='127.0.0.1' unix_socket_directories='' fsync=on synchronous_commit=on
    shared_buffers=2GB max_wal_size=8GB maintenance_work_mem=1GB""".split()
TABLES = {  # columns, and what is loaded
    "vectors": ("id bigint, v vector({})", "binary"),
    "wide": ("id bigint, v vector({}), b text", "wide"),
}
KEYED = ("id bigint PRIMARY KEY, a int, b text", "keyed")  # the others
HNSW = "CREATE INDEX ON vectors USING hnsw (v vector_l2_ops) WITH (m = 16, ef_construction = 200)"
SELECT = "\\set id random(0, :rows - 1)\nSELECT a, b FROM keyed WHERE id = :id;\n"
NEXT = "\\set n :n + 1\n\\set id (:n - 1) * :clients + :client_id\n"  # every key once
WRITES = {
    "INSERT": NEXT + "INSERT INTO written VALUES (:id, 1, 'one row of the table');\n",
    # Half of the keys are new at first.
    "upsert": "\\set id random(0, 2 * :rows - 1)\nINSERT INTO written AS t VALUES (:id, 1, 'new') "
    "ON CONFLICT (id) DO UPDATE SET a = t.a + 1;\n",
    "UPDATE": "\\set id random(0, :rows - 1)\nUPDATE written SET a = a + 1 WHERE id = :id;\n",
    "DELETE": NEXT + "DELETE FROM written WHERE id = :id;\n",
}
SCANS = {
    "count(*)": "SELECT count(*) FROM long",
    "sum and avg": "SELECT sum(a), avg(a) FROM long",
    "GROUP BY, 1,000 groups": "SELECT a, count(*), sum(id), avg(id) FROM long GROUP BY a",
    "a tenth of the keys, filter, ORDER BY, LIMIT 10": "SELECT id, a, b FROM long "
    "WHERE id >= {rows} AND id < 2 * {rows} AND a < 500 ORDER BY a, id LIMIT 10",
    "all rows, filter, ORDER BY, LIMIT 10": "SELECT id, a, b FROM long WHERE a < 100 "
    "ORDER BY b DESC, id LIMIT 10",
}


class Server:
    """One side. The statement it was last given is kept, to be shown should it fail."""

    def __init__(self, args, folder):
        self.args, self.folder, self.port = args, folder, free_port()
        self.statement, self.loaded, self.process = "", set(), None

    def connect(self):
        place = f"host=127.0.0.1 port={self.port} user={self.name} dbname={self.name}"
        return psycopg.connect(f"{place} sslmode=disable gssencmode=disable", autocommit=True)

    def run(self, *statements):
        with self.connect() as connection:
            for self.statement in statements:
                cursor = connection.execute(self.statement)
            return cursor.fetchall() if cursor.description else []

    def copy(self, target, form, encoded):
        """Seconds that COPY takes of a client that only sends what is encoded already."""
        self.statement = f"COPY {target} FROM STDIN WITH (FORMAT {form})"
        with self.connect() as connection, connection.cursor() as cursor:
            start = time.perf_counter()
            with cursor.copy(self.statement) as copy:
                for begin in range(0, len(encoded), BLOCK):
                    copy.write(encoded[begin : begin + BLOCK])
            return time.perf_counter() - start

    def tell(self, name):
        """A signal for all of its processes, the parent first, so that it makes no more of them."""
        children = pathlib.Path(f"/proc/{self.pid}/task/{self.pid}/children")
        found = children.read_text().split() if children.exists() else []
        run(["kill", f"-{name}", str(self.pid), *found], stderr=DEVNULL)


class Azimuth(Server):
    name, settling = "azimuth", ("CHECKPOINT",)

    def start(self):
        command = [self.args.azimuth, "serve", "--data", self.folder / self.name]
        self.process = Popen([*command, "--pg", f"127.0.0.1:{self.port}"], stdout=DEVNULL)
        self.pid = self.process.pid
        for _ in range(600):
            with contextlib.suppress(psycopg.OperationalError):
                return self.connect().close()
            time.sleep(0.1)
        raise RuntimeError("azimuth does not answer")

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(60)


class Postgres(Server):
    name, settling = "postgres", ("VACUUM ANALYZE {}", "CHECKPOINT")

    def program(self, name, *arguments):
        """PostgreSQL's programs refuse root, so the owner of the data runs them."""
        command = [self.args.pg_bin / name, "-D", self.folder / self.name, *arguments]
        if os.geteuid() == 0:
            command = ["su", "postgres", "-c", shlex.join(map(str, command))]
        run(command, check=True, stdout=DEVNULL, cwd=self.folder)

    def start(self):
        data = self.folder / self.name
        self.program("initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C")
        with open(data / "postgresql.conf", "a") as config:
            config.write("\n".join([*SETTINGS, f"port={self.port}\n"]))
        self.program("pg_ctl", "-w", "-l", data / "log", "start")
        self.pid = int((data / "postmaster.pid").read_text().split()[0])
        self.run("CREATE EXTENSION vector")

    def stop(self):
        if (self.folder / self.name / "postmaster.pid").exists():
            self.program("pg_ctl", "-w", "-m", "fast", "stop")


def answers(server, statement, binary=False):
    """Rows and bytes of an answer, and how many of it there are in a second. Only its end is looked
    at, the least that a client can do; libpq would take a good part of the time."""
    server.statement, text = statement, statement.encode() + b"\0"
    asked, ready = [(b"Q", text)], b"Z\0\0\0\5I"
    if binary:  # parse, bind with one format for all columns, execute, sync
        bind = b"\0\0" + struct.pack("!4h", 0, 0, 1, 1)
        asked = [(b"P", b"\0" + text + b"\0\0"), (b"B", bind), (b"E", bytes(5)), (b"S", b"")]
    asked = b"".join(kind + struct.pack("!i", len(text) + 4) + text for kind, text in asked)

    def answer():
        wire.sendall(asked)
        total, end = 0, b""
        while not end.endswith(ready):
            if not (size := wire.recv_into(BUFFER)):
                raise ConnectionError("the server closed the connection")
            total += size
            end = (end + bytes(BUFFER[max(0, size - 1000) : size]))[-1000:]
        if tag := re.search(rb"C\0\0\0.(?:SELECT|COPY) (\d+)\0" + ready + b"$", end, re.S):
            return int(tag[1]), total
        raise RuntimeError(end.replace(b"\0", b" ").decode(errors="replace"))

    # The socket of a connection that libpq has opened, and is not asked to read.
    with server.connect() as libpq, socket.socket(fileno=os.dup(libpq.fileno())) as wire:
        wire.setblocking(True)
        return *answer(), timed(answer, 1, server.args.seconds / 4)


@functools.cache
def vectors(path, rows):
    """Rows of the set; when it is too small its rows again with some noise, as equal vectors would
    be unusual in a graph. What is loaded is made when first needed, never while a clock runs."""
    rng = np.random.default_rng(SEED)
    if not path.exists():
        return rng.standard_normal((rows, 384), dtype=np.float32)
    base = np.load(path, mmap_mode="r")
    out = base[np.arange(rows) % len(base)].astype(np.float32)
    added = out[len(base) :]
    added += rng.standard_normal(added.shape, dtype=np.float32) * (0.2 * out.std())
    return out


@functools.cache
def encoded(path, form, rows):
    """Rows for COPY: vectors in text or binary form, "wide" with another column, or keys."""
    if form == "keyed":  # `a` has a thousand values, in no order of the ids
        lines = (f"{i}\t{i * 7919 % 1000}\trow {i * 31 % 1009} of the table\n" for i in range(rows))
        return memoryview("".join(lines).encode())
    base, wide = vectors(path, rows), form == "wide"
    if form == "text":
        return memoryview(b"".join(copy_chunks(base)))
    dim = base.shape[1]
    # Columns; bytes and value of id; bytes, dimensions, nothing, values of v; bytes and value of b.
    layout = f">i2, >i4, >i8, >i4, >i2, >i2, ({dim},)>f4"
    out = np.zeros(rows, layout + ", >i4, S20" * wide)
    out["f0"], out["f1"], out["f3"], out["f4"] = 2 + wide, 8, 4 + 4 * dim, dim
    out["f2"], out["f6"] = np.arange(rows), base
    if wide:
        out["f7"], out["f8"] = 20, [f"title of row {i:07}" for i in range(rows)]
    return memoryview(b"PGCOPY\n\xff\r\n\0" + bytes(8) + out.tobytes() + b"\xff\xff")


def make(server, target, rows):
    """A new table, what it holds not only in memory."""
    path, (columns, form) = server.args.vectors, TABLES.get(target, KEYED)
    columns = columns.format(vectors(path, 1).shape[1])
    server.run(f"DROP TABLE IF EXISTS {target}", f"CREATE TABLE {target} ({columns})")
    if rows:
        server.copy(target, "text" if form == "keyed" else "binary", encoded(path, form, rows))
    server.run(*(statement.format(target) for statement in server.settling))


def read_only(server, target):
    """Makes a table that is only read, once for all rounds; the number of its rows."""
    rows = server.args.rows * (10 if target == "long" else 1)
    if target not in server.loaded:
        make(server, target, rows)
        server.loaded.add(target)
    return rows


def pgbench(server, script, protocol, connections):
    """Transactions, and those a second. Both sides draw the same keys."""
    args, server.statement = server.args, script
    (server.folder / "script.sql").write_text(script)
    options = f"""-n -h 127.0.0.1 -p {server.port} -U {server.name} -T {args.seconds} -f script.sql
        -M {protocol} -c {connections} -j {min(2, connections)} --random-seed {SEED} -D n=0
        -D rows={args.rows} -D clients={connections} {server.name}"""
    command = [args.pg_bin / "pgbench", *options.split()]
    limit = dict(timeout=120 + args.seconds, cwd=server.folder)
    done = run(command, capture_output=True, text=True, **limit)
    found = re.search(r"actually processed: (\d+).*?tps = ([\d.]+)", done.stdout, re.S)
    if done.returncode != 0 or "ERROR" in done.stderr or not found:
        raise RuntimeError(done.stderr[:400])
    return int(found[1]), float(found[2])


def point(server, protocol, connections):
    """This and the following are what is measured: rates by their unit."""
    read_only(server, "keyed")
    return {"queries/s": pgbench(server, SELECT, protocol, connections)[1]}


def write(server, kind, protocol, connections):
    """A new table each time; what it holds afterwards says whether every transaction counted."""
    # More than one run can delete: a key that is gone would cost no commit.
    many = max(10 * server.args.rows, 60_000 * server.args.seconds)
    rows = {"INSERT": 0, "DELETE": many}.get(kind, server.args.rows)
    make(server, "written", rows)
    tally = "SELECT -count(*)" if kind == "DELETE" else "SELECT coalesce(sum(a), 0)"
    before = int(server.run(f"{tally} FROM written")[0][0])
    count, rate = pgbench(server, WRITES[kind], protocol, connections)
    if (found := int(server.run(f"{tally} FROM written")[0][0]) - before) != count:
        raise RuntimeError(f"{count} transactions of {kind}, but {found} changes")
    return {"transactions/s": rate}


def copy_in(server, form):
    blocks = encoded(server.args.vectors, form, server.args.rows)
    make(server, "vectors", 0)
    return {"rows/s": server.args.rows / server.copy("vectors", form, blocks)}


def create_index(server):
    make(server, "vectors", server.args.rows)
    start = time.perf_counter()
    server.run(HNSW)
    return {"rows/s": server.args.rows / (time.perf_counter() - start)}


def copy_indexed(server):
    """Azimuth acknowledges rows before its graph has them, pgvector afterwards."""
    rows = min(server.args.indexed_rows, server.args.rows)
    blocks = encoded(server.args.vectors, "binary", rows)
    make(server, "vectors", 0)
    server.run(HNSW)
    start = time.perf_counter()
    server.copy("vectors", "binary", blocks)
    acknowledged = time.perf_counter() - start
    state = "SELECT rows > covered_rows FROM azimuth.indexes WHERE collection = 'vectors'"
    while server.name == "azimuth" and server.run(state)[0][0]:
        time.sleep(0.005)
    covered = time.perf_counter() - start
    return {"rows/s acknowledged": rows / acknowledged, "rows/s in the graph": rows / covered}


def long_answer(server, verb, target, form):
    there, statement = read_only(server, target), f"SELECT * FROM {target}"
    if verb == "COPY":
        statement = f"COPY {target} TO STDOUT WITH (FORMAT {form})"
    rows, size, rate = answers(server, statement, form == "binary" and verb == "SELECT")
    if rows != there:
        raise RuntimeError(f"{rows} rows instead of {there}")
    return {"rows/s": rate * rows, "MB/s": rate * size / 1e6}


def scan(server, name):
    read_only(server, "long")
    return {"queries/s": answers(server, SCANS[name].format(rows=server.args.rows))[2]}


def cases():
    """Section, function and arguments."""
    protocols, forms = ("simple", "extended", "prepared"), ("text", "binary")
    yield from (("point", point, protocol, n) for n in (1, 16) for protocol in protocols)
    yield from (("write", write, "INSERT", "simple", n) for n in (1, 16))
    yield from (("write", write, kind, "prepared", n) for kind in WRITES for n in (1, 16))
    yield from (("copy-in", copy_in, form) for form in forms)
    yield from (("copy-in", create_index), ("copy-indexed", copy_indexed))
    for target in ("wide", "long"):
        for verb in ("COPY", "SELECT"):
            yield from (("select-out", long_answer, verb, target, form) for form in forms)
    yield from (("scan", scan, name) for name in SCANS)


def measure(servers, only, results, failures):
    """One round; its values are added to those of the section, case, unit and side."""
    for section, function, *options in cases():
        name = ", ".join(map(str, options)) or function.__name__.replace("_", " ")
        for server in servers if section in only else ():
            os.sync()  # what the other side left to be written is not to be written now
            server.tell("CONT")
            try:
                values = function(server, *options)
            except Exception as error:  # a line of the report; the other cases go on
                texts = (section, name, server.name, server.statement, str(error))
                failures.append([" ".join(text.split()) for text in texts])
                values = {}
            finally:
                server.tell("STOP")
            for unit, value in values.items():
                key = (section, name, unit)
                results.setdefault(key, {"azimuth": [], "postgres": []})[server.name].append(value)
            say(f"{section}: {name}: {server.name} {values or failures[-1]}")


def report(results, failures):
    rows = []
    for case, sides in results.items():
        both = [np.median(values) if values else None for values in sides.values()]
        shown = [show(rate, ",.0f" if rate and rate >= 100 else ".2f") for rate in both]
        rows.append([*case, *shown, show(ratio(*both), ".2f")])
    head = ["section", "case", "unit", "azimuth", "postgres", "azimuth / postgres"]
    print("\n".join(["", *table(head, rows)]))
    if failures:
        rows = {tuple(text.replace("|", "\\|") for text in one): None for one in failures}
        print("\n".join(["", *table(["failed", "case", "side", "statement", "error"], rows)]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add, path = parser.add_argument, lambda name: pathlib.Path(name).resolve()
    sections = list(dict.fromkeys(case[0] for case in cases()))
    add("--azimuth", required=True, type=path, help="the server's binary")
    add("--pg-bin", required=True, type=path, help="folder of PostgreSQL's programs")
    add("--vectors", type=path, default=VECTORS, help="an .npy; random ones when it is not there")
    add("--rows", type=int, default=100_000, help="keys and vectors; the table long has ten times")
    add("--indexed-rows", type=int, default=20_000, help="loaded into a table with an index")
    add("--seconds", type=int, default=8, help="of pgbench; a query is asked for a quarter")
    add("--rounds", type=int, default=3)
    add("--only", nargs="+", choices=sections, default=sections)
    add("--out", type=path)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: exit(1))  # so that the servers end, too
    about = {"date": time.strftime("%F %TZ", time.gmtime()), "versions": versions()}
    about |= {"machine": machine(len(os.sched_getaffinity(0))), "postgresql.conf": SETTINGS}
    about |= {"settings": vars(args), "random vectors": not args.vectors.exists()}
    results, failures, load = {}, [], [os.getloadavg()[0]]
    with contextlib.ExitStack() as running:
        folder = path(running.enter_context(tempfile.TemporaryDirectory(prefix="versus-")))
        folder.chmod(0o1777)  # the user postgres makes its directory in it
        servers = [Azimuth(args, folder), Postgres(args, folder)]
        for server in servers:
            running.callback(server.stop)
            server.start()
            running.callback(server.tell, "CONT")  # comes before it is stopped
            found = "SELECT version(), extversion FROM pg_extension WHERE extname = 'vector'"
            about["versions"][f"{server.name} server"] = ", vector ".join(server.run(found)[0])
            server.tell("STOP")
        for number in range(args.rounds):
            measure(servers[:: -1 if number % 2 else 1], args.only, results, failures)
    about["load_average"] = [*load, os.getloadavg()[0]]
    print("\n".join(f"{name}: {value}" for name, value in about.items()))
    report(results, failures)
    if args.out:
        about["results"] = [{"case": case, **sides} for case, sides in results.items()]
        args.out.write_text(json.dumps(about | {"failures": failures}, indent=1, default=str))
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
