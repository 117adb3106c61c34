#!/usr/bin/env bash
# Plants each known mistake in the packet core and shows that a loom model turns red.
# Fails if the models are red without a mistake, or if a mistake survives.
set -euo pipefail
cd "$(dirname "$0")/.."
export RUSTFLAGS="--cfg pactio_loom ${RUSTFLAGS:-}" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/loom" RUST_BACKTRACE=0
cargo test --quiet --release -p pactio-sdk --lib --no-run

# Runs the models, but for the largest; prints those that failed, or the one that ended the process.
red() {
  { timeout 600 cargo test --release -p pactio-sdk --lib models:: -- --test-threads 1 --skip three_completers --skip cancellation_against_two 2>/dev/null || true; } |
    sed -n 's/^test [a-z:]*models::\([a-z_]*\) \.\.\. *\(.*\)/\1 \2/p' |
    awk '$2 != "ok" { printf "%s ", $1 }'
}

if [ -n "$(red)" ]; then
  echo "the models are red without a mutant: $(red)" >&2
  exit 1
fi
caught=0 survived=0
for mutant in $(tr -d '\n ' <<<"$(cat sdk/src/packet/*.rs sdk/src/device/*.rs sdk/src/io/*.rs)" | grep -o 'mutant!("[a-z_]*"' | cut -d'"' -f2 | sort -u); do
  models=$(PACTIO_MUTANT=$mutant red)
  if [ -z "$models" ]; then
    echo "SURVIVED $mutant"
    survived=$((survived + 1))
  else
    echo "caught $mutant: $models"
    caught=$((caught + 1))
  fi
done
echo "mutants_caught=$caught"
echo "mutants_survived=$survived"
[ "$survived" = 0 ]
