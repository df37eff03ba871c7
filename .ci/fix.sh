#!/usr/bin/env bash
# Writes what tools can write: formatting and mechanical lint fixes.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo fmt --all
cargo clippy --fix --allow-dirty --workspace --all-targets
