#!/usr/bin/env bash
# A night at full size against the local Hub, judged by the Hub's own counters.
#
#   tests/nightly/run.sh night|sweep [HUBPRINT_BINARY]
#
# night: REPOS new repositories (default 20,000) under the limits of a free token (1,000 API and 5,000 file requests a window), the
#        window of 5 minutes cut to WINDOW seconds (default 120). No request may be refused, all windows but the last
#        must be used to 95 %, and `--dry-run` must foresee the time and the requests within 15 %. Then the same night
#        again, which may ask for list pages only.
# sweep: a dry run on REPOS new repositories (default 3,000,000): how long, and how much memory.
#
# Needs curl and jq. Exit code 1: a figure is wrong; 2: something could not be run.
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"
root="$(cd -- "$here/../.." && pwd -P)"
die() { echo "nightly: $*" >&2; exit 2; }

what="${1:-}"
[ "$what" = night ] || [ "$what" = sweep ] || die "say what: night or sweep"
binary="${2:-$root/target/debug/hubprint}"
[ -f "$binary" ] && [ -x "$binary" ] || die "no executable at '$binary'; build it first: cargo build"
for tool in curl jq; do command -v "$tool" >/dev/null || die "$tool not found"; done

scratch="$(mktemp -d)"
server=""
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$scratch"' EXIT

# serve SETTING...: a Hub that makes up its repositories after one of the demo's.
serve() {
    local set=() setting
    for setting in made_up.template=aurelia-labs/aurelia-mini "$@"; do set+=(--set "$setting"); done
    "$binary" hub serve "$root/data/demo-hub" "${set[@]}" > "$scratch/served" 2> "$scratch/hub.log" &
    server=$!
    local tries=0
    until [ -s "$scratch/served" ]; do
        kill -0 "$server" 2>/dev/null || die "the local Hub ended: $(cat "$scratch/hub.log")"
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || die "the local Hub does not begin to serve"
        sleep 0.1
    done
    HF_ENDPOINT="$(jq -r .hub "$scratch/served")"
    export HF_ENDPOINT
}

counters() { curl -sf "$HF_ENDPOINT/_hubprint/counters"; }

# gather NAME...: all the answers in one object.
gather() {
    local name
    for name in "$@"; do jq "{\"$name\": .}" "$scratch/$name.json"; done | jq -s add > "$scratch/all.json"
}

failed=0
# must TEXT FILTER: says whether the filter holds for what was gathered.
must() {
    if jq -e "$2" "$scratch/all.json" >/dev/null; then
        echo "ok      $1"
    else
        failed=1
        echo "WRONG   $1"
    fi
}
say() { jq -r "$1" "$scratch/all.json"; }

export HOME="$scratch"
unset HF_TOKEN HF_HOME HF_HUB_CACHE HF_HUB_OFFLINE RUST_LOG
if [ "$what" = sweep ]; then
    serve "made_up.repos=${REPOS:-3000000}"
    "$binary" crawl --db "$scratch/db" --dry-run --json > "$scratch/forecast.json"
    counters > "$scratch/counters.json"
    gather forecast counters
    say '"\(.forecast.listed.listed) listed, \(.counters.totals.requests.api) pages, " +
        "\(.forecast.sweep_seconds | round) s, \(.forecast.peak_memory_bytes / 1e6 | round) MB peak"'
    must "every repository is listed, and new" '.forecast | .complete and .listed.new == .listed.listed'
    exit "$failed"
fi

window="${WINDOW:-120}"
cat > "$scratch/night.toml" <<TOML
[database]
path = "db"
[enumerate]
[fetch]
repos_in_flight = 32
[write]
accept = ["malformed"]
TOML
serve "made_up.repos=${REPOS:-20000}" limits.api=1000 limits.resolvers=5000 limits.pages=200 "limits.window_seconds=$window"
"$binary" run --dry-run --json "$scratch/night.toml" > "$scratch/forecast.json"
# The dry run has begun a window: the night begins with one of its own.
sleep "$window"
counters > "$scratch/before.json"
"$binary" run --json "$scratch/night.toml" | jq .crawl > "$scratch/night.json"
counters > "$scratch/after.json"
"$binary" run --json "$scratch/night.toml" | jq .crawl > "$scratch/again.json"
counters > "$scratch/end.json"
gather forecast before night after again end
# The windows of this night, without those of the dry run; all but the last are full ones.
mine='.after.windows.resolvers[(.before.windows.resolvers | length):]'
jq ".mine = $mine | .full = .mine[:-1]" "$scratch/all.json" > "$scratch/more.json"
mv "$scratch/more.json" "$scratch/all.json"

say '"\(.night.models) repositories in \(.night.seconds | round) s, \(.mine | length) windows, " +
    "\((.full | map(.admitted) | add) / (50 * (.full | length)) * 10 | round / 10) % of the full ones used; " +
    "foreseen \(.forecast.seconds | round) s and \(.forecast.requests) file requests, " +
    "taken \(.night.requests.resolvers); \(.night.peak_memory_bytes / 1e6 | round) MB peak; " +
    "the same night again \(.again.seconds * 10 | round / 10) s"'
must "all but the demo's four that cannot be read have a fingerprint" '.night.outcomes.indexed == .night.models - 4'
must "no request was refused" '.end.totals.too_many_requests == 0'
must "95 % of each full window is used" '(.full | length) > 1 and all(.full[]; .admitted >= 4750)'
must "the time was foreseen within 15 %" '.forecast.seconds / .night.seconds - 1 | fabs < 0.15'
must "the requests were foreseen within 15 %" '.forecast.requests / .night.requests.resolvers - 1 | fabs < 0.15'
must "the same night again reads list pages only" '
    .end.totals.requests.resolvers == .after.totals.requests.resolvers
    and .end.totals.cdn_requests == .after.totals.cdn_requests
    and .end.totals.requests.api - .after.totals.requests.api == (.night.models / 1000 | ceil)'
exit "$failed"
