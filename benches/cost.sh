#!/usr/bin/env bash
# Measures what a fingerprint costs and rewrites the tables of docs/cost.md. Needs Rust, Python 3.10 or newer, 2 GB of
# disk and about half an hour.
#
#   benches/cost.sh            all sections
#   benches/cost.sh shapes     one of them, printed only: shapes, formats, lines, night, small, early, evidence
set -euo pipefail
root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
here="$root/tests/conformance"
die() { echo "cost: $*" >&2; exit 1; }
command -v cargo >/dev/null || die "cargo not found; install Rust"

# The Python client, as the conformance tests have it.
# shellcheck source=tests/venv.sh
. "$root/tests/venv.sh"
make_venv conformance HUBPRINT_VENV 10 "the clients"
export HUBPRINT_PYTHON="$venv/bin/python"

cd "$root"
cargo bench --bench cost -- "$@"
