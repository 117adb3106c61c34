#!/usr/bin/env bash
# Plants each known mistake in the packet core and in the host, and shows that a loom model turns red.
# Fails if the models are red without a mistake, or if a mistake survives.
set -euo pipefail
cd "$(dirname "$0")/.."
export RUSTFLAGS="--cfg pactio_loom ${RUSTFLAGS:-}" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/loom" RUST_BACKTRACE=0

# The test program of a package.
program() {
  cargo test --quiet --release --locked -p "$1" --lib --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1
}

# Runs the models of a program with a mutant; prints the first that failed, or that ended the process. The others are not needed.
red() {
  local name result output
  exec {output}< <(exec env PACTIO_MUTANT="$2" timeout 600 "$1" models:: --test-threads 1 \
    --skip three_completers --skip cancellation_against_two 2>/dev/null)
  local models=$!
  # The line of a model that ended the process has no end.
  while read -r name result || [ -n "$name" ]; do
    if [ "$result" != ok ]; then
      echo "$name"
      kill "$models" 2>/dev/null || true
      break
    fi
  done < <(sed -un 's/^test [a-z_:]*models::\([a-z_]*\) \.\.\. *\(.*\)/\1 \2/p' <&"$output")
  exec {output}<&-
}

# One mutant: prints whether it was caught.
try() {
  models=$(red "$1" "$2")
  if [ -z "$models" ]; then echo "SURVIVED $2"; else echo "caught $2: $models"; fi
}
export -f red try

# The mutants of some files.
mutants() {
  cat "$@" | tr -d '\n ' | grep -o 'mutant!("[a-z_]*"' | cut -d'"' -f2 | sort -u
}

sdk=$(program pactio-sdk) host=$(program pactio)
# The gate has just run them.
for program in ${PACTIO_MODELS_ARE_GREEN:-"$sdk" "$host"}; do
  [ -x "$program" ] || break
  if [ -n "$(red "$program" none)" ]; then
    echo "the models are red without a mutant: $(red "$program" none)" >&2
    exit 1
  fi
done
results=$({
  mutants sdk/src/packet/*.rs sdk/src/abi/*.rs sdk/src/device/*.rs sdk/src/io/*.rs | sed "s|^|$sdk |"
  mutants host/src/executor/*.rs host/src/device/*.rs | sed "s|^|$host |"
} | xargs -P "$(nproc)" -L 1 bash -c 'try "$0" "$1"' | tee >(cat >&2))
caught=$(grep -c '^caught' <<<"$results" || true) survived=$(grep -c '^SURVIVED' <<<"$results" || true)
echo "mutants_caught=$caught"
echo "mutants_survived=$survived"
[ "$survived" = 0 ]
