#!/usr/bin/env python3
"""How build time and cost per query of our HNSW engine grow with the number of rows.

The method is described in README.md next to this file.
"""

import argparse
import json
import math
import pathlib
import subprocess
import tempfile

import numpy as np

import engine_versus
from engine_versus import REPOSITORY, QUERIES, SEED, at_recall, table
from hnsw_versus import machine, say

DIM = 128
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
TARGETS = (0.95, 0.99)


def run(args, paths, sweep):
    """What the engine's binary says of one build and a sweep."""
    options = {"distance": args.distance, "quantization": args.quantization}
    options |= {"build_threads": args.threads, "seconds": args.seconds}
    options["ef"] = ",".join(map(str, sweep))
    command = [args.engine, *map(str, paths), *(f"{k}={v}" for k, v in options.items())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def distances_at(points, target):
    """Distances computed at a recall, linear in it between two points of the sweep."""
    points = sorted(points, key=lambda p: p["recall"])
    recalls, distances = zip(*((p["recall"], p["distances"]) for p in points))
    return float(np.interp(target, recalls, distances))


def slope(rows, values):
    """Growth for each tenfold number of rows, by least squares, and the exponent of a power law."""
    logs = np.log10(rows)
    factor = 10 ** np.polyfit(logs, np.log10(values), 1)[0]
    linear = np.polyfit(logs, values, 1)
    fitted = np.polyval(linear, logs)
    residual = 1 - np.sum((values - fitted) ** 2) / np.sum((values - np.mean(values)) ** 2)
    return {"tenfold": factor, "exponent": math.log10(factor), "per_decade": linear[0],
            "r2_of_log": residual}


def plot(path, rows, lines):
    """Microseconds per query and per row built over rows, both axes logarithmic, as SVG."""
    width, height, left, bottom = 640, 360, 60, 40
    values = [value for _, line in lines for value in line]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    first, last = math.log10(rows[0]), math.log10(rows[-1])

    def point(row, value):
        x = left + (math.log10(row) - first) / (last - first) * (width - left - 150)
        y = 20 + (high - math.log10(value)) / (high - low) * (height - bottom - 20)
        return f"{x:.1f}", f"{y:.1f}"

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
           'font-family="sans-serif" font-size="11">']
    for power in range(low, high + 1):
        _, y = point(rows[0], 10**power)
        out.append(f'<path d="M{left} {y}H{width - 150}" stroke="#ccc"/>'
                   f'<text x="{left - 6}" y="{y}" text-anchor="end">{10**power:g} µs</text>')
    for row in rows:
        x, _ = point(row, 10**low)
        out.append(f'<text x="{x}" y="{height - 20}" text-anchor="middle">{row:,}</text>')
    for (name, line), colour in zip(lines, ("#1b6", "#06c", "#c30")):
        points = " ".join(",".join(point(*pair)) for pair in zip(rows, line))
        x, y = point(rows[-1], line[-1])
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>'
                   f'<text x="{float(x) + 6}" y="{y}" fill="{colour}">{name}</text>')
    path.write_text("\n".join([*out, "</svg>"]) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--engine", default=str(REPOSITORY / "target/release/engine-hnsw"), help="our binary")
    add("--distance", default="l2")
    add("--quantization", default="sq8")
    add("--threads", type=int, default=2, help="that build")
    add("--seconds", type=float, default=0.5, help="of each timing, at least")
    add("--sizes", type=lambda text: [int(n) for n in text.split(",")], default=list(SIZES))
    add("--plot", type=pathlib.Path, help="an SVG file to write")
    args = parser.parse_args()
    m = machine(args.threads)
    print(f"{m['model']}, {m['cores_used']} of {m['cores']} cores; {DIM} dimensions, "
          f"{args.distance}, {args.quantization}, seed {SEED}, {QUERIES} queries\n")
    base, queries = engine_versus.clusters(max(args.sizes), DIM)
    rows, cells = [], []
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
        paths = pathlib.Path(folder) / "rows.npy", pathlib.Path(folder) / "queries.npy"
        np.save(paths[1], queries)
        for size in sorted(args.sizes):
            np.save(paths[0], base[:size])
            say(f"{size} rows")
            report = run(args, paths, [10, 16, 24, 32, 48, 64, 96, 128, 192, 256])
            micros = [1e6 / at_recall(report["points"], target)["qps"] for target in TARGETS]
            compared = [distances_at(report["points"], target) for target in TARGETS]
            rows.append((size, micros, 1e6 * report["build_seconds"] / size, compared))
            cells.append([f"{size:,}", *(f"{m:.1f}" for m in micros), *(f"{c:.0f}" for c in compared),
                          f"{report['build_seconds']:.1f}", f"{rows[-1][2]:.1f}"])
    head = ["rows", *(f"µs/query at {t}" for t in TARGETS)]
    head += [*(f"distances at {t}" for t in TARGETS), "build s", "build µs/row"]
    print("\n".join(table(head, cells)) + "\n")
    sizes = [size for size, *_ in rows]
    lines = [(f"query at {t}", [micros[at] for _, micros, *_ in rows])
             for at, t in enumerate(TARGETS)]
    lines.append(("build, per row", [built for _, _, built, _ in rows]))
    compared = [(f"distances at {t}", [row[3][at] for row in rows]) for at, t in enumerate(TARGETS)]
    for name, values in lines + compared:
        s = slope(sizes, np.array(values))
        print(f"{name}: x {s['tenfold']:.2f} for ten times the rows (rows^{s['exponent']:.2f}); "
              f"{s['per_decade']:+.1f} a decade, R2 of a line over log(rows) {s['r2_of_log']:.2f}")
    if args.plot:
        plot(args.plot, sizes, lines)


if __name__ == "__main__":
    main()
