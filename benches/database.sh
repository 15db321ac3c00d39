#!/usr/bin/env bash
# Measures a database of made-up models: its size, how long it takes to publish and to pull it, and what a night that
# adds 1 % moves; rewrites the table of docs/scaling.md. Needs Rust, Python 3.10 or newer and 20 GB of disk.
#
#   benches/database.sh              500,000 models, some minutes
#   benches/database.sh MODELS       of another size: printed only
#
# HUBPRINT names a program that is built already, SCRATCH the folder for the databases. Exit code 1: the night moves
# more than 3 % of the bytes.
set -euo pipefail
root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
die() { echo "database: $*" >&2; exit 2; }
command -v python3 >/dev/null || die "python3 not found"
models="${1:-500000}"
[[ "$models" =~ ^[0-9]+$ && "$models" -ge 100 ]] || die "'$models' is no number of models from 100 on"

if [ -z "${HUBPRINT:-}" ]; then
    command -v cargo >/dev/null || die "cargo not found; install Rust"
    cargo build --release --manifest-path "$root/Cargo.toml"
    HUBPRINT="$root/target/release/hubprint"
fi
HUBPRINT="$(realpath -- "$HUBPRINT")"
scratch="$(mktemp -d -p "${SCRATCH:-${TMPDIR:-/tmp}}")"
trap 'rm -rf "$scratch"' EXIT

HUBPRINT="$HUBPRINT" DOCUMENT="$root/docs/scaling.md" python3 - "$models" "$scratch" <<'PY'
import json, os, pathlib, re, subprocess, sys, time

models, scratch = int(sys.argv[1]), pathlib.Path(sys.argv[2])
rows = []


def run(*args, row=None, tell=lambda said: ""):
    """Runs a command to its end; its seconds and its peak memory become a row of the table."""
    begun = time.monotonic()
    out = (scratch / "out").open("w+")
    child = subprocess.Popen([os.environ["HUBPRINT"], *map(str, args)], cwd=scratch, stdout=out,
                             env={"HOME": str(scratch), "PATH": os.environ["PATH"]})
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.monotonic() - begun
    if status:
        sys.exit(f"database: {args} failed")
    out.seek(0)
    text = out.read()
    said = json.loads(text) if text.startswith("{") else {}
    if row:
        rows.append(f"| {row} | {seconds:.1f} s | {usage.ru_maxrss / 1000:.0f} MB | {tell(said)} |")
        print(rows[-1], flush=True)
    return said


def size(folder):
    return sum(path.stat().st_size for path in (scratch / "db" / folder).iterdir())


def megabytes(count):
    return f"{count / 1e6:,.1f} MB"


more = models + models // 100
population = ("dev", "population", "--models", more, "--seed", 7, "--db", "db")
publish = ("publish", "--db", "db", "--to", "shelf", "--key", "key", "--yes", "--json")
pull = ("db", "pull", "shelf", "--db", "copy", "--json")
sent = lambda said: f"{megabytes(said['bytes_sent'])} of {megabytes(said['bytes'])} sent"
fetched = lambda said: f"{megabytes(said['bytes_fetched'])} of {megabytes(said['bytes'])} fetched"

run(*population, "--end", models)
run("index", "--db", "db", row=f"`index` of {models:,} models")
rows[-1] = rows[-1].removesuffix("|  |") + f"| shards {megabytes(size('shards'))}, index {megabytes(size('index'))} |"
run("db", "keygen", "key")
run(*publish, row="`publish` into an empty folder", tell=sent)
run(*pull, row="`db pull` into an empty folder", tell=fetched)
run(*population, "--begin", models)
run("index", "--db", "db", row="`index` after 1 % more")
run(*publish, row="`publish` of that", tell=sent)
night = run(*pull, row="`db pull` of that", tell=fetched)
run("db", "verify", "--db", "copy", row="`db verify` of the copy")

share = night["bytes_fetched"] / night["bytes"]
print(f"the night moved {100 * share:.2f} % of the bytes")
if models == 500_000:
    document = pathlib.Path(os.environ["DOCUMENT"])
    table = "\n".join(["| | time | peak memory | |", "|---|---|---|---|", *rows])
    text, count = re.subn(r"(<!-- database -->\n).*?(\n<!-- end -->)", lambda m: m[1] + table + m[2],
                          document.read_text(), flags=re.S)
    if count != 1:
        sys.exit("database: docs/scaling.md has no place for the table")
    document.write_text(text)
sys.exit(share > 0.03)
PY
