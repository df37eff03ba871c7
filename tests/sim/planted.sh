#!/usr/bin/env bash
# Puts every bug of tests/sim/planted into a copy of the tree, one at a time, and runs the storage
# tests: each must be found. Prints what found it and how long that took.
#
#   tests/sim/planted.sh [NAME...]
set -euo pipefail
cd "$(dirname "$0")/../.."
root="$PWD"
# Not the tree's own: cargo would take what was built with a bug in it for fresh there.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}/planted"
copy="$(mktemp -d)"
trap 'git worktree remove --force "$copy/tree"; rm -rf "$copy"' EXIT
git worktree add -q --detach "$copy/tree" HEAD
missed=0
for patch in tests/sim/planted/*.patch; do
    name="$(basename "$patch" .patch)"
    if [ "$#" -gt 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
    (cd "$copy/tree" && git checkout -q . && git apply "$root/$patch")
    log="$copy/$name.log"
    (cd "$copy/tree" && cargo build -q --tests -p storage >"$log" 2>&1) || { cat "$log"; exit 2; }
    start="$(date +%s)"
    if (cd "$copy/tree" && timeout 600 cargo test -p storage --no-fail-fast >"$log" 2>&1); then
        missed=$((missed + 1))
        printf '%-40s NOT FOUND\n' "$name"
        continue
    fi
    seconds=$(($(date +%s) - start))
    found="$(grep -c '\.\.\. FAILED' "$log" || true)"
    # The smallest number that a failing test names is how many seeds or crash points it took.
    first="$(grep -A2 'panicked at' "$log" | grep -oE '(seed|crash after|sync) [0-9]+' | sort -u -k1,1 -k2,2n | paste -sd, || true)"
    test_name="$(grep -oE '^test .* \.\.\. FAILED' "$log" | head -1 | sed 's/^test //; s/ \.\.\. FAILED//')"
    printf '%-40s %2d tests, %3d s: %s%s\n' "$name" "$found" "$seconds" "$test_name" "${first:+ ($first)}"
done
[ "$missed" -eq 0 ]
