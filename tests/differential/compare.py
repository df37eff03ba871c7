"""Whether two answers are the same, and if not, in what."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from server import FLOAT_TYPES, Answer, Row, shape_of_message
from statements import Statement

# Of real numbers, and of distances, which are computed in 32 bits; of double precision.
TOLERANCE = {"real": 2e-6, "double precision": 1e-9}
DISTANCE_TOLERANCE = 2e-6

# Azimuth has one zero, and no text of another.
SIGNED_ZERO = re.compile(r"(?<![\w.])-0(?![\w.])")

AGREE, BOTH_REFUSE = "agree", "same error class"
# Most serious first.
KINDS = [
    "lost",
    "internal",
    "rows",
    "table",
    "order",
    "count",
    "refused",
    "accepted",
    "class",
    "types",
    "names",
]


@dataclass(frozen=True)
class Difference:
    kind: str
    # What says that two differences are the same while a statement is made smaller.
    detail: str
    postgres: str = ""
    azimuth: str = ""


def as_number(text: str) -> float:
    return float(text)


def same_cell(a: str | None, b: str | None, tolerance: float) -> bool:
    if a == b:
        return True
    if a is None or b is None:
        return False
    if not tolerance:
        return SIGNED_ZERO.sub("0", a) == b
    x, y = as_number(a), as_number(b)
    if math.isnan(x) or math.isnan(y):
        return math.isnan(x) and math.isnan(y)
    return x == y or math.isclose(x, y, rel_tol=tolerance, abs_tol=tolerance * 1e-3)


def same_row(a: Row, b: Row, tolerances: list[float]) -> bool:
    return all(map(same_cell, a, b, tolerances))


def sort_key(row: Row, tolerances: list[float]) -> tuple:
    """Exact cells first, then numbers coarsely."""
    exact = [(v is not None, v or "") for v, t in zip(row, tolerances) if not t]
    coarse = [
        (v is not None, f"{as_number(v):.4e}" if v is not None else "")
        for v, t in zip(row, tolerances)
        if t
    ]
    return (exact, coarse)


def same_rows(a: list[Row], b: list[Row], tolerances: list[float]) -> bool:
    """Whether two answers have the same rows, in any order."""
    if len(a) != len(b):
        return False
    a = sorted(a, key=lambda row: sort_key(row, tolerances))
    b = sorted(b, key=lambda row: sort_key(row, tolerances))
    if all(same_row(x, y, tolerances) for x, y in zip(a, b)):
        return True
    # Numbers may have been rounded to different sides.
    rest = list(b)
    for row in a:
        at = next((at for at, other in enumerate(rest) if same_row(row, other, tolerances)), None)
        if at is None:
            return False
        rest.pop(at)
    return True


def tolerances_of(postgres: Answer, azimuth: Answer, statement: str) -> list[float]:
    distances = any(
        name in statement
        for name in ("<->", "<#>", "<=>", "<+>", "_distance", "_norm", "inner_product")
    )
    tolerances = []
    for types in zip(postgres.types, azimuth.types):
        if not FLOAT_TYPES.issuperset(types) and not (
            FLOAT_TYPES & set(types) and {"integer", "bigint"} & set(types)
        ):
            tolerances.append(0.0)
        elif "real" in types or distances:
            tolerances.append(TOLERANCE["real"])
        else:
            tolerances.append(TOLERANCE["double precision"])
    return tolerances


def compare(statement: Statement, postgres: Answer, azimuth: Answer) -> Difference | None:
    def differ(kind: str, detail: str) -> Difference:
        return Difference(kind, detail, postgres.brief(), azimuth.brief())

    if azimuth.state.startswith("XX"):
        return differ("internal", shape_of_message(azimuth.message))
    if postgres.state or azimuth.state:
        if postgres.state[:2] == azimuth.state[:2]:
            return None
        pair = f"{postgres.state or 'rows'} / {azimuth.state or 'rows'}"
        if not postgres.state:
            return differ("refused", f"{pair}: {shape_of_message(azimuth.message)}")
        if not azimuth.state:
            return differ("accepted", f"{pair}: {shape_of_message(postgres.message)}")
        if not statement.coded:
            return None
        messages = f"{shape_of_message(postgres.message)} / {shape_of_message(azimuth.message)}"
        return differ("class", f"{pair}: {messages}")
    if len(postgres.types) != len(azimuth.types):
        return differ("rows", "number of columns")
    tolerances = tolerances_of(postgres, azimuth, str(statement))
    if not same_rows(postgres.rows, azimuth.rows, tolerances):
        counts = "number of rows" if len(postgres.rows) != len(azimuth.rows) else "values"
        return differ("rows", counts)
    if statement.ordered and not all(
        same_row(a, b, tolerances) for a, b in zip(postgres.rows, azimuth.rows)
    ):
        return differ("order", "")
    if postgres.tag != azimuth.tag:
        return differ("count", f"{postgres.tag.split(' ')[0]} / {azimuth.tag.split(' ')[0]}")
    if postgres.types != azimuth.types:
        pairs = [f"{a} / {b}" for a, b in zip(postgres.types, azimuth.types) if a != b]
        what = "parameter " if postgres.tag == "PARAMETERS" else ""
        return differ("types", what + pairs[0])
    if postgres.names != azimuth.names:
        first = next(a for a, b in zip(postgres.names, azimuth.names) if a != b)
        return Difference("names", first, str(postgres.names), str(azimuth.names))
    return None
