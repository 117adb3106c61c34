#!/bin/sh
# Builds libsquares.so, in this folder or in PACTIO_ZIG_OUT. ZIG is the compiler, also that of the Python package `ziglang`:
# ZIG="python3 -m ziglang" ./build.sh
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "${PACTIO_ZIG_OUT:-$here}"
# shellcheck disable=SC2086 # a command with arguments
command -v ${ZIG:-zig} >/dev/null || { echo "there is no zig: set ZIG to the compiler, such as ZIG=\"python3 -m ziglang\"" >&2; exit 1; }
# shellcheck disable=SC2086 # a command with arguments
${ZIG:-zig} build-lib -dynamic -O ReleaseSafe --name squares --cache-dir .zig-cache --dep pactio -Mroot="$here/squares.zig" \
  -Mpactio="${PACTIO_ZIG:-$here/../../sdk/include/pactio/pactio.zig}"
