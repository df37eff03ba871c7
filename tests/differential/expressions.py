"""Expressions of a given type over the columns in scope.

An expression that can fail on some row is only made where `faults` is set: where an expression is
evaluated, and in which order, is not the same in two servers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from schema import (
    BIGINT,
    BOOLEAN,
    BYTEA,
    COLUMN_TYPES,
    DATE,
    DOUBLE,
    FAULTS,
    FLOATS,
    INTEGER,
    INTEGERS,
    INTERVAL,
    ORDERED,
    REAL,
    SMALLINT,
    TAME,
    TEXT,
    TEXTS,
    TIMESTAMP,
    TIMESTAMPTZ,
    VALUES,
    VARCHAR,
    VECTOR,
    Column,
    cast_name,
    literal,
    quote,
)  # fmt: skip
from tree import Node, Parameter, items, node

# Arguments that are no types: a small count, a length, a position from one on, a pattern, a text
# that is not empty, a tame number, a number of at most 16 bits.
COUNT, LENGTH, PLACE, PATTERN, SOME_TEXT, TAME_NUMBER, SHORT = (
    "#count",
    "#length",
    "#place",
    "#pattern",
    "#text",
    "#tame",
    "#short",
)

PATTERNS = ["%", "_", "a%", "%b", "%a%", "A_", "a\\%b", "%\\_%", "", "%é%", "hello%d", "__%", "abc"]
COMPARISONS = ["=", "<>", "<", "<=", ">", ">="]
FIELDS = ["year", "month", "day", "hour", "minute", "second", "dow", "doy", "quarter", "week",
          "epoch", "isodow", "isoyear", "century", "decade", "millennium",
          "milliseconds"]  # fmt: skip
TRUNC_FIELDS = [
    "year",
    "month",
    "day",
    "hour",
    "minute",
    "second",
    "week",
    "quarter",
    "century",
    "decade",
]
DISTANCES = ["<->", "<#>", "<=>", "<+>"]

Signature = tuple[str, str, tuple[str, ...]]

# Result, template, arguments. These do not fail, whatever the arguments.
TOTAL: list[Signature] = [
    (TEXT, "lower({})", (TEXT,)),
    (TEXT, "upper({})", (TEXT,)),
    (TEXT, "initcap({})", (TEXT,)),
    (TEXT, "reverse({})", (TEXT,)),
    (TEXT, "trim({})", (TEXT,)),
    (TEXT, "ltrim({})", (TEXT,)),
    (TEXT, "rtrim({}, {})", (TEXT, TEXT)),
    (TEXT, "btrim({}, {})", (TEXT, TEXT)),
    (TEXT, "trim(both {} from {})", (SOME_TEXT, TEXT)),
    (TEXT, "trim(leading {} from {})", (SOME_TEXT, TEXT)),
    (TEXT, "substr({}, {})", (TEXT, COUNT)),
    (TEXT, "substr({}, {}, {})", (TEXT, COUNT, PLACE)),
    (TEXT, "substring({} from {} for {})", (TEXT, COUNT, PLACE)),
    (TEXT, "left({}, {})", (TEXT, COUNT)),
    (TEXT, "right({}, {})", (TEXT, COUNT)),
    (TEXT, "lpad({}, {})", (TEXT, LENGTH)),
    (TEXT, "lpad({}, {}, {})", (TEXT, LENGTH, TEXT)),
    (TEXT, "rpad({}, {}, {})", (TEXT, LENGTH, TEXT)),
    (TEXT, "repeat({}, {})", (TEXT, LENGTH)),
    (TEXT, "replace({}, {}, {})", (TEXT, TEXT, TEXT)),
    (TEXT, "translate({}, {}, {})", (TEXT, TEXT, TEXT)),
    (TEXT, "split_part({}, {}, {})", (TEXT, TEXT, PLACE)),
    (TEXT, "({} || {})", (TEXT, TEXT)),
    (TEXT, "({} || {})", (TEXT, INTEGER)),
    (TEXT, "({} || {})", (VARCHAR, TEXT)),
    (TEXT, "concat({}, {})", (TEXT, INTEGER)),
    (TEXT, "concat({}, {}, {})", (TEXT, BOOLEAN, DOUBLE)),
    (TEXT, "concat_ws({}, {}, {})", (TEXT, TEXT, TEXT)),
    (TEXT, "md5({})", (TEXT,)),
    (INTEGER, "length({})", (TEXT,)),
    (INTEGER, "char_length({})", (TEXT,)),
    (INTEGER, "octet_length({})", (TEXT,)),
    (INTEGER, "bit_length({})", (TEXT,)),
    (INTEGER, "length({})", (BYTEA,)),
    (INTEGER, "strpos({}, {})", (TEXT, TEXT)),
    (INTEGER, "position({} in {})", (TEXT, TEXT)),
    (INTEGER, "ascii({})", (TEXT,)),
    (INTEGER, "({} + {})", (SHORT, SHORT)),
    (INTEGER, "({} - {})", (SHORT, SHORT)),
    (INTEGER, "({} * {})", (SHORT, SHORT)),
    (INTEGER, "({} / 7)", (INTEGER,)),
    (INTEGER, "({} % 5)", (INTEGER,)),
    (INTEGER, "mod({}, 3)", (INTEGER,)),
    (INTEGER, "abs({})", (SHORT,)),
    (INTEGER, "(- {})", (SHORT,)),
    (INTEGER, "({}::date - {}::date)", (DATE, DATE)),
    (INTEGER, "vector_dims({})", (VECTOR,)),
    (SMALLINT, "({} / 3::smallint)", (SMALLINT,)),
    (BIGINT, "({}::bigint + {})", (INTEGER, INTEGER)),
    (BIGINT, "({}::bigint * {}::bigint)", (SHORT, INTEGER)),
    (BIGINT, "({} % 1000)", (BIGINT,)),
    (DOUBLE, "({} + {})", (TAME_NUMBER, TAME_NUMBER)),
    (DOUBLE, "({} - {})", (TAME_NUMBER, TAME_NUMBER)),
    (DOUBLE, "({} * {})", (TAME_NUMBER, TAME_NUMBER)),
    (DOUBLE, "(- {})", (DOUBLE,)),
    (DOUBLE, "({} / 4)", (DOUBLE,)),
    (DOUBLE, "abs({})", (DOUBLE,)),
    (DOUBLE, "ceil({})", (DOUBLE,)),
    (DOUBLE, "floor({})", (DOUBLE,)),
    (DOUBLE, "round({})", (DOUBLE,)),
    (DOUBLE, "trunc({})", (DOUBLE,)),
    (DOUBLE, "sign({})", (DOUBLE,)),
    (DOUBLE, "sqrt(abs({}))", (DOUBLE,)),
    (DOUBLE, "exp({})", (TAME_NUMBER,)),
    (DOUBLE, "cbrt({})", (DOUBLE,)),
    (DOUBLE, "atan({})", (DOUBLE,)),
    (DOUBLE, "degrees({})", (TAME_NUMBER,)),
    (DOUBLE, "vector_norm({})", (VECTOR,)),
    (REAL, "abs({})", (REAL,)),
    (REAL, "(- {})", (REAL,)),
    (BOOLEAN, "starts_with({}, {})", (TEXT, TEXT)),
    (BOOLEAN, "({} LIKE {})", (TEXT, TEXT)),
    (BOOLEAN, "({} > {})", (INTERVAL, INTERVAL)),
    (BOOLEAN, "({} IS DISTINCT FROM {})", (INTERVAL, INTERVAL)),
    (DATE, "({} + {})", (DATE, COUNT)),
    (DATE, "({} - {})", (DATE, PLACE)),
    (DATE, "{}::date", (TIMESTAMP,)),
    (TIMESTAMP, "({} + {})", (DATE, INTERVAL)),
    (TIMESTAMP, "({} + {})", (TIMESTAMP, INTERVAL)),
    (TIMESTAMP, "({} - {})", (TIMESTAMP, INTERVAL)),
    (TIMESTAMPTZ, "({} + {})", (TIMESTAMPTZ, INTERVAL)),
    (INTERVAL, "({} - {})", (TIMESTAMP, TIMESTAMP)),
    (INTERVAL, "({} + {})", (INTERVAL, INTERVAL)),
    (INTERVAL, "({} * 2)", (INTERVAL,)),
    (INTERVAL, "(- {})", (INTERVAL,)),
    *[(DOUBLE, f"extract({name} from {{}})::double precision", (TIMESTAMP,)) for name in FIELDS],
    (DOUBLE, "extract(year from {})::double precision", (DATE,)),
    (DOUBLE, "extract(epoch from {})::double precision", (TIMESTAMPTZ,)),
    (DOUBLE, "date_part('month', {})", (TIMESTAMP,)),
    (DOUBLE, "extract(day from {})::double precision", (INTERVAL,)),
    *[(TIMESTAMP, f"date_trunc('{name}', {{}})", (TIMESTAMP,)) for name in TRUNC_FIELDS],
    (TIMESTAMPTZ, "date_trunc('day', {})", (TIMESTAMPTZ,)),
    *[(DOUBLE, f"({{}} {name} {{}})", (VECTOR, VECTOR)) for name in DISTANCES],
    (DOUBLE, "l2_distance({}, {})", (VECTOR, VECTOR)),
    (DOUBLE, "inner_product({}, {})", (VECTOR, VECTOR)),
    # Casts that every value has.
    (TEXT, "{}::text", (INTEGER,)),
    (TEXT, "{}::text", (BOOLEAN,)),
    (TEXT, "{}::text", (DOUBLE,)),
    (TEXT, "{}::text", (REAL,)),
    (TEXT, "{}::text", (DATE,)),
    (TEXT, "{}::text", (TIMESTAMP,)),
    (TEXT, "{}::text", (TIMESTAMPTZ,)),
    (TEXT, "{}::text", (BYTEA,)),
    (TEXT, "{}::text", (INTERVAL,)),
    (TEXT, "{}::text", (VARCHAR,)),
    (VARCHAR, "{}::varchar", (TEXT,)),
    (INTEGER, "{}::integer", (BOOLEAN,)),
    (INTEGER, "{}::integer", (SMALLINT,)),
    (INTEGER, "{}::integer", (TAME_NUMBER,)),
    (BIGINT, "{}::bigint", (INTEGER,)),
    (DOUBLE, "{}::double precision", (REAL,)),
    (DOUBLE, "{}::double precision", (BIGINT,)),
    (REAL, "{}::real", (SMALLINT,)),
    (BOOLEAN, "{}::boolean", (INTEGER,)),
    (DATE, "{}::date", (TIMESTAMPTZ,)),
    (TIMESTAMP, "{}::timestamp", (DATE,)),
    (TIMESTAMP, "{}::timestamp", (TIMESTAMPTZ,)),
    (TIMESTAMPTZ, "{}::timestamptz", (TIMESTAMP,)),
]

# These fail for some arguments.
PARTIAL: list[Signature] = [
    *[(name, f"({{}} {op} {{}})", (name, name)) for name in INTEGERS for op in "+-*/%"],
    *[(name, f"({{}} {op} {{}})", (name, name)) for name in FLOATS for op in "+-*/"],
    *[(name, "abs({})", (name,)) for name in INTEGERS],
    *[(name, "(- {})", (name,)) for name in INTEGERS],
    (BIGINT, "({} + {})", (BIGINT, INTEGER)),
    (DOUBLE, "({} * {})", (INTEGER, DOUBLE)),
    (DOUBLE, "({} / {})", (DOUBLE, INTEGER)),
    (DOUBLE, "({} + {})", (REAL, DOUBLE)),
    (INTEGER, "mod({}, {})", (INTEGER, INTEGER)),
    (DOUBLE, "sqrt({})", (DOUBLE,)),
    (DOUBLE, "ln({})", (DOUBLE,)),
    (DOUBLE, "log({})", (DOUBLE,)),
    (DOUBLE, "exp({})", (DOUBLE,)),
    (DOUBLE, "power({}, {})", (DOUBLE, DOUBLE)),
    (DOUBLE, "asin({})", (DOUBLE,)),
    (TEXT, "chr({})", (INTEGER,)),
    (TEXT, "substr({}, {}, {})", (TEXT, COUNT, COUNT)),
    (TEXT, "split_part({}, {}, {})", (TEXT, TEXT, COUNT)),
    (INTEGER, "{}::integer", (TEXT,)),
    (SMALLINT, "{}::smallint", (INTEGER,)),
    (INTEGER, "{}::integer", (BIGINT,)),
    (INTEGER, "{}::integer", (DOUBLE,)),
    (BIGINT, "{}::bigint", (DOUBLE,)),
    (SMALLINT, "{}::smallint", (REAL,)),
    (REAL, "{}::real", (DOUBLE,)),
    (DOUBLE, "{}::double precision", (TEXT,)),
    (BOOLEAN, "{}::boolean", (TEXT,)),
    (DATE, "{}::date", (TEXT,)),
    (TIMESTAMP, "{}::timestamp", (TEXT,)),
    (DATE, "({} + {})", (DATE, INTEGER)),
    (TIMESTAMP, "({} + {} * {})", (TIMESTAMP, INTEGER, INTERVAL)),
    (VECTOR, "{}::vector(3)", (TEXT,)),
]


LEFT_OUT: set[str] = set()


def leave_out(calls: set[str]) -> None:
    """Takes functions and operators out of what is generated, `concat(text, integer)` for example.

    Other forms have names of their own; `LEFT_OUT` is asked for those where they are made.
    """
    LEFT_OUT.update(calls)
    for table in (TOTAL, PARTIAL):
        table[:] = [one for one in table if one[1].format(*one[2]) not in calls]


Subquery = Callable[["Expressions", str], Node | None]


@dataclass
class Scope:
    """The columns that can be named, and those of them that tell rows apart, if any do."""

    columns: list[Column]
    key: list[Column] = field(default_factory=list)

    def of(self, type_name: str) -> list[Column]:
        return [column for column in self.columns if column.type == type_name]


@dataclass
class Expressions:
    rng: Random
    scope: Scope
    faults: bool = False
    parameters: bool = False
    # Makes a predicate, or a scalar subquery of a type, over other tables.
    subquery: Subquery | None = None
    # Whether values of columns are texts that get their type from the column; either when `None`.
    quoted: bool | None = None

    def leaf(self, type_name: str) -> Node:
        columns = self.scope.of(type_name)
        if columns and self.rng.random() < 0.7:
            return Node(type_name, (self.rng.choice(columns).sql,))
        return self.constant(type_name)

    def value(self, type_name: str) -> str | None:
        return None if self.rng.random() < 0.08 else self.rng.choice(VALUES[type_name])

    def constant(self, type_name: str) -> Node:
        if self.parameters and type_name != INTERVAL and self.rng.random() < 0.3:
            cast = f"{{}}::{cast_name(type_name)}"
            return node(type_name, cast, self.parameter(type_name))
        value = self.value(type_name)
        bare = value is not None and self.rng.random() < 0.7
        return Node(type_name, (literal(type_name, value, bare=bare),))

    def parameter(self, type_name: str) -> Parameter:
        return Parameter(tuple(self.value(type_name) for _ in range(3)))

    def operand(self, type_name: str) -> Node:
        """A constant beside an expression of the type, which may get its type from there."""
        if self.parameters and self.rng.random() < 0.5:
            return node(type_name, "{}", self.parameter(type_name))
        if self.rng.random() < 0.3 and f"untyped {type_name}" not in LEFT_OUT:
            if self.faults and self.rng.random() < 0.15 and type_name in FAULTS:
                return Node(type_name, (quote(self.rng.choice(FAULTS[type_name])),))
            return Node(type_name, (quote(self.rng.choice(VALUES[type_name])),))
        return self.constant(type_name)

    def make(self, type_name: str, depth: int) -> Node:
        if type_name == BOOLEAN:
            return self.predicate(depth)
        if depth <= 0 or self.rng.random() < 0.25:
            return self.leaf(type_name)
        choice = self.rng.random()
        if choice < 0.12:
            return self.conditional(type_name, depth - 1)
        if choice < 0.16 and self.subquery is not None:
            scalar = self.subquery(self, type_name)
            if scalar is not None:
                return scalar
        table = TOTAL + PARTIAL if self.faults else TOTAL
        signatures = [signature for signature in table if signature[0] == type_name]
        if not signatures:
            return self.conditional(type_name, depth - 1)
        return self.call(self.rng.choice(signatures), depth - 1)

    def call(self, signature: Signature, depth: int) -> Node:
        result, template, arguments = signature
        return node(result, template, *(self.argument(name, depth) for name in arguments))

    def argument(self, name: str, depth: int) -> Node:
        rng = self.rng
        if name == COUNT:
            return Node(
                "count", (rng.choice(["0", "1", "2", "3", "5", "9", "(-1)", "(-2)", "(-100)"]),)
            )
        if name == LENGTH:
            lengths = ["0", "1", "3", "6", "9", "20"]
            return Node(
                "length", (rng.choice(lengths + ["(-1)"] * ("negative length" not in LEFT_OUT)),)
            )
        if name == PLACE:
            return Node("place", (str(rng.randint(1, 5)),))
        if name == PATTERN:
            return Node("pattern", (quote(rng.choice(PATTERNS)),))
        if name == SOME_TEXT:
            return Node(TEXT, (quote(rng.choice(["a", "x", "é", "-", "ab", "l"])),))
        if name == TAME_NUMBER:
            return self.tame()
        if name == SHORT:
            short = self.leaf(SMALLINT)
            return node(INTEGER, "{}::integer", short)
        return self.make(name, depth)

    def tame(self) -> Node:
        """A number of which sums are exact in any order."""
        tame = [column.sql for column in self.scope.columns if column.tame]
        if tame and self.rng.random() < 0.8:
            return Node(DOUBLE, (f"{self.rng.choice(tame)}::double precision",))
        return Node(DOUBLE, (literal(DOUBLE, self.rng.choice(TAME)),))

    def conditional(self, type_name: str, depth: int) -> Node:
        """Forms that evaluate some of their arguments; those do not fail."""
        rng = self.rng
        safe = Expressions(rng, self.scope, False, self.parameters, self.subquery)
        make = lambda: safe.make(type_name, depth)  # noqa: E731
        choice = rng.random()
        if self.faults and choice < 0.2 and type_name == INTEGER:
            divisor = safe.leaf(INTEGER)
            return node(type_name, "CASE WHEN {} <> 0 THEN 100 / {} END", divisor, divisor)
        if choice < 0.25:
            return node(type_name, "coalesce({}, {})", make(), make())
        if choice < 0.4 and type_name != VECTOR:
            return node(type_name, "nullif({}, {})", make(), make())
        if choice < 0.65 and type_name not in (VECTOR, INTERVAL):
            name = rng.choice(["greatest", "least"])
            return node(type_name, name + "({}, {}, {})", make(), make(), make())
        if choice < 0.85:
            condition = safe.predicate(depth)
            return node(type_name, "CASE WHEN {} THEN {} ELSE {} END", condition, make(), make())
        subject = rng.choice([INTEGER, TEXT, BOOLEAN])
        return node(
            type_name,
            "CASE {} WHEN {} THEN {} WHEN {} THEN {} END",
            safe.leaf(subject), safe.operand(subject), make(), safe.constant(subject), make(),
        )  # fmt: skip

    def predicate(self, depth: int) -> Node:
        rng = self.rng
        if depth <= 0:
            return self.leaf(BOOLEAN) if rng.random() < 0.2 else self.comparison(0)
        choice = rng.random()
        if choice < 0.25:
            safe = Expressions(rng, self.scope, False, self.parameters, self.subquery)
            word = rng.choice(["AND", "OR"])
            sides = safe.predicate(depth - 1), safe.predicate(depth - 1)
            return node(BOOLEAN, f"({{}} {word} {{}})", *sides)
        if choice < 0.35:
            return node(BOOLEAN, "(NOT {})", self.predicate(depth - 1))
        if choice < 0.42:
            word = rng.choice(
                ["IS TRUE", "IS NOT TRUE", "IS FALSE", "IS NOT FALSE", "IS NULL", "IS UNKNOWN"]
            )
            return node(BOOLEAN, f"({{}} {word})", self.predicate(depth - 1))
        if choice < 0.52 and self.subquery is not None:
            found = self.subquery(self, BOOLEAN)
            if found is not None:
                return found
        if choice < 0.57:
            return self.conditional(BOOLEAN, depth - 1)
        if choice < 0.62:
            signatures = [s for s in TOTAL + PARTIAL * self.faults if s[0] == BOOLEAN]
            return self.call(rng.choice(signatures), depth - 1)
        return self.comparison(depth - 1)

    def comparison(self, depth: int) -> Node:
        rng = self.rng
        choice = rng.random()
        if choice < 0.12:
            type_name = rng.choice(COLUMN_TYPES)
            word = rng.choice(["IS NULL", "IS NOT NULL"])
            return node(BOOLEAN, f"({{}} {word})", self.make(type_name, depth))
        if choice < 0.22:
            negation, word = rng.choice(["", "NOT "]), rng.choice(["LIKE", "ILIKE"])
            subject = self.make(rng.choice(TEXTS), depth)
            return node(
                BOOLEAN, f"({{}} {negation}{word} {{}})", subject, self.argument(PATTERN, 0)
            )
        if choice < 0.32:
            type_name = rng.choice(ORDERED)
            word = rng.choice(["IS DISTINCT FROM", "IS NOT DISTINCT FROM"])
            return node(
                BOOLEAN,
                f"({{}} {word} {{}})",
                self.make(type_name, depth),
                self.make(type_name, depth),
            )
        type_name = rng.choice(
            [column.type for column in self.scope.columns if column.type in ORDERED] or ORDERED
        )
        if type_name == BOOLEAN:
            subject = self.leaf(BOOLEAN)
        else:
            subject = self.make(type_name, depth)
        if choice < 0.42:
            negation = rng.choice(["", "NOT "])
            return node(
                BOOLEAN,
                f"({{}} {negation}BETWEEN {{}} AND {{}})",
                subject,
                self.operand(type_name),
                self.operand(type_name),
            )
        if choice < 0.54:
            negation = rng.choice(["", "NOT "])
            members = [self.operand(type_name) for _ in range(rng.randint(1, 4))]
            return node(BOOLEAN, f"({{}} {negation}IN ({{}}))", subject, items(members))
        operator = rng.choice(COMPARISONS)
        if choice < 0.7:
            return node(BOOLEAN, f"({{}} {operator} {{}})", subject, self.operand(type_name))
        if choice < 0.76:
            for group in (INTEGERS + FLOATS, TEXTS, (DATE, TIMESTAMP, TIMESTAMPTZ)):
                if type_name in group:
                    type_name = rng.choice(group)
        other = self.leaf(BOOLEAN) if type_name == BOOLEAN else self.make(type_name, depth)
        return node(BOOLEAN, f"({{}} {operator} {{}})", subject, other)

    def assignment(self, column: Column, depth: int) -> Node:
        """A value for a column, with a fault now and then."""
        rng = self.rng
        if column.tame:
            value = rng.choice(TAME)
            return Node(
                column.type, (quote(value) if self.quoted else literal(column.type, value),)
            )
        if self.faults and rng.random() < 0.1 and column.type in FAULTS:
            return Node(column.type, (quote(rng.choice(FAULTS[column.type])),))
        if rng.random() < 0.5:
            value = self.value(column.type)
            if column.not_null and value is None and rng.random() < 0.8:
                value = rng.choice(VALUES[column.type])
            if self.parameters and rng.random() < 0.6:
                return node(column.type, "{}", Parameter((value, value, self.value(column.type))))
            vector = column.type == VECTOR and "typed vector in VALUES" in LEFT_OUT
            if vector or self.quoted if self.quoted is not None else rng.random() < 0.5:
                return Node(column.type, ("NULL" if value is None else quote(value),))
            return Node(column.type, (literal(column.type, value),))
        if self.quoted or column.type == VECTOR and "typed vector in VALUES" in LEFT_OUT:
            return Node(column.type, (quote(rng.choice(VALUES[column.type])),))
        return self.make(column.type, depth)
