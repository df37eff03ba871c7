"""Types, values with their edges, tables and rows."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

BOOLEAN, SMALLINT, INTEGER, BIGINT = "boolean", "smallint", "integer", "bigint"
REAL, DOUBLE, TEXT, VARCHAR, BYTEA = "real", "double precision", "text", "varchar", "bytea"
DATE, TIMESTAMP, TIMESTAMPTZ = "date", "timestamp", "timestamptz"
INTERVAL, VECTOR = "interval", "vector"

COLUMN_TYPES = (
    BOOLEAN, SMALLINT, INTEGER, BIGINT, REAL, DOUBLE, TEXT, VARCHAR, BYTEA, DATE, TIMESTAMP,
    TIMESTAMPTZ, VECTOR,
)  # fmt: skip
INTEGERS = (SMALLINT, INTEGER, BIGINT)
FLOATS = (REAL, DOUBLE)
TEXTS = (TEXT, VARCHAR)
# Types that have an order; vectors have none that both servers share.
ORDERED = tuple(name for name in COLUMN_TYPES if name != VECTOR)
KEY_TYPES = (INTEGER, BIGINT, SMALLINT, TEXT, DATE, TIMESTAMP)

_SMALL = ["0", "1", "-1", "2", "3", "4", "5", "7", "-5", "10", "12", "100"]
_STAMPS = [
    "1970-01-01 00:00:00", "2024-02-29 12:34:56.789", "1999-12-31 23:59:59.999999",
    "2000-01-01 00:00:00", "2023-03-31 10:00:00", "1969-07-20 20:17:40.5", "2038-01-19 03:14:08",
]  # fmt: skip

VALUES: dict[str, list[str]] = {
    BOOLEAN: ["true", "false"],
    SMALLINT: [*_SMALL, "32767", "-32768"],
    INTEGER: [*_SMALL, "12345", "2147483647", "-2147483648"],
    BIGINT: [*_SMALL, "5000000000", "9223372036854775807", "-9223372036854775808"],
    REAL: ["0", "-0", "1", "-1", "0.5", "1.5", "-2.5", "0.1", "3.4e38", "1e-45", "NaN", "Infinity",
           "-Infinity", "16777217"],
    DOUBLE: ["0", "-0", "1", "-1", "0.5", "1.5", "2.5", "-2.5", "0.1", "3.141592653589793",
             "123456.789", "1e308", "-1e308", "5e-324", "NaN", "Infinity", "-Infinity", "1e15"],
    TEXT: ["", "a", "A", "b", "ab", "aB", "abc", "hello world", "Hello World-foo", "  pad ", "it's",
           '"q"', "é", "ÉCOLE", "日本語", "😀x", "%", "_", "a%b", "a_b", "\\", "a\\b", "123", "-45",
           "1.5", "true", "NULL", "2024-02-29", "a,b,,c", "\t", "x" * 40],
    BYTEA: ["\\x", "\\x00", "\\x00ff", "\\xdeadbeef", "\\x616263"],
    DATE: ["1970-01-01", "2024-02-29", "1999-12-31", "2000-01-01", "2023-03-31",
           "2026-11-23", "1900-01-01"],
    TIMESTAMP: _STAMPS,
    TIMESTAMPTZ: [f"{stamp}+00" for stamp in _STAMPS],
    INTERVAL: ["1 day", "-1 day", "1 month", "2 years", "1 hour", "90 minutes", "0 seconds",
               "1 month 1 day", "-3 hours", "0.5 seconds"],
    VECTOR: ["[0,0,0]", "[1,2,3]", "[1,1,1]", "[-1,0.5,2]", "[3,4,0]", "[100,-100,0.25]",
             "[0,0,1]", "[-1,-2,-3]"],
}  # fmt: skip
VALUES[VARCHAR] = VALUES[TEXT]

# Sums of these are exact in any order.
TAME = ["0", "0.25", "-0.25", "1", "1.5", "-2.5", "3", "10", "-7.75", "64"]

# Values that a type does not have, or only just.
FAULTS: dict[str, list[str]] = {
    BOOLEAN: ["maybe", ""],
    SMALLINT: ["32768", "x", "1.5", ""],
    INTEGER: ["2147483648", "x", "1.5", "", " 7 ", "1e3"],
    BIGINT: ["9223372036854775808", "x", "0x10"],
    REAL: ["1e39", "x", "1e-50"],
    DOUBLE: ["1e309", "x", "", "1e-400"],
    BYTEA: ["\\xzz", "\\x1", "a\\b"],
    DATE: [
        "0001-01-01",
        "9999-12-31",
        "2023-02-29",
        "2024-13-01",
        "infinity",
        "today-ish",
        "",
        "2024-1-2",
        "20240102",
    ],
    TIMESTAMP: [
        "0001-01-01 00:00:00",
        "2300-01-01 00:00:00",
        "2024-02-30 00:00:00",
        "2024-01-01 25:00:00",
        "-infinity",
        "2024-01-01T10:11:12Z",
    ],
    TIMESTAMPTZ: ["2024-01-01 10:00:00+25", "infinity", "2024-01-01 00:00:00 Europe/Nowhere"],
    VECTOR: ["[1,2]", "[NaN,0,0]", "[]", "1,2,3", "[1,2,1e39]"],
    INTERVAL: ["x", "1 fortnightly"],
}


def quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def literal(type_name: str, value: str | None, *, bare: bool = False) -> str:
    """A constant of exactly this type; `bare` leaves out the cast of a text."""
    if value is None:
        return f"NULL::{cast_name(type_name)}"
    if type_name == INTERVAL:
        return f"interval {quote(value)}"
    if type_name == BOOLEAN and value in VALUES[BOOLEAN]:
        return value
    if type_name == INTEGER and value.lstrip("-").isdigit() and abs(int(value)) < 2**31:
        return value if int(value) >= 0 else f"({value})"
    if bare and type_name in TEXTS:
        return quote(value)
    return f"{quote(value)}::{cast_name(type_name)}"


def cast_name(type_name: str) -> str:
    return "vector(3)" if type_name == VECTOR else type_name


def cell(type_name: str, value: str | None) -> str:
    """A value of a row that is loaded, in a form that leaves a server little to do."""
    if value is None:
        return "NULL"
    return (
        literal(type_name, value) if type_name in (DATE, TIMESTAMP, TIMESTAMPTZ) else quote(value)
    )


@dataclass(frozen=True)
class Column:
    """`sql` is how an expression names it. Sums of a tame one are exact in any order."""

    sql: str
    type: str
    tame: bool = False
    not_null: bool = False


Row = tuple[str | None, ...]


@dataclass
class Table:
    name: str
    columns: list[Column]
    key: list[Column]
    rows: list[Row]

    def create(self) -> str:
        lines = [
            f"{c.sql} {cast_name(c.type)}{' NOT NULL' if c.not_null else ''}" for c in self.columns
        ]
        key = ", ".join(c.sql for c in self.key)
        return f"CREATE TABLE {self.name} ({', '.join(lines)}, PRIMARY KEY ({key}))"

    def insert(self) -> list[str]:
        """The rows as statements."""
        statements = []
        for start in range(0, len(self.rows), 500):
            rows = [
                "(" + ", ".join(cell(c.type, v) for c, v in zip(self.columns, row)) + ")"
                for row in self.rows[start : start + 500]
            ]
            statements.append(f"INSERT INTO {self.name} VALUES {', '.join(rows)}")
        return statements


def draw(rng: Random, column: Column) -> str | None:
    if not column.not_null and rng.random() < 0.2:
        return None
    return rng.choice(TAME if column.tame else VALUES[column.type])


def draw_row(rng: Random, table: Table, taken: set[Row]) -> Row | None:
    """A row whose key is not taken yet; `None` when no such key was met."""
    for _ in range(20):
        row = tuple(draw(rng, column) for column in table.columns)
        key = tuple(row[table.columns.index(column)] for column in table.key)
        # The key of a zero is that of a negative zero, and of no zone another's.
        if key not in taken and None not in key:
            taken.add(key)
            return row
    return None


def draw_table(rng: Random, name: str, row_count: int) -> Table:
    composite = rng.random() < 0.3
    key = [Column("id", rng.choice(KEY_TYPES) if composite else INTEGER, not_null=True)]
    if composite:
        key.append(Column("part", rng.choice((INTEGER, TEXT, SMALLINT)), not_null=True))
    columns = list(key)
    chosen = rng.sample(COLUMN_TYPES, rng.randint(3, 7))
    # Numbers to compute with, and a text, are in every table.
    for at, type_name in enumerate([INTEGER, DOUBLE, TEXT, *chosen]):
        tame = type_name in FLOATS and rng.random() < 0.6
        columns.append(Column(f"c{at}", type_name, tame, rng.random() < 0.15))
    table = Table(name, columns, key, [])
    taken: set[Row] = set()
    for at in range(row_count):
        row = draw_row(rng, table, taken)
        if row is not None:
            table.rows.append(row)
        elif not composite:
            rest = tuple(draw(rng, column) for column in columns[1:])
            table.rows.append((str(1000 + at), *rest))
    return table


def draw_tables(rng: Random, row_counts: list[int]) -> list[Table]:
    return [draw_table(rng, f"t{at}", count) for at, count in enumerate(row_counts)]
