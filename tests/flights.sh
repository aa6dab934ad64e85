#!/usr/bin/env bash
# The main job on real input: flights from a Parquet file through produce, flush, archive, restart and consume, then an
# independent reader (DuckDB) over the listed Parquet files and over the consumed NDJSON, compared with the source.
#
#   tests/flights.sh [ROWS]        default: all rows of the file
#
# TIDELOG       the binary                            default: target/release/tidelog, else target/debug/tidelog
# FLIGHTS_DATA  the Parquet file                      default: ../shared/data/flights-3m.parquet beside the checkout
# TOPOLOGY      a script such as minio/run-local.sh, whose cluster and bucket are used    default: one server, a local bucket
# PYTHON        a Python that can import duckdb       default: a virtual environment made under target/
# KEEP          keeps the working directory if set
#
# Prints the time of each stage. Exits non-zero on any difference.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
rows=${1:-}
source_file=${FLIGHTS_DATA:-$root/../shared/data/flights-3m.parquet}
[ -f "$source_file" ] || { echo "flights: no file $source_file: set FLIGHTS_DATA" >&2; exit 1; }
binary=${TIDELOG:-}
if [ -z "$binary" ]; then
    binary=$root/target/release/tidelog
    [ -x "$binary" ] || binary=$root/target/debug/tidelog
fi
[ -x "$binary" ] || { echo "flights: no binary $binary: run cargo build" >&2; exit 1; }
python=${PYTHON:-$("$root/tests/python.sh")}

work=$(mktemp -d "${TMPDIR:-/tmp}/tidelog-flights.XXXXXX")
server=
cleanup() {
    status=$?
    [ -z "${TOPOLOGY:-}" ] || "$TOPOLOGY" down || true
    if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then
        kill -9 "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    if [ "$status" -ne 0 ]; then
        echo "--- end of the server's log" >&2
        tail -n 20 "$work"/serve.*.log "$work"/topology/logs/*.log >&2 2>/dev/null || true
    fi
    if [ -n "${KEEP:-}" ]; then echo "kept $work"; else rm -rf "$work"; fi
    exit "$status"
}
trap cleanup EXIT

now() { date +%s.%N; }
begun=$(now)
stage_begun=$begun
stage() { # NAME [NOTE]: prints the time since the stage before
    local at
    at=$(now)
    printf '%-22s %9.2f s  %s\n' "$1" "$(echo "$at - $stage_begun" | bc)" "${2:-}"
    stage_begun=$(now)
}
command -v bc >/dev/null || { echo "flights: bc is missing" >&2; exit 1; }

if [ -n "${TOPOLOGY:-}" ]; then
    export TIDELOG=$binary STATE=$work/topology
fi
runs=0
start_server() { # starts on a free port and sets TIDELOG_SERVER
    if [ -n "${TOPOLOGY:-}" ]; then
        "$TOPOLOGY" up --detach
        eval "$("$TOPOLOGY" env)"
        return
    fi
    runs=$((runs + 1))
    "$binary" serve --listen 127.0.0.1:0 --admin-listen none --data-dir "$work/data" >"$work/serve.$runs.out" 2>"$work/serve.$runs.log" &
    server=$!
    local url= tries=0
    while :; do
        kill -0 "$server" 2>/dev/null || { echo "flights: the server ended" >&2; cat "$work/serve.$runs.log" >&2; exit 1; }
        url=$(grep -s -o 'http://127\.0\.0\.1:[0-9]*' "$work/serve.$runs.out" | head -n 1 || true)
        if [ -n "$url" ] && curl --silent --fail --max-time 5 --output /dev/null "$url/readyz"; then break; fi
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || { echo "flights: the server is not ready after a minute" >&2; exit 1; }
        sleep 0.1
    done
    export TIDELOG_SERVER=$url
}
stop_server() {
    if [ -n "${TOPOLOGY:-}" ]; then
        "$TOPOLOGY" down
        return
    fi
    kill -TERM "$server"
    wait "$server" || { echo "flights: the server did not stop cleanly ($?)" >&2; exit 1; }
    server=
}

start_server
stage "start"
"$binary" topic create flights --partitions 4 --set value_format=json >/dev/null
"$binary" produce flights --file "$source_file" --key-field origin ${rows:+--limit "$rows"} | tee "$work/produce.txt"
stage "produce"
"$binary" topic flush flights --archive --timeout 30m
stage "flush and archive"
stop_server
stage "stop"
start_server
stage "start again"
"$binary" consume flights --from earliest >"$work/consumed.ndjson"
stage "consume" "$(wc -c <"$work/consumed.ndjson") bytes"
curl --silent --show-error --fail "$TIDELOG_SERVER/v1/topics/flights/archive?limit=1000" >"$work/archive.json"
"$binary" topic describe flights --json >"$work/topic.json"
if [ -n "${TOPOLOGY:-}" ]; then
    # The bucket is served by what would be stopped.
    "$binary" verify --bucket "$TIDELOG_BUCKET"
    stage "verify"
else
    stop_server
    "$binary" verify --bucket "file://$work/data/bucket"
    stage "stop and verify"
fi
"$python" "$root/tests/flights.py" "$source_file" "$work" "${rows:-0}"
stage "compare"
if [ -n "${TOPOLOGY:-}" ]; then
    stop_server
    stage "stop"
fi
printf '%-22s %9.2f s\n' "all" "$(echo "$(now) - $begun" | bc)"
