"""Power cuts: a server on an ext4 file system in a loop-mounted image, killed under concurrent writes.

At the kill the image is copied. The copy holds what the file system has written to its device and
nothing of the page cache, so what was not synced is gone, as after a power cut. The copy is mounted,
the server started on it, and every acknowledged row has to be there, and no other.

Needs root (loop mounts) and the Python package psycopg.

    python tests/sim/power_cut.py --azimuth target/release/azimuth [--cuts 20] [--seed 1]
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

IMAGE_BYTES = 320 << 20
WRITERS = 4


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


class Server:
    def __init__(self, binary, data, port):
        config = data.parent / "azimuth.toml"
        # Small checkpoints, so that cuts hit them as well.
        config.write_text("checkpoint_log_bytes = 200000\n")
        self.port = port
        self.process = subprocess.Popen(
            [binary, "serve", "--data", data, "--pg", f"127.0.0.1:{port}", "--config", config],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit("the server does not start")
                time.sleep(0.02)

    def connect(self):
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="azimuth", dbname="azimuth", autocommit=True
        )

    def kill(self):
        self.process.kill()
        self.process.wait()


class Writer(threading.Thread):
    """Inserts and updates rows of its own; knows what was acknowledged and what was in flight."""

    def __init__(self, server, number, settled, seed):
        super().__init__()
        self.connection = server.connect()
        self.number, self.settled = number, settled
        self.in_flight = {}
        self.acknowledged = 0
        self.random = random.Random(seed)

    def run(self):
        version = 1 + max(self.settled.values(), default=0)
        key = 1 + max(self.settled, default=self.number * 1_000_000)
        while True:
            if self.settled and self.random.random() < 0.3:
                changed = [self.random.choice(list(self.settled))]
                statement = f"UPDATE t SET version = {version} WHERE id = {changed[0]}"
            else:
                changed = list(range(key, key + self.random.randint(1, 4)))
                key = changed[-1] + 1
                filler = "x" * self.random.randint(0, 400)
                rows = ", ".join(f"({id}, {version}, '{filler}')" for id in changed)
                statement = f"INSERT INTO t VALUES {rows}"
            self.in_flight = dict.fromkeys(changed, version)
            try:
                self.connection.execute(statement)
            except psycopg.Error:
                return
            self.settled.update(self.in_flight)
            self.in_flight = {}
            self.acknowledged += 1
            version += 1


def check(server, writers):
    """Compares what is there with what must be; settles what was in flight."""
    found = dict(server.connect().execute("SELECT id, version FROM t").fetchall())
    lost = phantom = torn = 0
    for writer in writers:
        mine = {i: v for i, v in found.items() if i // 1_000_000 == writer.number}
        done = [mine.get(i) == v for i, v in writer.in_flight.items()]
        if any(done):
            torn += not all(done)
            writer.settled.update(writer.in_flight)
        lost += sum(mine.get(i) != v for i, v in writer.settled.items())
        phantom += sum(i not in writer.settled for i in mine)
    server.connect().execute("CHECK TABLE t")
    return lost, phantom, torn


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--azimuth", required=True)
    arguments.add_argument("--cuts", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--port", type=int, default=5495)
    options = arguments.parse_args()
    rng = random.Random(options.seed)
    work = pathlib.Path(tempfile.mkdtemp(prefix="azimuth-power-"))
    image, mount = work / "image-0", work / "mount"
    mount.mkdir()
    with open(image, "wb") as file:
        file.truncate(IMAGE_BYTES)
    run("mkfs.ext4", "-q", "-F", image)
    run("mount", "-o", "loop", image, mount)
    server = Server(options.azimuth, mount / "data", options.port)
    server.connect().execute("CREATE TABLE t (id bigint PRIMARY KEY, version bigint, note text)")
    settled = {number: {} for number in range(1, WRITERS + 1)}
    totals = [0, 0, 0]
    acknowledged = 0
    try:
        for cut in range(1, options.cuts + 1):
            writers = [Writer(server, n, settled[n], rng.random()) for n in settled]
            for writer in writers:
                writer.start()
            time.sleep(rng.uniform(0.05, 1.5))
            server.kill()
            after = work / f"image-{cut}"
            run("cp", "--sparse=always", image, after)
            for writer in writers:
                writer.join()
            run("umount", mount)
            image.unlink()
            image = after
            run("mount", "-o", "loop", image, mount)
            server = Server(options.azimuth, mount / "data", options.port)
            wrong = check(server, writers)
            acknowledged += sum(writer.acknowledged for writer in writers)
            totals = [a + b for a, b in zip(totals, wrong)]
            if any(wrong) or cut % 10 == 0:
                print(
                    f"seed {options.seed}, cut {cut}: {acknowledged} acknowledged, "
                    f"{totals[0]} lost, {totals[1]} phantom, {totals[2]} torn",
                    flush=True,
                )
    finally:
        server.kill()
        subprocess.run(["umount", mount], check=False)
        shutil.rmtree(work, ignore_errors=True)
    sys.exit(any(totals))


if __name__ == "__main__":
    main()
