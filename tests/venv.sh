# shellcheck shell=bash
# The virtual environment of a test, made when it is first needed and again when its requirements or the Python change.
# To be sourced, with `here` (the test's folder), `root` and `die` set.
# shellcheck disable=SC2154  # so they are not assigned here
#
#   make_venv NAME VARIABLE LEAST WHAT [PIP OPTION...]
#
# VARIABLE names what may hold another place than target/NAME-venv (relative to the repository's root), LEAST is the
# oldest Python 3 that does, WHAT says what is installed. Sets `python` and `venv`.
make_venv() {
    local name="$1" variable="$2" least="$3" what="$4" want have
    shift 4
    python="${PYTHON:-python3}"
    command -v "$python" >/dev/null \
        || die "'$python' not found; Python 3.$least or newer is needed (set PYTHON to choose one)"
    "$python" -c "import sys; sys.exit(sys.version_info < (3, $least))" \
        || die "Python 3.$least or newer is needed, '$python' is $("$python" -V 2>&1) (set PYTHON to choose another)"
    venv="${!variable:-target/$name-venv}"
    case "$venv" in /*) ;; *) venv="$root/$venv" ;; esac
    # The requirements may name a file of constraints beside them.
    want="$({ "$python" -VV; cat "$here"/*.txt; } | sha256sum | cut -d' ' -f1)"
    have="$(cat "$venv/$name.sha256" 2>/dev/null || true)"
    [ "$want" != "$have" ] || return 0
    if [ -e "$venv" ] && [ ! -f "$venv/pyvenv.cfg" ]; then
        die "'$venv' exists and is not a virtual environment; set $variable to another place"
    fi
    echo "$name: installing $what into $venv" >&2
    mkdir -p "$(dirname -- "$venv")"
    "$python" -m venv --clear "$venv" \
        || die "could not create a virtual environment (on Debian: apt-get install python3-venv)"
    "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check "$@" \
        -r "$here/requirements.txt" || die "could not install the requirements"
    echo "$want" > "$venv/$name.sha256"
}
