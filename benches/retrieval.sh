#!/usr/bin/env bash
# Measures retrieval among made-up models and rewrites the tables of docs/retrieval.md: population, index, a night of
# 2 % more, verify --deep, opening, one scan, bulk scans of 5,000 queries and 30,000 strangers, and other methods beside
# ours. Needs Rust, a C++ compiler for usearch, 25 GB of disk, and some hours at 500,000.
#
#   benches/retrieval.sh              1,000, 10,000, 100,000 and 500,000 models
#   benches/retrieval.sh 2000 20000   other numbers, printed only
#
#   HUBPRINT_RETRIEVAL_DIR   folder where the databases are kept from run to run [a temporary one]
#   HUBPRINT_PROFILE         profile of cargo [bench]
#   HUBPRINT_FEATURES        empty leaves usearch out [usearch]
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
die() { echo "retrieval: $*" >&2; exit 1; }
command -v cargo >/dev/null || die "cargo not found; install Rust"
for size in "$@"; do
    [[ $size =~ ^[1-9][0-9]*$ ]] || die "$size is no number of models"
done
sizes=("$@")
(($#)) || sizes=(--write 1000 10000 100000 500000)
exec cargo bench --profile "${HUBPRINT_PROFILE:-bench}" --features "${HUBPRINT_FEATURES-usearch}" --bench index -- \
    "${sizes[@]}"
