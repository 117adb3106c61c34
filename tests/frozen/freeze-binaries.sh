#!/usr/bin/env bash
# Keeps binaries of plugins as this version of the ABI makes them: tests/frozen/abi-MAJOR.MINOR/*.so.gz. They are never rebuilt; the
# test `plugins_that_were_built_before_pass` of `pactio-command` runs each against the conformance suite. Run this when a new minor
# version is released; files that are there stay as they are. Needs gcc, g++, and a stable and a nightly Rust.
set -euo pipefail
cd "$(dirname "$0")/../.."
version() { sed -n "s/^pub const ABI_$1: u16 = \([0-9]*\);/\1/p" sdk/src/abi/entry.rs; }
target=$PWD/tests/frozen/abi-$(version MAJOR).$(version MINOR)
[ ! -e "$target" ] || { echo "$target is frozen" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
mkdir "$target"
keep() {
  strip "$1"
  gzip -9nc "$1" >"$target/$2.so.gz"
}
export CARGO_PROFILE_RELEASE_LTO=fat CARGO_PROFILE_RELEASE_OPT_LEVEL=s
cargo +stable build --release --locked -p pactio-template-backend --target-dir "$folder/stable"
keep "$folder/stable/release/libtemplate_backend.so" rust-stable-backend
cargo +nightly build --release --locked -p pactio-template-filter --target-dir "$folder/nightly"
keep "$folder/nightly/release/libtemplate_filter.so" rust-nightly-filter
gcc -std=gnu11 -O0 -fPIC -shared -pthread -Isdk/include examples/c/ramp.c -o "$folder/ramp.so"
keep "$folder/ramp.so" c-O0-backend
gcc -std=gnu11 -O3 -fPIC -shared -pthread -Isdk/include examples/c/invert.c -o "$folder/invert.so"
keep "$folder/invert.so" c-O3-filter
g++ -std=c++17 -O2 -fPIC -shared -pthread -Isdk/include examples/cpp/later.cpp -o "$folder/later.so"
keep "$folder/later.so" cpp-backend
ls -l "$target"
