#!/usr/bin/env bash
# Keeps the sdk, and the plugin `memory` with it, as they are at HEAD: tests/frozen/abi-MAJOR.MINOR.tar.gz.
# The test `frozen` builds that plugin for ever and loads it into the host of the day. Run this when the version of the ABI
# has changed on purpose; a file that is there stays as it is.
set -euo pipefail
cd "$(dirname "$0")/../.."
version() { sed -n "s/^pub const ABI_$1: u16 = \([0-9]*\);/\1/p" sdk/src/abi/entry.rs; }
file=$PWD/tests/frozen/abi-$(version MAJOR).$(version MINOR).tar.gz
[ ! -e "$file" ] || { echo "$file is frozen" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
git archive HEAD Cargo.toml Cargo.lock sdk plugins/memory | tar -x -C "$folder"
rm -r "$folder/sdk/tests"
sed -i '/^exclude = \|^default-members = \|^# What people use/d; s|^members = .*|members = ["sdk", "plugins/memory", "plugins/memory/cdylib"]|' "$folder/Cargo.toml"
sed -i '/^\[\[test\]\]/,/^$/d; /^\[dev-dependencies\]/,/^$/d' "$folder/sdk/Cargo.toml"
# The lock file of what is left.
cargo metadata --format-version 1 --manifest-path "$folder/Cargo.toml" >/dev/null
tar -C "$folder" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -c . | gzip -n9 >"$file"
ls -l "$file"
