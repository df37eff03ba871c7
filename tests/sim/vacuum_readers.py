"""VACUUM every second under readers of the past: an instant is read whole, or refused with 22008.

Writers move amounts between accounts, so that every instant has the same total; each reader reads an
instant when it is young, and again and again until it is refused. All answers about an instant have to
be the same. Nearest neighbours as of the instant are compared with the exact answer.

Needs the Python package psycopg.

    python tests/sim/vacuum_readers.py --azimuth target/release/azimuth [--seconds 600] [--seed 1]
"""

import argparse
import collections
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import psycopg

ACCOUNTS = 20_000
READERS = 8
WRITERS = 2
RETENTION = 3


class World:
    def __init__(self, port, seed):
        self.port, self.seed = port, seed
        self.stop = threading.Event()
        self.counts = collections.Counter()
        self.wrong = []
        self.lock = threading.Lock()

    def connect(self):
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="azimuth", dbname="azimuth", autocommit=True
        )

    def count(self, what, by=1):
        with self.lock:
            self.counts[what] += by

    def fail(self, what):
        with self.lock:
            self.wrong.append(what)
        print("WRONG:", what, flush=True)

    def guarded(self, work, *arguments):
        try:
            work(*arguments)
        except Exception as error:
            self.fail(f"{work.__name__}: {type(error).__name__}: {error}")
            self.stop.set()

    def writer(self, number):
        chance = random.Random(self.seed * 100 + number)
        connection = self.connect()
        while not self.stop.is_set():
            first, second = chance.sample(range(ACCOUNTS), 2)
            amount = chance.randrange(1, 50)
            try:
                connection.execute(
                    f"UPDATE t SET n = n + CASE WHEN id = {first} THEN {-amount} ELSE {amount} END, "
                    f"v = '[{chance.random()},{chance.random()},{chance.random()},{chance.random()}]' "
                    f"WHERE id IN ({first}, {second})"
                )
                self.count("commits")
            except psycopg.errors.SerializationFailure:
                self.count("conflicts")

    def vacuum(self):
        connection = self.connect()
        while not self.stop.wait(1):
            began = time.monotonic()
            connection.execute("VACUUM t")
            self.count("vacuums")
            with self.lock:
                self.counts["slowest vacuum, ms"] = max(
                    self.counts["slowest vacuum, ms"], int((time.monotonic() - began) * 1000)
                )

    def reader(self, number):
        chance = random.Random(self.seed * 1000 + number)
        connection = self.connect()
        past = collections.deque()
        while not self.stop.is_set():
            if len(past) < 12:
                at = connection.execute("SELECT now()").fetchone()[0]
                past.append((at, self.read(connection, at), False))
            at, first, _ = past[0]
            past.rotate(-1)
            try:
                again = self.read(connection, at)
            except psycopg.errors.DatetimeFieldOverflow:
                self.count("refused")
                past.pop()
                continue
            self.count("reads")
            if again != first:
                self.fail(f"as of {at}: {again}, before {first}")
            if chance.random() < 0.3:
                try:
                    self.nearest(connection, at, chance)
                except psycopg.errors.DatetimeFieldOverflow:
                    self.count("refused")
                    past.pop()

    def read(self, connection, at):
        row = connection.execute(
            f"SELECT count(*), sum(n), sum(id * n), min(n), max(n) FROM t AS OF TIMESTAMP '{at}'"
        ).fetchone()
        if (row[0], int(row[1])) != (ACCOUNTS, 100 * ACCOUNTS):
            self.fail(f"as of {at}: {row}")
        return row

    def nearest(self, connection, at, chance):
        query = "[" + ",".join(str(chance.random()) for _ in range(4)) + "]"
        statement = f"SELECT id FROM t AS OF TIMESTAMP '{at}' ORDER BY v <-> '{query}' LIMIT 10"
        found = {row[0] for row in connection.execute(statement)}
        connection.execute("SET enable_ann = off")
        exact = {row[0] for row in connection.execute(statement)}
        connection.execute("SET enable_ann = on")
        if len(found) != 10 or len(exact) != 10:
            self.fail(f"as of {at}: {len(found)} and {len(exact)} neighbours")
        self.count("searches")
        self.count("neighbours found", len(found & exact))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--azimuth", required=True)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port", type=int, default=5473)
    arguments = parser.parse_args()
    directory = pathlib.Path(tempfile.mkdtemp())
    server = subprocess.Popen(
        [arguments.azimuth, "serve", "--data", directory / "data", "--pg", f"127.0.0.1:{arguments.port}"],
        stdout=open(directory / "server.log", "w"),
        stderr=subprocess.STDOUT,
    )
    world = World(arguments.port, arguments.seed)
    try:
        for _ in range(500):
            try:
                connection = world.connect()
                break
            except psycopg.OperationalError:
                time.sleep(0.02)
        connection.execute(
            "CREATE TABLE t (id int PRIMARY KEY, n bigint, v vector(4)) "
            f"WITH (retention = '{RETENTION} seconds')"
        )
        connection.execute(
            "INSERT INTO t SELECT g, 100, ARRAY[random(), random(), random(), random()] "
            f"FROM generate_series(0, {ACCOUNTS - 1}) AS s(g)"
        )
        connection.execute("CREATE INDEX ON t USING hnsw (v vector_l2_ops)")
        work = [(world.writer, number) for number in range(WRITERS)]
        work += [(world.reader, number) for number in range(READERS)]
        work += [(world.vacuum,)]
        threads = [threading.Thread(target=world.guarded, args=arguments) for arguments in work]
        for thread in threads:
            thread.start()
        world.stop.wait(arguments.seconds)
        world.stop.set()
        for thread in threads:
            thread.join()
        files = list((directory / "data" / "namespaces").rglob("*"))
        size = sum(file.stat().st_size for file in files if file.is_file())
        print(dict(world.counts), f"{len(files)} files of {size >> 20} MiB")
        recall = world.counts["neighbours found"] / max(1, 10 * world.counts["searches"])
        print(f"recall@10 {recall:.4f}, {len(world.wrong)} wrong")
        if world.counts["refused"] == 0 or world.counts["reads"] == 0 or recall < 0.95:
            world.fail("nothing was tested, or recall is too low")
    finally:
        server.kill()
        server.wait()
        text = (directory / "server.log").read_text()
        if "ERROR" in text or "panicked" in text:
            world.fail("the server reports errors: " + text[-2000:])
        shutil.rmtree(directory, ignore_errors=True)
    sys.exit(1 if world.wrong else 0)


if __name__ == "__main__":
    main()
