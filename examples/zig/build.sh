#!/bin/sh
# Builds libsquares.so. ZIG is the compiler, also that of the Python package `ziglang`: ZIG="python3 -m ziglang" ./build.sh
set -eu
cd "$(dirname "$0")"
# shellcheck disable=SC2086 # a command with arguments
${ZIG:-zig} build-lib -dynamic -O ReleaseSafe --name squares --dep pactio -Mroot=squares.zig \
  -Mpactio="${PACTIO_ZIG:-../../sdk/include/pactio/pactio.zig}"
