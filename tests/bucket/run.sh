#!/usr/bin/env bash
# Runs the conformance suite of places for files, and the tests of databases in buckets, against a real S3 server on loopback.
#
#   tests/bucket/run.sh
#
# The virtual environment is kept in ${HUBPRINT_BUCKET_VENV:-target/bucket-venv} (relative to the repository's root).
# Exit code 2: a tool is missing.
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"
root="$(cd -- "$here/../.." && pwd -P)"
die() { echo "bucket: $*" >&2; exit 2; }

command -v cargo >/dev/null || die "cargo not found; install Rust"
# shellcheck source=tests/venv.sh
. "$root/tests/venv.sh"
make_venv bucket HUBPRINT_BUCKET_VENV 10 "the S3 server"

# Its standard input is a pipe that nobody writes to: it ends when this script does.
coproc S3 { exec "$venv/bin/python" "$here/server.py" 2>/dev/null; }
read -r -t 60 -u "${S3[0]}" address || die "the S3 server did not start"
export AWS_ENDPOINT="$address" AWS_ALLOW_HTTP=true AWS_REGION=us-east-1
export AWS_ACCESS_KEY_ID=testing AWS_SECRET_ACCESS_KEY=planted-secret
"$venv/bin/python" - <<'PY'
import os, urllib.request
request = urllib.request.Request(os.environ["AWS_ENDPOINT"] + "/hubprint", method="PUT", headers={
    "Authorization": "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
})
urllib.request.urlopen(request).read()
PY
cd "$root"
export HUBPRINT_TEST_BUCKET=s3://hubprint
cargo test --lib store::storage:: -- --ignored --nocapture
cargo test --test it bucket:: -- --ignored --nocapture --test-threads 2
