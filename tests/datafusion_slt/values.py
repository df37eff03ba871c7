"""Writes a value that came as PostgreSQL's text the way DataFusion's runner writes it."""

from __future__ import annotations

import math
import re
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

from psycopg.postgres import types as _registry

BOOL, BYTEA, CHAR, INT8, INT2, INT4, TEXT = 16, 17, 18, 20, 21, 23, 25
FLOAT4, FLOAT8, UNKNOWN, BPCHAR, VARCHAR = 700, 701, 705, 1042, 1043
DATE, TIME, TIMESTAMP, TIMESTAMPTZ, INTERVAL, NUMERIC = 1082, 1083, 1114, 1184, 1186, 1700

_STRINGS = {TEXT, BPCHAR, VARCHAR, UNKNOWN}
_LETTERS = {
    BOOL: "B", INT2: "I", INT4: "I", INT8: "I", TEXT: "T", BPCHAR: "T", VARCHAR: "T", UNKNOWN: "T",
    FLOAT4: "R", FLOAT8: "R", NUMERIC: "R", DATE: "D", TIME: "D", TIMESTAMP: "P", TIMESTAMPTZ: "P",
}  # fmt: skip
_ELEMENT = {info.array_oid: info.oid for info in _registry if info.array_oid}
_WIDE = Context(prec=400)
_PLACES = Decimal(1).scaleb(-12)


def letter(oid: int) -> str:
    """The letter that sqllogictest has for a type; `?` for what it has none for."""
    return _LETTERS.get(oid, "?")


def plain(number: str, places: int | None = 12) -> str:
    """A number without exponent and without zeros at its end, rounded as the runner rounds."""
    try:
        value = Decimal(number)
    except InvalidOperation:
        return number
    if not value.is_finite():
        return "NaN" if value.is_nan() else ("-Infinity" if value < 0 else "Infinity")
    if places is not None and -value.as_tuple().exponent > places:
        value = value.quantize(_PLACES, ROUND_HALF_EVEN, _WIDE)
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def cell(oid: int, text: str | None, nested: bool = False) -> str:
    if text is None:
        return "NULL"
    if oid in _ELEMENT:
        return _list(text, _ELEMENT[oid])
    if oid == BOOL:
        return {"t": "true", "f": "false"}.get(text, text)
    if oid in (FLOAT4, FLOAT8):
        return _nested_float(text) if nested else plain(text)
    if oid == NUMERIC:
        return text if nested else plain(text, None)
    if oid == BYTEA:
        return text.removeprefix("\\x")
    if oid == TIME:
        return _fraction(text)
    if oid == TIMESTAMP:
        return _fraction(text.replace(" ", "T", 1))
    if oid == TIMESTAMPTZ:
        return _zone(_fraction(text.replace(" ", "T", 1)))
    if oid == INTERVAL:
        return _interval(text)
    if oid in _STRINGS and not nested:
        return text.rstrip("\n") if text else "(empty)"
    return text


def rows(oids: list[int], found: list[list[str | None]], plans: bool) -> list[list[str]]:
    """Cells of all rows; a last cell of several lines becomes a row for each, as the runner of
    DataFusion has it for plans."""
    written = []
    for row in found:
        cells = [cell(oid, text) for oid, text in zip(oids, row)]
        last = cells[-1].split("\n") if cells and plans else []
        if len(last) < 2:
            written.append(cells)
            continue
        written.append(cells[:-1])
        for number, line in enumerate(last, 1):
            content = line.lstrip()
            written.append([f"{number:02})" + "-" * (len(line) - len(content)) + content])
    return written


def same_numbers(expected: str, actual: str) -> bool:
    """Whether two lines are the same when their numbers are rounded to twelve places."""
    ours, theirs = actual.split(" "), expected.split(" ")
    return len(ours) == len(theirs) and all(
        a == b or (_number(a) and _number(b) and plain(a) == plain(b)) for a, b in zip(ours, theirs)
    )


def _number(text: str) -> bool:
    return bool(re.fullmatch(r"-?\d+(\.\d+)?(e[+-]?\d+)?", text))


def _nested_float(text: str) -> str:
    value = float(text)
    if math.isnan(value) or math.isinf(value):
        return "NaN" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    written = plain(text, None)
    return written if "." in written else written + ".0"


def _fraction(text: str) -> str:
    """A fraction of a second in three, six or nine digits."""
    found = re.search(r"\.(\d+)", text)
    if not found:
        return text
    digits = found[1].rstrip("0")
    digits = digits.ljust(-(-len(digits) // 3) * 3, "0")
    return text[: found.start()] + ("." + digits if digits else "") + text[found.end() :]


def _zone(text: str) -> str:
    found = re.search(r"([+-]\d\d)(:\d\d)?$", text)
    if not found:
        return text
    zone = found[1] + (found[2] or ":00")
    return text[: found.start()] + ("Z" if zone == "+00:00" else zone)


def _interval(text: str) -> str:
    months = days = 0
    for count, unit in re.findall(r"([+-]?\d+) (year|mon|day)s?", text):
        if unit == "day":
            days += int(count)
        else:
            months += int(count) * (12 if unit == "year" else 1)
    parts = [f"{months} mons"] if months else []
    parts += [f"{days} days"] if days else []
    clock = re.search(r"([+-]?)(\d+):(\d\d):(\d\d)(\.\d+)?$", text)
    if clock:
        sign = clock[1].replace("+", "")
        hours, minutes, seconds = (int(clock[part]) for part in (2, 3, 4))
        parts += [f"{sign}{hours} hours"] if hours else []
        parts += [f"{sign}{minutes} mins"] if minutes else []
        fraction = (clock[5] or ".")[1:].ljust(9, "0")
        if seconds or int(fraction):
            parts.append(f"{sign}{seconds}.{fraction} secs")
    return " ".join(parts) or "0 secs"


def _list(text: str, element: int) -> str:
    at = text.find("{")  # bounds may come before it
    if at < 0:
        return text
    written, _ = _list_from(text, at, element)
    return written


def _list_from(text: str, at: int, element: int) -> tuple[str, int]:
    items: list[str] = []
    at += 1
    while at < len(text) and text[at] != "}":
        if text[at] == "{":
            item, at = _list_from(text, at, element)
            items.append(item)
        elif text[at] == '"':
            quoted, at = [], at + 1
            while at < len(text) and text[at] != '"':
                at += text[at] == "\\"
                quoted.append(text[at])
                at += 1
            at += 1
            items.append(cell(element, "".join(quoted), nested=True))
        else:
            end = at
            while end < len(text) and text[end] not in ",}":
                end += 1
            word, at = text[at:end], end
            items.append("NULL" if word == "NULL" else cell(element, word, nested=True))
        at += at < len(text) and text[at] == ","
    return "[" + ", ".join(items) + "]", at + 1
