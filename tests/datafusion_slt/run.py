"""Runs DataFusion's sqllogictest files against a server over the PostgreSQL protocol.

    python tests/datafusion_slt/run.py --files DIR --server HOST:PORT [--data DIR]
        [--reference HOST:PORT] [--only GLOB] [--show CLASS] [--out JSON]

DIR is `test_files` of the crate `datafusion-sqllogictest`. Ends with 1 when a record fails for a
class that `reasons.toml` has no reason for.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import pathlib
import re
import sys
import tomllib
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass

import slt
import stand_in
import values
from server import TIMED_OUT, Answer, Server

HERE = pathlib.Path(__file__).parent
POSTGRES = {"postgres"}
DATAFUSION = {"Datafusion", "DataFusion"}
ROWS = "different rows"
PLAN = "EXPLAIN and DESCRIBE: another plan"
TYPES = "different column types"
NOT_REFUSED = "not refused"
SHOWN = 20  # lines of an answer


@dataclass
class Failure:
    file: str
    line: int
    sql: str
    name: str  # of its class
    kind: str = ""
    state: str = ""
    expected: str = ""
    found: str = ""
    reference: str = ""


def judge(record: slt.Record, answer: Answer, as_postgres: bool) -> tuple[str, str]:
    """The class of a failure, empty for none, and what was found."""
    if record.kind == "error":
        # The text of an error is DataFusion's own; that it is refused is what counts.
        if answer.message == TIMED_OUT or answer.message.startswith("connection lost"):
            return mask(answer.message), ""
        return ("", "") if answer.failed else (NOT_REFUSED, written(answer, as_postgres))
    if answer.failed:
        return refusal(record.sql, answer.message), f"{answer.state} {answer.message}"
    if record.kind == "ok":
        return "", ""
    if record.kind == "count":
        count = affected(answer)
        return ("", "") if count == record.count else ("different count", str(count))
    types, lines = record.types, lines_of(record, answer, as_postgres)
    found = "\n".join(lines)
    wanted = record.expected
    if re.fullmatch(r"\d+ values hashing to [0-9a-f]{32}", "".join(wanted)):
        lines = [hashed(record, answer, as_postgres)]
    if record.sort != "nosort":
        wanted = sorted(wanted)
    if not slt.matches(wanted, lines) and not (
        len(wanted) == len(lines) and all(map(values.same_numbers, wanted, lines))
    ):
        if re.match(r"\s*(explain|describe|desc)\b", record.sql, re.IGNORECASE):
            return PLAN, found
        return difference(wanted, lines), found
    if answer.oids:
        letters = "".join(map(values.letter, answer.oids))
        if as_postgres:
            letters = "".join(
                "?" if oid == values.TIMESTAMPTZ else c for oid, c in zip(answer.oids, letters)
            )
        if len(types) != len(letters) or any(
            a != b and a != "?" for a, b in zip(types, letters)
        ):
            return f"{TYPES}: {differing(types, letters)}", f"{letters}\n{found}"
    return "", ""


# Statements that are told by how they begin: the parser stops at different places of them.
_BEGIN = [
    (r"create\s+(?:or\s+replace\s+)?(?:unbounded\s+)?external\s+table", "CREATE EXTERNAL TABLE"),
    (r"create\s+unbounded\s+external\s+table", "CREATE EXTERNAL TABLE"),
    (r"(?:set|reset|show)\s+datafusion\.", "a setting of DataFusion"),
    (r"copy\b", "COPY to or from a file"),
    (r"create\s+(?:or\s+replace\s+)?(?:temp\w*\s+)?view", "CREATE VIEW"),
    (r"create\s+(?:or\s+replace\s+)?function", "CREATE FUNCTION"),
]


def refusal(sql: str, message: str) -> str:
    for begin, name in _BEGIN:
        if re.match(rf"\s*{begin}", sql, re.IGNORECASE):
            return name
    return mask(message)


def differing(wanted: str, letters: str) -> str:
    pairs = {f"{a} is {b}" for a, b in zip(wanted, letters) if a not in (b, "?")}
    return ", ".join(sorted(pairs)) or "another number of columns"


# What two answers may differ in and still say the same.
_NEARLY = [
    ("a time zone where DataFusion has none, or another", r"(?<=\d)(Z|[+-]\d\d:\d\d)\b", ""),
    ("no finer than microseconds", r"(\.\d{5})\d+", r"\1"),
    ("intervals of whole units", r"\b0 (days|hours|mins)\b ?|\b0\.0+ secs|\b0 secs", ""),
    ("a date with an interval is a timestamp", r"(?<=\d)T00:00:00\b", ""),
]


def difference(wanted: list[str], lines: list[str]) -> str:
    if sorted(wanted) == sorted(lines):
        return f"{ROWS}: only in another order"
    for name, pattern, by in _NEARLY:
        one, other = (
            [re.sub(pattern, by, line).rstrip() for line in each] for each in (wanted, lines)
        )
        if sorted(one) == sorted(other):
            return f"{ROWS}: {name}"
    return ROWS


def hashed(record: slt.Record, answer: Answer, as_postgres: bool) -> str:
    rows = values.rows(answer.oids, answer.rows, plans=not as_postgres)
    if record.sort == "rowsort":
        rows.sort()
    single = [value for row in rows for value in row]
    digest = hashlib.md5("".join(f"{value}\n" for value in single).encode()).hexdigest()
    return f"{len(single)} values hashing to {digest}"


def affected(answer: Answer) -> int:
    last = answer.tag.split()[-1:]
    return int(last[0]) if last and last[0].isdigit() else 0


def written(answer: Answer, as_postgres: bool) -> str:
    rows = values.rows(answer.oids, answer.rows, plans=not as_postgres)
    return "\n".join(" ".join(row) for row in rows)


def lines_of(record: slt.Record, answer: Answer, as_postgres: bool) -> list[str]:
    rows = values.rows(answer.oids, answer.rows, plans=not as_postgres)
    if not answer.oids and record.types == "I" and answer.tag and answer.tag[-1].isdigit():
        # DataFusion answers a change with a row that has the count.
        rows = [[str(affected(answer))]]
    if record.sort == "valuesort":
        return sorted(value for row in rows for value in row)
    if record.valuewise:
        return [value for row in rows for value in row]
    lines = [" ".join(row).rstrip() for row in rows]
    return sorted(lines) if record.sort == "rowsort" else lines


def mask(message: str) -> str:
    """A message without what it says of one statement: names, literals, numbers."""
    message = message.split("\n")[0]
    message = re.sub(r"\"[^\"]*\"|'[^']*'|`[^`]*`", "…", message)
    message = re.sub(r"(function|column|relation|type|operator) [\w.…]+(\(.*\))?", r"\1 …", message)
    message = re.sub(r"-?\d[\d.:e+-]*", "N", message)
    message = re.sub(r"(\b[A-Z]\w+\(.*\))", "…", message)
    return message[:140]


class Run:
    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.root = pathlib.Path(options.files).resolve()
        self.data = pathlib.Path(options.data) if options.data else None
        extended = options.protocol == "extended"
        self.server = Server(
            options.server, options.user, options.database, options.timeout, extended
        )
        self.reference = options.reference and Server(
            options.reference, options.user, options.database, options.timeout, extended
        )
        self.failures: list[Failure] = []
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        path = HERE / "reasons.toml"
        self.reasons = tomllib.loads(path.read_text())["class"] if path.exists() else []

    def file(self, path: pathlib.Path) -> None:
        name = str(path.relative_to(self.root))
        as_postgres = name.startswith("pg_compat")
        labels = POSTGRES if as_postgres else DATAFUSION
        schema = "slt_" + re.sub(r"\W", "_", name).lower()
        self.server.fresh(schema)
        if self.reference:
            self.reference.fresh(schema)
        counts = self.counts[name]
        missing: dict[str, str] = {}  # tables that are not what the file made, and why
        for record in slt.read(path, self.root):
            if not record.runs_as(labels):
                continue
            answer = self.send(self.server, record)
            other = self.send(self.reference, record) if self.reference else None
            failed, found = judge(record, answer, as_postgres)
            counts["records"] += 1
            counts[record.kind] += 1
            if not failed:
                counts["passed"] += 1
                counts[f"{record.kind} passed"] += 1
                if answer.failed:
                    self.make(record, {})
                elif made := stand_in.target(record.sql):
                    if re.match(r"\s*create", record.sql, re.IGNORECASE):
                        missing.pop(made, None)
                continue
            if stand_in.makes(record.sql):
                self.make(record, missing, failed)
            else:
                failed = self.after(record, failed, missing)
                if changed := stand_in.target(record.sql):
                    missing.setdefault(changed, failed)
            failure = Failure(record.file, record.line, record.sql, failed, record.kind)
            failure.state = answer.state
            failure.expected = "\n".join(record.expected) or record.error
            failure.found = found
            if other is not None:
                failure.reference = self.compare(record, answer, other, as_postgres)
            self.failures.append(failure)
            if self.options.show and fnmatch.fnmatchcase(failed, self.options.show):
                self.show(failure)
        self.server.leave()
        if self.reference:
            self.reference.leave()
        print(
            f"{name}: {counts['records']} records, {counts['passed']} passed, "
            f"{counts['records'] - counts['passed']} failed",
            flush=True,
        )

    def send(self, server: Server, record: slt.Record) -> Answer:
        answer = stand_in.copy(server, record.sql, self.data) or server.run(record.sql)
        if answer.failed and server is self.reference and record.kind in ("ok", "count"):
            stand_in.make(server, record.sql, self.data)
        return answer

    def make(self, record: slt.Record, missing: dict[str, str], why: str = "") -> None:
        if record.kind == "error" or stand_in.make(self.server, record.sql, self.data):
            if made := stand_in.target(record.sql):
                missing.pop(made, None)
        elif made := stand_in.target(record.sql):
            missing.setdefault(made, why)

    @staticmethod
    def after(record: slt.Record, failed: str, missing: dict[str, str]) -> str:
        words = set(re.findall(r"\w+", record.sql.lower()))
        for name, why in missing.items():
            if name in words:
                return why if why.startswith("after: ") else f"after: {why}"
        return failed

    @staticmethod
    def compare(record: slt.Record, answer: Answer, other: Answer, as_postgres: bool) -> str:
        """How the reference's answer is to the server's: same, or what it is."""
        if answer.failed and other.failed:
            return "same" if answer.state[:2] == other.state[:2] else f"refuses: {other.message}"
        if other.failed:
            return f"refuses: {other.message}"
        theirs = lines_of(record, other, as_postgres)
        if not answer.failed and theirs == lines_of(record, answer, as_postgres):
            return "same"
        return "as the file" if not judge(record, other, as_postgres)[0] else "\n".join(theirs)

    @staticmethod
    def show(failure: Failure) -> None:
        print(f"\n{failure.file}:{failure.line} [{failure.name}]\n{failure.sql}")
        for title, text in (
            ("expected", failure.expected),
            ("found", failure.found),
            ("reference", failure.reference),
        ):
            if text:
                lines = text.split("\n")
                more = ["..."] if len(lines) > SHOWN else []
                print(f"-- {title}\n" + "\n".join(lines[:SHOWN] + more))

    def reason(self, failure: Failure) -> tuple[str, str]:
        for entry in self.reasons:
            if (
                re.search(entry.get("class", ""), failure.name)
                and re.search(entry.get("sql", ""), failure.sql, re.IGNORECASE)
                and re.search(entry.get("file", ""), failure.file)
                and re.search(entry.get("found", ""), failure.found)
            ):
                return entry["kind"], entry["reason"]
        return "", ""

    def report(self) -> int:
        folders: dict[str, Counter[str]] = defaultdict(Counter)
        for name, counts in self.counts.items():
            folders[name.split("/")[0] if "/" in name else "."].update(counts)
        print()
        for folder, counts in sorted(folders.items()):
            print(f"{folder}: {share(counts)}")
        total = sum(folders.values(), Counter())
        print(f"all: {share(total)}")
        for kind in ("query", "ok", "count", "error"):
            if total[kind]:
                print(f"  {kind}: {total[f'{kind} passed']} of {total[kind]}")
        kinds: Counter[str] = Counter()
        print("\nfailures by class")
        classes: dict[tuple[str, str, str], list[Failure]] = defaultdict(list)
        for failure in self.failures:
            classes[self.reason(failure) + (failure.name,)].append(failure)
        for (kind, reason, name), members in sorted(classes.items(), key=lambda c: -len(c[1])):
            kinds[kind or "no reason"] += len(members)
            first = members[0]
            print(f"{len(members):6} {name} ({first.file}:{first.line}) {kind or 'NO REASON'}")
            if reason:
                print(f"       {reason}")
        print("\nfailures by kind of reason")
        for kind, count in kinds.most_common():
            print(f"{count:6} {kind}")
        if self.options.out:
            content = {
                "counts": self.counts,
                "failures": [asdict(f) | {"reason": self.reason(f)} for f in self.failures],
            }
            pathlib.Path(self.options.out).write_text(json.dumps(content, indent=1))
        return int(kinds["no reason"] > 0)


def share(counts: Counter[str]) -> str:
    return (
        f"{counts['passed']} of {counts['records']} pass, "
        f"{100 * counts['passed'] / max(1, counts['records']):.1f} %"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--files", required=True, help="test_files of datafusion-sqllogictest")
    parser.add_argument("--server", required=True, metavar="HOST:PORT")
    parser.add_argument("--data", help="a directory with the CSV files that the files load")
    parser.add_argument("--reference", metavar="HOST:PORT", help="a PostgreSQL to ask as well")
    parser.add_argument("--only", action="append", metavar="GLOB", help="files, by their path")
    parser.add_argument("--skip", action="append", default=[], metavar="GLOB")
    parser.add_argument("--show", metavar="CLASS", help="print failures of a class, a glob")
    parser.add_argument("--out", metavar="JSON")
    parser.add_argument("--protocol", choices=("simple", "extended"), default="extended")
    parser.add_argument("--timeout", type=float, default=10)
    parser.add_argument("--user", default="azimuth")
    parser.add_argument("--database", default="azimuth")
    options = parser.parse_args()
    run = Run(options)
    for path in sorted(run.root.rglob("*.slt")):
        name = str(path.relative_to(run.root))
        if options.only and not any(fnmatch.fnmatch(name, glob) for glob in options.only):
            continue
        if any(fnmatch.fnmatch(name, glob) for glob in options.skip):
            continue
        run.file(path)
    return run.report()


if __name__ == "__main__":
    sys.exit(main())
