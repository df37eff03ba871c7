#!/usr/bin/env bash
# Everything that must hold of every commit. Reads only.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_INCREMENTAL="${CARGO_INCREMENTAL:-0}"
run() { echo "== $*"; "$@"; }
run cargo fmt --all --check
run cargo test --locked -p tidy
run cargo clippy --locked --workspace --all-targets -- -D warnings
run cargo test --locked --workspace --exclude tidy
RUSTDOCFLAGS="-D warnings" run cargo doc --locked --workspace --no-deps --document-private-items
