"""Sends the same generated statements to Azimuth and to PostgreSQL with pgvector, and compares.

    python tests/differential/run.py --azimuth HOST:PORT --postgres HOST:PORT --statements 20000 \
        --seed 1 [--tlp 20000]

Needs a role `azimuth` on both, and the database `diff` on PostgreSQL with the extension `vector`,
which is made when it is missing. Ends with 1 when there are differences that `known.toml` does not
name.
"""

from __future__ import annotations

import argparse
import pathlib
import random
import re
import sys
import time
import tomllib
from collections import Counter
from dataclasses import dataclass, field

from compare import AGREE, BOTH_REFUSE, KINDS, Difference
from expressions import leave_out
from schema import Table, draw_tables
from server import Lost, Server
from shrink import Case, load, run_script, shape, shrink, shrink_tree
from statements import Statements
from tlp_norec import Check, draw_check, run_check
from tree import Node, render

SCRIPTS_PER_ROUND = 60
CHECKS_PER_ROUND = 150
# Of differences that messages tell apart, as many are made smaller.
SHRUNK_PER_DETAIL = 1


@dataclass
class Finding:
    difference: Difference
    text: str
    seed: str
    count: int = 1


@dataclass
class Findings:
    by_signature: dict[str, Finding] = field(default_factory=dict)
    # Signatures to which differences with the same detail were shrunk.
    by_detail: dict[str, list[str]] = field(default_factory=dict)
    known: list[dict[str, str]] = field(default_factory=list)
    known_counts: Counter[str] = field(default_factory=Counter)

    def known_reason(self, text: str) -> str | None:
        return next(
            (k["reason"] for k in self.known if re.search(k["signature"], text, re.DOTALL)), None
        )

    def add(self, signature: str, finding: Finding) -> None:
        reason = self.known_reason(signature)
        if reason is not None:
            self.known_counts[reason] += 1
        elif signature in self.by_signature:
            self.by_signature[signature].count += 1
        else:
            self.by_signature[signature] = finding
            print(f"\n{signature}\n{finding.text}", flush=True)


def signature_of(difference: Difference, shaped: str) -> str:
    if difference.kind in ("refused", "accepted", "class", "internal", "types", "names"):
        return f"{difference.kind}: {difference.detail}"
    return f"{difference.kind} {difference.detail}: {shaped}"


def reproducer(case: Case, difference: Difference) -> str:
    lines = []
    for table in case.tables:
        lines += [table.create() + ";", *(statement + ";" for statement in table.insert())]
    for statement in case.script:
        sql, parameters = render(statement.tree)
        values = [list(parameter.values) for parameter in parameters]
        how = (
            f"  -- parameters, three times: {values}"
            if values
            else "  -- extended"
            if statement.extended
            else ""
        )
        lines.append(f"{sql};{how}")
    lines += [f"  PostgreSQL: {difference.postgres}", f"  Azimuth:    {difference.azimuth}"]
    return "\n".join("  " + line for line in lines)


