#!/usr/bin/env bash
# What is too long for every change: crash tests at the size of a release, and measurements on real
# data, in release builds.
#
#   .ci/slow.sh DIR      DIR holds scifact/ and wordnet/ as benches/versus/README.md describes
#
# Power cuts need root, for loop mounts, and are left out without it. With POSTGRES=HOST:PORT of a
# PostgreSQL 16 with pgvector, statements are compared with it (tests/differential); with
# DATAFUSION_FILES=DIR DataFusion's own tests are run, with their tables in DIR/data
# (tests/datafusion_slt); with
# CLIENTS_DIR=DIR the clients' tests (tests/clients).
set -euo pipefail
cd "$(dirname "$0")/.."
data="${1:?usage: .ci/slow.sh DIR}"
python="${PYTHON:-python3}"
AZIMUTH_GATE=1 cargo test --locked -p storage --test crash -- --nocapture
tests/sim/planted.sh
AZIMUTH_KILLS=500 cargo test --locked -p tests --test it crash:: -- --nocapture
cargo build --release --locked -p server -p benches
target="${CARGO_TARGET_DIR:-target}/release"
if [ "$(id -u)" -eq 0 ]; then
    "$python" tests/sim/power_cut.py --azimuth "$target/azimuth" --cuts 200
else
    echo "power cuts left out: not root"
fi
"$python" tests/sim/vacuum_readers.py --azimuth "$target/azimuth" --seconds 600
"$python" tests/sim/larger_than_memory.py --azimuth "$target/azimuth"
for quantization in sq8 polar4; do
    "$python" tests/sim/churn.py --azimuth "$target/azimuth" --quantization "$quantization"
done
"$python" benches/recall/declared.py --azimuth "$target/azimuth" \
    --data "$data/wordnet/embeddings.f16.npy"
"$python" benches/versus/selectivity.py --azimuth "$target/azimuth" --data "$data/wordnet"
"$python" benches/versus/index_memory.py --azimuth "$target/azimuth" --rows 1000000 --dim 128
"$python" benches/versus/index_memory.py --azimuth "$target/azimuth" --rows 300000 --dim 384
"$python" benches/versus/engine_versus.py --data "$data/wordnet" --engine "$target/engine-hnsw" \
    --out "$target/engine-versus.json"
"$target/engine-hnsw" "$data/wordnet/embeddings.f16.npy" "$data/wordnet/queries.npy" \
    build_threads=2 > "$target/engine-hnsw.json"
"$python" benches/versus/hnsw_versus.py --data "$data/wordnet" --azimuth "$target/azimuth" \
    --user azimuth --dbname azimuth --engine-json "$target/engine-hnsw.json" \
    --out "$target/versus.json"
directory="$(mktemp -d)"
"$target/azimuth" serve --data "$directory" --pg 127.0.0.1:5439 &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
"$python" benches/recall/scifact.py --data "$data/scifact" --port 5439
if [ -n "${POSTGRES:-}" ]; then
    for seed in 1 2 3 4 5; do
        "$python" tests/differential/run.py --azimuth 127.0.0.1:5439 --postgres "$POSTGRES" \
            --statements 4000 --seed "$seed" --tlp 4000
    done
fi
if [ -n "${DATAFUSION_FILES:-}" ]; then
    "$python" tests/datafusion_slt/run.py --files "$DATAFUSION_FILES" \
        --data "$DATAFUSION_FILES/data" --skip 'spark/*' --server 127.0.0.1:5439
fi
if [ -n "${CLIENTS_DIR:-}" ]; then
    tests/clients/run.sh 127.0.0.1:5439
fi
cargo bench --locked -p benches --bench kernels
cargo bench --locked -p benches --bench codes
cargo bench --locked -p benches --bench quantization_comparison
cargo bench --locked -p benches --bench storage
