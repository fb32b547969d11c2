# shellcheck shell=bash
# Sourced by every script here, and by hand (`. scripts/env.sh`) when plain cargo is to share their cache.
#
# What cargo compiles on the way is kept outside the clone, so that a second clone does not compile
# FAISS and 550 crates again. What it ends in (the two binaries) stays in ./target of each clone, so
# that two clones never run each other's program. Crates of this workspace are compiled per clone.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if [ -z "${CARGO_TARGET_DIR:-}" ] && [ -z "${CARGO_BUILD_BUILD_DIR:-}" ]; then
  cache=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/penstock/target
  if mkdir -p "$cache" 2>/dev/null && [ -w "$cache" ]; then
    export CARGO_BUILD_BUILD_DIR=$cache
  fi
fi
# shellcheck disable=SC2034  # used by the scripts that source this file
target_dir=${CARGO_TARGET_DIR:-$here/target}
# shellcheck disable=SC2034
build_dir=${CARGO_BUILD_BUILD_DIR:-$target_dir}

# FAISS and the other C++ come back from ccache in seconds.
if command -v ccache >/dev/null 2>&1; then
  export CMAKE_C_COMPILER_LAUNCHER=${CMAKE_C_COMPILER_LAUNCHER:-ccache}
  export CMAKE_CXX_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER:-ccache}
fi

# One line per argument.
say() { printf '%s\n' "$@" >&2; }
die() {
  say "$@"
  exit 1
}