class Runner:
    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        known = tomllib.loads(arguments.known.read_text()).get("known", [])
        self.findings = Findings(known=known)
        leave_out({call for entry in known for call in entry.get("leave_out", [])})
        self.classes: Counter[str] = Counter()
        self.checks: Counter[str] = Counter()
        if arguments.tlp:
            self.azimuth_alone = self.connect_azimuth("alone")
        if arguments.statements:
            self.azimuth = self.connect_azimuth("differential")
            self.azimuth_small = self.connect_azimuth("smaller")
            self.postgres = self.connect_postgres("differential")
            self.postgres_small = self.connect_postgres("smaller")

    def connect_azimuth(self, schema: str) -> Server:
        server = Server("Azimuth", self.arguments.azimuth, "azimuth")
        return enter(server, schema, schema)

    def connect_postgres(self, schema: str) -> Server:
        try:
            server = Server("PostgreSQL", self.arguments.postgres, "diff")
        except Lost:
            options = "TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'"
            Server("PostgreSQL", self.arguments.postgres, "postgres").must(
                f"CREATE DATABASE diff {options}"
            )
            server = Server("PostgreSQL", self.arguments.postgres, "diff")
        server.must("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
        return enter(server, schema, f"{schema}, public")

    # Both servers

    def differential(self) -> None:
        done, at = 0, 0
        while done < self.arguments.statements:
            rng = random.Random(f"{self.arguments.seed}:{at}")
            done += self.round(rng, f"{self.arguments.seed}:{at}")
            at += 1
            if at % 10 == 0:
                print(f"-- {done} statements, {dict(self.classes)}", file=sys.stderr, flush=True)

    def round(self, rng: random.Random, seed: str) -> int:
        tables = draw_tables(rng, [rng.randint(0, 12) for _ in range(rng.randint(2, 3))])
        self.load(tables)
        statements = Statements(rng, tables)
        done = 0
        for _ in range(SCRIPTS_PER_ROUND):
            case = Case(tuple(tables), tuple(statements.script()))
            done += len(case.script)
            writes = any(statement.writes for statement in case.script)
            run = run_script(self.postgres, self.azimuth, case)
            difference, at = run.difference, run.at
            self.classes[BOTH_REFUSE] += run.refused
            if difference is None:
                self.classes[AGREE] += len(case.script) - run.refused
                for table, answer in zip(tables, run.tables):
                    table.rows = [tuple(row) for row in answer.rows]
                continue
            self.classes[f"differ: {difference.kind}"] += 1
            self.classes[AGREE] += at - run.refused
            before = tuple(Table(t.name, t.columns, t.key, list(t.rows)) for t in tables)
            self.differ(Case(before, case.script[: at + 1]), difference, seed)
            if writes:
                self.load(tables)
        return done

    def load(self, tables: list[Table]) -> None:
        for server in (self.postgres, self.azimuth):
            load(server, tables)

    def differ(self, case: Case, difference: Difference, seed: str) -> None:
        detail = f"{difference.kind}: {difference.detail}"
        seen = self.findings.by_detail.setdefault(detail, [])
        by_message = difference.kind in ("refused", "accepted", "class", "types", "names")
        if by_message and len(seen) >= SHRUNK_PER_DETAIL:
            self.findings.add(seen[0], Finding(difference, "", seed))
            return
        if self.findings.known_reason(detail) is not None:
            self.findings.add(detail, Finding(difference, "", seed))
            return
        case, difference = shrink(self.postgres_small, self.azimuth_small, case, difference)
        signature = signature_of(difference, "; ".join(shape(s.tree) for s in case.script))
        seen.append(signature)
        text = f"  seed {seed}\n{reproducer(case, difference)}"
        self.findings.add(signature, Finding(difference, text, seed))

    # Azimuth alone

    def alone(self) -> None:
        done, at = 0, 0
        while done < self.arguments.tlp:
            seed = f"{self.arguments.seed}:alone:{at}"
            rng = random.Random(seed)
            counts = [rng.randint(0, 12) for _ in range(2)]
            if at % 16 == 15:
                # Enough rows for full chunks, which a checkpoint moves to segment files.
                counts = [4200, 8]
            tables = draw_tables(rng, counts)
            load(self.azimuth_alone, tables)
            if at % 2:
                for table in tables:
                    for column in table.columns:
                        if column.type == "vector":
                            on = f"{table.name} USING hnsw ({column.sql} vector_l2_ops)"
                            self.azimuth_alone.must(f"CREATE INDEX ON {on}")
            if counts[0] > 1000:
                self.azimuth_alone.must("CHECKPOINT")
            checks = CHECKS_PER_ROUND if counts[0] < 1000 else CHECKS_PER_ROUND // 6
            for _ in range(checks):
                check = draw_check(rng, tables)
                difference, outcome = run_check(self.azimuth_alone, check)
                self.checks[f"{'NoREC' if check.form == 'norec' else 'TLP'} {outcome}"] += 1
                if difference is not None:
                    self.broken(check, tables, difference, seed)
            done += checks
            at += 1
            if at % 2 == 0:
                print(f"-- {done} checks, {dict(self.checks)}", file=sys.stderr, flush=True)

    def broken(self, check: Check, tables: list[Table], difference: Difference, seed: str) -> None:
        found = difference
        detail = f"{difference.kind}: {difference.detail}"
        seen = self.findings.by_detail.setdefault(detail, [])
        if difference.kind == "internal" and (seen or self.findings.known_reason(detail)):
            self.findings.add(detail, Finding(difference, "", seed))
            return

        def shows(tree: Node) -> bool:
            nonlocal found
            other, _ = run_check(self.azimuth_alone, Check(check.form, tree))
            if other is not None and (other.kind, other.detail) == (
                difference.kind,
                difference.detail,
            ):
                found = other
                return True
            return False

        tree = shrink_tree(check.tree, shows)
        selection, source, predicate = tree.parts
        signature = (
            detail if found.kind == "internal" else f"{check.form} {found.kind}: {shape(tree)}"
        )
        seen.append(signature)
        used = [table for table in tables if table.name in str(source) + str(predicate)]
        rows = [
            "; ".join(t.insert()) if len(t.rows) < 50 else f"({len(t.rows)} rows)" for t in used
        ]
        setup = "\n".join(f"  {t.create()}; {some}" for t, some in zip(used, rows))
        text = (
            f"  seed {seed}\n{setup}\n"
            f"  {check.form} of {selection} FROM {source} WHERE {predicate}\n"
            f"  whole: {found.postgres}\n  parts: {found.azimuth}"
        )
        self.findings.add(signature, Finding(found, text, seed))

    def report(self) -> int:
        print(f"\nseed {self.arguments.seed}")
        for name, count in sorted(self.classes.items()) + sorted(self.checks.items()):
            print(f"{count:8} {name}")
        for reason, count in self.findings.known_counts.most_common():
            print(f"{count:8} known: {reason}")
        found = sorted(
            self.findings.by_signature.items(),
            key=lambda pair: (KINDS.index(pair[1].difference.kind), -pair[1].count),
        )
        print(f"{len(found)} distinct differences that are not known")
        for signature, finding in found:
            print(f"\n{finding.count} x {signature}\n{finding.text}")
        return 1 if found else 0


def enter(server: Server, schema: str, path: str) -> Server:
    server.must(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    server.must(f"SET search_path = {path}")
    server.schema = schema
    return server


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--azimuth", required=True)
    parser.add_argument("--postgres", default="127.0.0.1:5432")
    parser.add_argument("--statements", type=int, default=20000)
    parser.add_argument("--tlp", type=int, default=0)
    parser.add_argument("--seed", default="1")
    known = pathlib.Path(__file__).with_name("known.toml")
    parser.add_argument("--known", type=pathlib.Path, default=known)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    runner = Runner(arguments)
    started = time.monotonic()
    if arguments.statements:
        runner.differential()
    if arguments.tlp:
        runner.alone()
    code = runner.report()
    print(f"{time.monotonic() - started:.0f} seconds", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
