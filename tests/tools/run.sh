#!/usr/bin/env bash
# Opens the database in other tools: runs the queries of docs/database.md on the demo database, reads every file, and
# checks a publication.
#
#   tests/tools/run.sh HUBPRINT_BINARY
#
# The virtual environment is kept in ${HUBPRINT_TOOLS_VENV:-target/tools-venv} (relative to the repository's root).
# DOCUMENT names another text than docs/database.md; ANSWERS=print prints what the queries answer.
# Exit code 1: something is wrong; 2: something could not be checked, for want of a tool.
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"
root="$(cd -- "$here/../.." && pwd -P)"
die() { echo "tools: $*" >&2; exit 2; }

binary="${1:-$root/target/debug/hubprint}"
[ -f "$binary" ] && [ -x "$binary" ] || die "no executable at '$binary'; build it first: cargo build"
binary="$(cd -- "$(dirname -- "$binary")" && pwd -P)/$(basename -- "$binary")"
document="${DOCUMENT:-$root/docs/database.md}"
[ -f "$document" ] || die "no document at '$document'"

# shellcheck source=tests/venv.sh
. "$root/tests/venv.sh"
make_venv tools HUBPRINT_TOOLS_VENV 11 "DuckDB, pandas, polars, networkx and datasets" --only-binary :all:

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
said() { "$@" > "$scratch/said" 2>&1 || { sed 's/^/        /' "$scratch/said" >&2; die "'$*' failed"; }; }

# No setting of this machine, and nothing from the network: the demo Hub is on loopback, the rest on disk.
export HOME="$scratch/home" HUBPRINT_CACHE="" HF_HUB_OFFLINE=1 HF_HOME="$scratch/home/hf" HF_DATASETS_CACHE="$scratch/datasets"
export PYTHONDONTWRITEBYTECODE=1 NO_COLOR=1
unset HF_TOKEN HF_ENDPOINT HUBPRINT_DB HUBPRINT_SIGNING_KEY
mkdir -p "$HOME"

# demo.toml with its places moved; the Hub is a copy, because a second night changes it. No held-back model is scanned.
cp -r "$root/data/demo-hub" "$scratch/hub"
sed -e '/^\[scan\]/,$d' -e 's#^path = .*#path = "db"#' -e 's#^serve = .*#serve = "hub"#' \
    "$root/pipelines/demo.toml" > "$scratch/demo.toml"
(
    # Settings of the crawl alone: HF_HUB_OFFLINE would forbid it.
    unset HF_HUB_OFFLINE
    said "$binary" run "$scratch/demo.toml"
    for form in parquet csv graphml; do
        said "$binary" db export --db "$scratch/db" --out "$scratch/edges.$form"
    done
    said "$binary" db keygen "$scratch/key"
    said "$binary" publish --db "$scratch/db" --to "$scratch/published" --key "$scratch/key" --yes
    # A night that ends early leaves a list of what waits.
    sed 's#^path = "db"#path = "partly"#' "$scratch/demo.toml" > "$scratch/partly.toml"
    printf '\n[budget]\nmax_requests = 20\n' >> "$scratch/partly.toml"
    code=0
    "$binary" run "$scratch/partly.toml" > "$scratch/said" 2>&1 || code=$?
    [ "$code" -le 1 ] || { sed 's/^/        /' "$scratch/said" >&2; die "a run with a budget ended with $code"; }
    # The next night: one repository has gone, and has a new row that says so.
    cp -r "$scratch/db" "$scratch/later"
    rm -r "$scratch/hub/models/codewren/wren-gpt2"
    sed 's#^path = "db"#path = "later"#' "$scratch/demo.toml" > "$scratch/later.toml"
    said "$binary" run "$scratch/later.toml"
    "$binary" db info --db "$scratch/later" --json > "$scratch/later.json"
)

"$venv/bin/python" "$here/check.py" --document "$document" --scratch "$scratch" \
    --truth "$root/data/demo-hub/truth.json"
