#!/usr/bin/env bash
# Builds the command and all plugins, and puts them, with completions and manual pages, below a prefix: ./install.sh [PREFIX]
# The prefix is ~/.local by default. The command finds the plugins there without configuration.
# `./install.sh --uninstall [PREFIX]` takes away what this has put there.
set -euo pipefail

usage() {
  sed -n '2,4s/^# //p' "$0"
}

uninstall=
case "${1:-}" in
-h | --help)
  usage
  exit
  ;;
--uninstall)
  uninstall=1
  shift
  ;;
-*)
  echo "install.sh: unknown option '$1'" >&2
  usage >&2
  exit 2
  ;;
esac
prefix=${1:-${HOME:?there is no home folder, so name a prefix}/.local}
case $prefix in /*) ;; *) prefix=$PWD/$prefix ;; esac
cd "$(dirname "$0")"

completions=(
  "bash share/bash-completion/completions/pactio"
  "zsh share/zsh/site-functions/_pactio"
  "fish share/fish/vendor_completions.d/pactio.fish"
)
# Each plugin is a library that programs can link in, and a small crate that makes the file which hosts load.
manifests=$(ls plugins/*/cdylib/Cargo.toml)
plugins=$(sed -n 's/^name = "\(pactio_[a-z_]*\)"$/\1/p' $manifests)

if [ -n "$uninstall" ]; then
  rm -f "$prefix/bin/pactio"
  for name in $plugins; do rm -f "$prefix/lib/pactio/plugins/lib$name.so"; done
  for completion in "${completions[@]}"; do rm -f "$prefix/${completion#* }"; done
  rm -f "$prefix"/share/man/man1/pactio.1 "$prefix"/share/man/man1/pactio-*.1
  for name in $plugins; do rm -f "$prefix/share/man/man7/${name//_/-}.7"; done
  rm -f "$prefix"/include/pactio/{plugin.h,plugin.hpp,pactio.zig} "$prefix/lib/pkgconfig/pactio-plugin.pc"
  rmdir "$prefix/include/pactio" 2>/dev/null || true
  rmdir "$prefix/lib/pactio/plugins" "$prefix/lib/pactio" 2>/dev/null || true
  echo "removed pactio from $prefix"
  exit
fi

packages=(-p pactio-command)
for manifest in $manifests; do
  packages+=(-p "$(sed -n 's/^name = "\(pactio-plugin-[a-z-]*\)"$/\1/p' "$manifest")")
done
cargo build --release --locked "${packages[@]}"
built=${CARGO_TARGET_DIR:-target}/release

# A file that is in use is replaced by a new one and not written over: mapped libraries stay what they are.
install -D -m 755 "$built/pactio" "$prefix/bin/pactio"
for name in $plugins; do
  install -D -m 644 "$built/lib$name.so" "$prefix/lib/pactio/plugins/lib$name.so"
done
for completion in "${completions[@]}"; do
  read -r shell path <<<"$completion"
  mkdir -p "$(dirname "$prefix/$path")"
  "$built/pactio" completions "$shell" >"$prefix/$path"
done
# For plugins in C, C++ and Zig.
for header in plugin.h plugin.hpp pactio.zig; do
  install -D -m 644 "sdk/include/pactio/$header" "$prefix/include/pactio/$header"
done
install -D -m 644 sdk/include/pactio-plugin.pc "$prefix/lib/pkgconfig/pactio-plugin.pc"
# A page for each subcommand, and for each of these plugins.
"$prefix/bin/pactio" --no-default-plugin-paths --plugin-path "$prefix/lib/pactio/plugins" man "$prefix/share/man"

"$prefix/bin/pactio" plugins
case :$PATH: in
*:"$prefix/bin":*) ;;
*) echo "note: $prefix/bin is not in PATH" ;;
esac
