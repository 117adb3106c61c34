#!/usr/bin/env bash
# Builds the fuzz targets with AddressSanitizer and runs each for a number of seconds: tests/fuzz/run.sh [seconds]
# Prints fuzz_executions for each. A crash is written into the current folder and ends the run with an error.
set -euo pipefail
seconds=${1:-60}
here=$(cd "$(dirname "$0")" && pwd)
target=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$here/../../target/fuzz}"
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing --cfg pactio_no_pool -Zsanitizer=address -Ccodegen-units=1"
# The plugin of the target `door`.
export PACTIO_FUZZ_PLUGINS=$CARGO_TARGET_DIR/door
mkdir -p "$PACTIO_FUZZ_PLUGINS"
cc -std=gnu11 -O1 -fPIC -shared -pthread -I"$here/../../sdk/include" "$here/../c/random.c" -o "$PACTIO_FUZZ_PLUGINS/librandom.so"
cargo +nightly build --quiet --locked --release --manifest-path "$here/Cargo.toml" --target "$target"
for name in trees errors manifests records urls archives blocks dumps containers maps patterns profiles mounts options answers nbd door; do
  corpus=$CARGO_TARGET_DIR/corpus/$name
  mkdir -p "$corpus"
  seeds=()
  [ ! -d "$here/seeds/$name" ] || seeds=("$here/seeds/$name")
  # Threads of the client free later than the round ends, which would look like a leak in each round.
  leaks=1
  case $name in answers | nbd | door) leaks=0 ;; esac
  # The headers of a dump of kdump take a few pages.
  longest=4096
  [ "$name" != dumps ] || longest=32768
  "$CARGO_TARGET_DIR/$target/release/$name" -detect_leaks="$leaks" -max_total_time="$seconds" -timeout=60 -rss_limit_mb=4096 -max_len="$longest" \
    -print_final_stats=1 "$corpus" "${seeds[@]}" 2>&1 |
    tee "$CARGO_TARGET_DIR/$name.log" | grep -aE "ERROR|SUMMARY|panicked|^ *(left|right):|^called|number_of_executed" |
    sed "s/stat::number_of_executed_units: */fuzz_executions $name=/"
done
