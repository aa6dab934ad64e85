#!/usr/bin/env bash
# Tidelog over Azure's object store, as far as it can be had without an account: Azurite, Microsoft's own emulator, from its
# package. The suite that every kind of bucket passes, then a node that is killed, stopped and started from the bucket alone.
#
#   tests/azure.sh
#
# TIDELOG    the binary                         default: target/debug/tidelog
# AZURITE    Azurite's program for blobs        default: installed by npm below target/
#
# Without npm it says that it was skipped, and exits 0; with CI=true that is a failure.
set -euo pipefail
. "$(dirname "$0")/common.sh"

tidelog=${TIDELOG:-$targets/debug/tidelog}
version=3.37.0
azurite=${AZURITE:-$targets/azurite/node_modules/.bin/azurite-blob}
if [ ! -x "$azurite" ]; then
    if ! installable npm npm; then
        skip "npm is not installed, so Azurite cannot be"
        exit
    fi
    npm install --silent --no-fund --no-audit --prefix "$targets/azurite" "azurite@$version" >/dev/null
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/tidelog-azure.XXXXXX")
started=()
end_all() {
    [ "${#started[@]}" -eq 0 ] || kill -9 "${started[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    [ "$1" = 0 ] || tail -n 20 "$work"/*.log >&2 || true
}
at_exit end_all

until_up() { # URL: waits until something answers there well, or as one who is not known
    local status
    for _ in $(seq 600); do
        status=$(curl -s -o /dev/null -w '%{http_code}' "$1" || true)
        case $status in 2?? | 4??) return ;; esac
        sleep 0.1
    done
    fail "nothing answers at $1"
}

read -r port http admin < <(free_ports 3)
"$azurite" --silent --skipApiVersionCheck --disableTelemetry --blobHost 127.0.0.1 --blobPort "$port" --location "$work/azurite" >"$work/azurite.log" 2>&1 &
started+=($!)
# Account and key are those that every Azurite has.
export AZURE_STORAGE_ACCOUNT_NAME=devstoreaccount1 AZURE_ALLOW_HTTP=true
export AZURE_STORAGE_ACCOUNT_KEY='Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=='
export AZURE_STORAGE_ENDPOINT=http://127.0.0.1:$port/$AZURE_STORAGE_ACCOUNT_NAME
until_up "http://127.0.0.1:$port/"

echo "--- a container"
python3 - <<'PYTHON'
import base64, email.utils, hashlib, hmac, os, urllib.request
account, endpoint = os.environ["AZURE_STORAGE_ACCOUNT_NAME"], os.environ["AZURE_STORAGE_ENDPOINT"]
date = email.utils.formatdate(usegmt=True)
what = f"PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:2021-08-06\n/{account}/{account}/tidelog\nrestype:container"
key = base64.b64decode(os.environ["AZURE_STORAGE_ACCOUNT_KEY"])
signature = base64.b64encode(hmac.new(key, what.encode(), hashlib.sha256).digest()).decode()
headers = {"x-ms-date": date, "x-ms-version": "2021-08-06", "Authorization": f"SharedKey {account}:{signature}", "Content-Length": "0"}
urllib.request.urlopen(urllib.request.Request(f"{endpoint}/tidelog?restype=container", method="PUT", headers=headers))
PYTHON

echo "--- the suite of buckets"
TIDELOG_TEST_BUCKET=az://tidelog/suite cargo test --quiet --locked --manifest-path "$root/Cargo.toml" -p tidelog --lib -- \
    store::tests::the_bucket_that_the_environment_names_conforms

echo "--- bucket check"
"$tidelog" bucket check --quick --bucket az://tidelog/check
if "$tidelog" bucket check --quick --bucket az://nothing/check; then
    fail "a container that is not there passed the check"
fi

export TIDELOG_SERVER=http://127.0.0.1:$http TIDELOG_ADMIN_SERVER=http://127.0.0.1:$admin
serve() {
    "$tidelog" serve --bucket az://tidelog/log --data-dir "$work/data" --listen "127.0.0.1:$http" --admin-listen "127.0.0.1:$admin" \
        >>"$work/serve.log" 2>&1 &
    server=$!
    started+=("$server")
    until_up "$TIDELOG_SERVER/readyz"
}
echo "--- a node that is killed, stopped, and started from the bucket alone"
serve
seq 1 1000 | "$tidelog" produce numbers --create
"$tidelog" topic flush numbers --archive
seq 1001 2000 | "$tidelog" produce numbers
kill -9 "$server"
wait "$server" 2>/dev/null || true
serve
kill -TERM "$server"
wait "$server"
rm -rf "$work/data"
serve
"$tidelog" consume numbers --output value | sort -n | diff - <(seq 1 2000)
"$tidelog" verify --bucket az://tidelog/log
ok "2,000 records over Azurite, killed, stopped, started from the bucket alone"
