#!/usr/bin/env bash
# Checks the units in pipelines/units, and the workflow of this repository, with the parsers and linters of their formats.
#
#   tests/units/run.sh [HUBPRINT_BINARY]
#
# With a binary, every flag that a unit passes must be in its help. UNITS names another folder to check. The virtual
# environment is kept in ${HUBPRINT_UNITS_VENV:-target/units-venv} (relative to the repository's root).
# Exit code 1: a file is wrong; 2: something could not be checked, for want of a tool.
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"
root="$(cd -- "$here/../.." && pwd -P)"
units="$(cd -- "${UNITS:-$root/pipelines/units}" && pwd -P)"
die() { echo "units: $*" >&2; exit 2; }

binary=""
if [ $# -ge 1 ]; then
    [ -f "$1" ] && [ -x "$1" ] || die "no executable at '$1'; build it first: cargo build"
    binary="$(cd -- "$(dirname -- "$1")" && pwd -P)/$(basename -- "$1")"
fi

# shellcheck source=tests/venv.sh
. "$root/tests/venv.sh"
make_venv units HUBPRINT_UNITS_VENV 10 "the linters" --only-binary :all:

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
passed=0 failed=0 missing=0

# check NAME COMMAND...: passes if the command does; prints what it said if not.
check() {
    local name="$1"
    shift
    if "$@" > "$scratch/said" 2>&1 </dev/null; then
        passed=$((passed + 1))
        echo "ok      $name"
    else
        failed=$((failed + 1))
        echo "WRONG   $name"
        sed 's/^/        /' "$scratch/said"
    fi
}

# unchecked NAME TOOL HOW: what could not be checked, and how to get the tool.
unchecked() {
    missing=$((missing + 1))
    echo "MISSING $1: $2 not found ($3)"
}

# The program need not be installed on this machine. A warning, as for an unknown key, is an error here.
verify() {
    systemd-analyze verify --man=no "$scratch/systemd/hubprint.service" "$scratch/systemd/hubprint.timer" \
        > "$scratch/verify" 2>&1 || { cat "$scratch/verify"; return 1; }
    [ ! -s "$scratch/verify" ] || { cat "$scratch/verify"; return 1; }
}
if command -v systemd-analyze >/dev/null; then
    mkdir "$scratch/systemd"
    sed 's#^ExecStart=/usr/local/bin/hubprint #ExecStart=/bin/true #' "$units/hubprint.service" \
        > "$scratch/systemd/hubprint.service"
    cp "$units/hubprint.timer" "$scratch/systemd/"
    check "hubprint.service, hubprint.timer: systemd-analyze verify" verify
    # Exposure at most 2.0 of 10; 1.3 with systemd 252.
    check "hubprint.service: systemd-analyze security" \
        systemd-analyze security --no-pager --offline=true --threshold=20 "$scratch/systemd/hubprint.service"
else
    unchecked "hubprint.service, hubprint.timer" systemd-analyze "on Debian: apt-get install systemd"
fi

for version in 1.29.0 1.37.0; do
    for file in cronjob.yaml indexed-job.yaml; do
        check "$file: schema of Kubernetes $version" \
            "$venv/bin/kubernetes-validate" --quiet --strict -k "$version" "$units/$file"
    done
done

for file in "$units/github-actions.yml" "$root/.github/workflows/ci.yml"; do
    check "${file##*/}: schema of GitHub workflows" \
        "$venv/bin/check-jsonschema" --builtin-schema vendor.github-workflows "$file"
    check "${file##*/}: zizmor" "$venv/bin/zizmor" --offline --no-config --no-progress --quiet "$file"
done
scripts() {
    "$venv/bin/python" "$here/check.py" --units "$units" --scripts "$scratch/scripts" \
        && "$venv/bin/shellcheck" "$scratch/scripts/"*.sh
}
check "github-actions.yml, indexed-job.yaml: shellcheck of their scripts" scripts

check "hubprint.slurm: bash -n" bash -n "$units/hubprint.slurm"
check "hubprint.slurm: shellcheck" "$venv/bin/shellcheck" "$units/hubprint.slurm"

check "Containerfile: hadolint" "$venv/bin/hadolint" --no-color "$units/Containerfile"
# What the Containerfile copies, and .dockerignore lets through, is a package that cargo builds. `cargo fetch` wants the
# files of all targets and a lock file that fits, as `cargo build --locked` does.
manifest() {
    "$venv/bin/python" "$here/check.py" --units "$units" --context "$scratch/context" \
        && (cd "$scratch/context" && cargo fetch --quiet --locked --target "$(rustc -vV | sed -n 's/^host: //p')")
}
if command -v cargo >/dev/null; then
    check "Containerfile: what it copies is the package" manifest
else
    unchecked "Containerfile: what it copies is the package" cargo "install Rust with rustup"
fi

check "all scripts: shellcheck" \
    "$venv/bin/shellcheck" -x -P "$root" "$root"/tests/*/run.sh "$root/tests/venv.sh" "$root"/benches/*.sh
check "all: they agree with each other and with the project" "$venv/bin/python" "$here/check.py" --units "$units"
if [ -n "$binary" ]; then
    check "all: their flags exist" "$venv/bin/python" "$here/check.py" --units "$units" --binary "$binary"
else
    echo "skipped all: their flags exist (no binary was named)"
fi

echo "$passed passed, $failed failed, $missing not checked"
[ "$failed" -eq 0 ] || exit 1
[ "$missing" -eq 0 ] || exit 2
