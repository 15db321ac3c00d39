#!/usr/bin/env bash
# Runs the Python conformance suite against a built hubprint binary.
#
#   tests/conformance/run.sh target/debug/hubprint [PYTEST ARGS...]
#
# The virtual environment is kept in ${HUBPRINT_VENV:-target/conformance-venv} (relative to the
# repository's root) and installed again only when the requirement files or the Python change.
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"
root="$(cd -- "$here/../.." && pwd -P)"
die() { echo "conformance: $*" >&2; exit 2; }

[ $# -ge 1 ] || die "usage: run.sh HUBPRINT_BINARY [PYTEST ARGS...]"
[ -f "$1" ] && [ -x "$1" ] || die "no executable at '$1'; build it first: cargo build"
binary="$(cd -- "$(dirname -- "$1")" && pwd -P)/$(basename -- "$1")"
shift

command -v git >/dev/null || die "git is needed (olah reads a local repository with it)"
# shellcheck source=tests/venv.sh
. "$root/tests/venv.sh"
make_venv conformance HUBPRINT_VENV 10 "the clients"

export PYTHONDONTWRITEBYTECODE=1
cd -- "$here"
exec "$venv/bin/python" -m pytest --rootdir "$here" -p no:cacheprovider -ra \
    "--hubprint=$binary" "$@" </dev/null
