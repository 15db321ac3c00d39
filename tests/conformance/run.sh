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

python="${PYTHON:-python3}"
command -v "$python" >/dev/null || die "'$python' not found; Python 3.10 or newer is needed (set PYTHON to choose one)"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
    || die "Python 3.10 or newer is needed, '$python' is $("$python" -V 2>&1) (set PYTHON to choose another)"
command -v git >/dev/null || die "git is needed (olah reads a local repository with it)"

venv="${HUBPRINT_VENV:-target/conformance-venv}"
case "$venv" in /*) ;; *) venv="$root/$venv" ;; esac

want="$({ "$python" -VV; cat "$here/requirements.txt" "$here/constraints.txt"; } | sha256sum | cut -d' ' -f1)"
have="$(cat "$venv/conformance.sha256" 2>/dev/null || true)"
if [ "$want" != "$have" ]; then
    if [ -e "$venv" ] && [ ! -f "$venv/pyvenv.cfg" ]; then
        die "'$venv' exists and is not a virtual environment; set HUBPRINT_VENV to another place"
    fi
    echo "conformance: installing the clients into $venv" >&2
    mkdir -p "$(dirname -- "$venv")"
    "$python" -m venv --clear "$venv" \
        || die "could not create a virtual environment (on Debian: apt-get install python3-venv)"
    "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
        -r "$here/requirements.txt" || die "could not install the requirements"
    echo "$want" > "$venv/conformance.sha256"
fi

export PYTHONDONTWRITEBYTECODE=1
cd -- "$here"
exec "$venv/bin/python" -m pytest --rootdir "$here" -p no:cacheprovider -ra \
    "--hubprint=$binary" "$@" </dev/null
