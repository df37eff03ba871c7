"""Runs the tasks of one client, each in a process of its own, and prints one line for each.

A client's file is called with HOST:PORT and, if wanted, the names of some tasks. A task drops the
tables it is about to create, fails by raising, and is killed when it takes too long.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable

USER = "azimuth"
DATABASE = "azimuth"
SECONDS_MAX = 60

Task = Callable[[], None]
_tasks: list[Task] = []


class Skip(Exception):
    """The task cannot be run here; the message says why."""


def host_port() -> tuple[str, int]:
    host, _, port = sys.argv[1].rpartition(":")
    return host, int(port)


def task(function: Task) -> Task:
    _tasks.append(function)
    return function


def equal(actual: object, expected: object) -> None:
    if actual != expected:
        raise AssertionError(f"got {actual!r}, expected {expected!r}")


def run(client: str) -> None:
    """Runs all tasks, or those named on the command line; the exit code is 1 if one failed."""
    wanted = sys.argv[2:]
    failed = False
    for function in _tasks:
        if wanted and function.__name__ not in wanted:
            continue
        outcome = _outcome(function)
        failed |= outcome.startswith("FAILED")
        print(f"{client}: {function.__name__}: {outcome}", flush=True)
    sys.exit(1 if failed else 0)


def _outcome(function: Task) -> str:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.write(writer, _call(function).encode()[:4000])
        os._exit(0)
    os.close(writer)
    try:
        if not select.select([reader], [], [], SECONDS_MAX)[0]:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"FAILED no end within {SECONDS_MAX} s"
        outcome = os.read(reader, 4000).decode(errors="replace")
        status = os.waitpid(child, 0)[1]
        return outcome or f"FAILED the client ended with {os.waitstatus_to_exitcode(status)}"
    finally:
        os.close(reader)


def _call(function: Task) -> str:
    try:
        function()
    except Skip as skip:
        return f"skipped {skip}"
    except BaseException as error:  # a failure of any kind is what is reported
        return f"FAILED {_reason(error)}"
    return "ok"


def _reason(error: BaseException) -> str:
    state = next(
        (s for e in (error, error.__cause__) for s in [getattr(e, "sqlstate", None)] if s), ""
    )
    line = error.__traceback__
    own = ""
    while line is not None:
        if line.tb_frame.f_code.co_filename == os.path.abspath(sys.argv[0]):
            own = f"line {line.tb_lineno}: "
        line = line.tb_next
    text = " ".join(str(error).split())
    return f"{own}{type(error).__name__} {state} {text}"[:700]
