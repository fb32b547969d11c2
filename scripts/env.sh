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
    export RUSTC_WORKSPACE_WRAPPER=${RUSTC_WORKSPACE_WRAPPER:-$here/scripts/rustc}
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

# Whether there is a file of products here, or the one that makes a published set what it is.
has_catalogue_here() {
  local name
  for name in products. olist_products_dataset.csv item_properties_part1.csv movies.csv movies.dat u.item; do
    if compgen -G "$name*" >/dev/null; then return 0; fi
  done
  return 1
}

# Which catalogue a folder of source files (or none: the demo shop) is, and where its data lives:
# $source (a name), $files (the files with size and time: a changed one is imported again), $data.
source_and_data_of() {
  local folder=$1
  # What belongs to a catalogue in a database (indexes, policy) is not mixed with that of the file.
  local home=$here/data
  [ -z "${PENSTOCK_DATABASE_URL:-}" ] || home=$here/data/database
  if [ -z "$folder" ]; then
    source="the demo shop" files=""
    data=${PENSTOCK_DATA_DIR:-$home}
    return
  fi
  [ -d "$folder" ] || die "DATA=$folder: there is no such folder."
  folder=$(cd "$folder" && pwd)
  # From inside it: brackets in its own path are no pattern.
  (cd "$folder" && has_catalogue_here) ||
    die "DATA=$folder: no products file (products.csv, .csv.gz, .jsonl or .parquet) in it, and no published set" \
      "that penstock-control import knows. Events alone are no catalogue: there would be nothing to search."
  # shellcheck disable=SC2034  # read by the scripts that source this file
  source="the catalogue of $folder"
  # A folder need not have events, and has the files of one published set at most.
  # shellcheck disable=SC2034
  files=$(cd "$folder" && stat -L -c '%n %s %Y' products.* events.* olist_*.csv* product_category_*.csv* \
    item_properties_*.csv* category_tree.csv* movies.* ratings.* u.item* u.data* 2>/dev/null) || true
  # shellcheck disable=SC2034
  data=${PENSTOCK_DATA_DIR:-$home/catalogues/$(basename "$folder")}
}
