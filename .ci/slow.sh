#!/usr/bin/env bash
# What is too long for every change: measurements on real data, in release builds.
#
#   .ci/slow.sh DIR      DIR holds scifact/ and wordnet/ as benches/versus/README.md describes
set -euo pipefail
cd "$(dirname "$0")/.."
data="${1:?usage: .ci/slow.sh DIR}"
python="${PYTHON:-python3}"
cargo build --release --locked -p server -p benches
target="${CARGO_TARGET_DIR:-target}/release"
"$target/engine-hnsw" "$data/wordnet" > "$target/engine-hnsw.json"
"$python" benches/versus/hnsw_versus.py --data "$data/wordnet" --azimuth "$target/azimuth" \
    --user azimuth --dbname azimuth --engine-json "$target/engine-hnsw.json" \
    --out "$target/versus.json"
directory="$(mktemp -d)"
"$target/azimuth" serve --data "$directory" --pg 127.0.0.1:5439 &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
"$python" benches/recall/scifact.py --data "$data/scifact" --port 5439
cargo bench --locked -p benches --bench kernels
