#!/usr/bin/env bash
# The measured lines: each starts a server of its own on a temporary directory, measures it and its baseline in the same
# run, and says whether the target is reached. docs/performance.md says what each line is for.
#
#   tests/bench.sh [LINE ...]      default: all, about 18 minutes
#
#   lone     1 connection, one 256 B record a request: p50 <= 2 x (p50 of the no-op handler + p50 of 4 KiB write+fdatasync)
#   many     64 connections, one 256 B record a request: >= 0.5 x the rate of the no-op handler
#   slow     lone and many with 3 ms added to every sync of the log: 64 connections >= 15 x one connection
#   burst    1 KiB records, 1 MiB record batches, 4 connections, flush paused: >= 0.5 x bare 1 MiB write+fdatasync
#   steady   the same for 60 s with flushes to the same disk, compactor off: >= 0.3 x
#   ndjson   1 KiB records as NDJSON, 1 MiB requests, 4 connections: reported
#   catchup  1 GB read from segments (cold and warm) and from Parquet, as batches, NDJSON and JSON: reported
#   memory   15 GB pass through in 4 minutes: resident <= budgets + 200 MiB, and flat
#   wide     1,000 topics x 10 partitions, each written once a second for 60 s: reported
#
# TIDELOG   the binary                                   default: target/release/tidelog
# BENCH_DIR where the temporary directory is made        default: TMPDIR, else /tmp; has to be on the disk to be measured
# BUCKET    where the bucket is, such as s3://name/prefix: each server gets a prefix of its own below it    default: the data directory
# SCALE     a factor for durations and sizes             default: 1; figures are kept only of 1
# KEEP      keeps the JSON reports and the server's log if set
#
# Exits 1 if a target is missed.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
binary=${TIDELOG:-$root/target/release/tidelog}
[ -x "$binary" ] || { echo "bench: no binary $binary: run cargo build --release or set TIDELOG" >&2; exit 2; }
for tool in python3 curl; do command -v "$tool" >/dev/null || { echo "bench: $tool is missing" >&2; exit 2; }; done
scale=${SCALE:-1}
bucket=()
servers=0
all="lone many slow burst steady ndjson catchup memory wide"

work=$(mktemp -d "${BENCH_DIR:-${TMPDIR:-/tmp}}/tidelog-bench.XXXXXX")
server=
missed=0
stop_server() {
    [ -n "$server" ] || return 0
    kill -9 "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
}
cleanup() {
    local status=$?
    stop_server
    if [ "$status" -gt 1 ]; then tail -n 20 "$work/serve.log" >&2 2>/dev/null || true; fi
    rm -rf "$work/data" "$work/disk"
    if [ -n "${KEEP:-}" ]; then echo "kept $work"; else rm -rf "$work"; fi
    exit "$status"
}
trap cleanup EXIT

serve() { # [NAME=VALUE ...]: starts a server with this in its environment; the data directory is kept if it is there
    env TIDELOG__HTTP__MAX_CONNECTION_AGE=0s "$@" "$binary" serve --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --data-dir "$work/data" \
        "${bucket[@]}" >"$work/serve.out" 2>>"$work/serve.log" &
    server=$!
    local url= tries=0
    while :; do
        kill -0 "$server" 2>/dev/null || { echo "bench: the server ended" >&2; exit 2; }
        url=$(grep -s -o 'http://127\.0\.0\.1:[0-9]*' "$work/serve.out" | head -n 1 || true)
        if [ -n "$url" ] && curl --silent --fail --max-time 5 --output /dev/null "$url/readyz"; then break; fi
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || { echo "bench: the server is not ready after a minute" >&2; exit 2; }
        sleep 0.1
    done
    export TIDELOG_SERVER=$url
    TIDELOG_ADMIN_SERVER=$(sed -n 's/^admin *//p' "$work/serve.out")
    export TIDELOG_ADMIN_SERVER
}
fresh() { # as serve, on an empty directory
    stop_server
    rm -rf "$work/data"
    servers=$((servers + 1))
    [ -z "${BUCKET:-}" ] || bucket=(--bucket "$BUCKET/$servers")
    serve "$@"
}
# calc EXPRESSION: Python over the reports of this line by name, such as calc "lone['latency']['p50_us']"
calc() {
    python3 - "$work" "$1" <<'END'
import glob, json, os, statistics, sys
work, expression = sys.argv[1:]
reports = {os.path.basename(path)[:-5]: json.load(open(path)) for path in glob.glob(work + "/*.json")}
reports["median"] = statistics.median
reports["disk"] = lambda size: next(d for d in reports["base"]["disk"] if d["size"] == size)
reports["no_op"] = lambda n: next(d for d in reports["base"]["no_op"] if d["connections"] == n)
value = eval(expression, {}, reports)
print(f"{value:.3f}" if isinstance(value, float) else value)
END
}
scaled() { python3 -c "import sys; print(max(1, round(float(sys.argv[1]) * float(sys.argv[2]))))" "$1" "$scale"; }
bench() { # REPORT ARGUMENT ...
    local name=$1
    shift
    echo "  \$ tidelog bench $*" >&2
    "$binary" bench "$@" --json >"$work/$name.json"
}
produce() { # REPORT ARGUMENT ...
    local name=$1
    shift
    bench "$name" produce --server-pid "$server" --metrics "$@"
}
baseline() { # ARGUMENT ...: no-op handler and disk, as report `base`
    bench base baseline --data-dir "$work/disk" --disk-duration 3s "$@"
}
result() { # LINE MEASURED BASELINE RATIO TARGET(python condition on r)
    local verdict=reported
    if [ -n "$5" ]; then
        verdict=$(python3 -c "import sys; r = float(sys.argv[1]); print('ok' if eval(sys.argv[2]) else 'MISSED')" "$4" "$5")
        [ "$verdict" = ok ] || missed=1
    fi
    printf '%-10s %-58s %-52s %8s  %-9s %s\n' "$1" "$2" "$3" "$4" "${5:+$5 }" "$verdict"
}

small=(--record-size 256 --content-type json --warm-up 2s --duration "$(scaled 10)s")
large=(--record-size 1KiB --request-bytes 1MiB --content-type record-batches --connections 4)

line_lone() {
    fresh
    baseline "${small[@]}"
    produce lone "${small[@]}"
    result lone "p50 $(calc "lone['latency']['p50_us']") us" \
        "no-op $(calc "no_op(1)['latency']['p50_us']") us + sync $(calc "disk(4096)['latency']['p50_us']") us" \
        "$(calc "lone['latency']['p50_us'] / (no_op(1)['latency']['p50_us'] + disk(4096)['latency']['p50_us'])")" "r <= 2"
}
line_many() {
    fresh
    baseline "${small[@]}"
    produce many --connections 64 "${small[@]}"
    result many "$(calc "many['requests_per_second']")/s, p50 $(calc "many['latency']['p50_us']") us" \
        "no-op $(calc "no_op(64)['requests_per_second']")/s" \
        "$(calc "many['requests_per_second'] / no_op(64)['requests_per_second']")" "r >= 0.5"
}
line_slow() {
    fresh TIDELOG_FAILPOINTS=wal.sync=sleep:3
    produce slow1 "${small[@]}"
    produce slow64 --connections 64 "${small[@]}"
    result slow "64: $(calc "slow64['requests_per_second']")/s, p50 $(calc "slow64['latency']['p50_us']") us" \
        "1: $(calc "slow1['requests_per_second']")/s, p50 $(calc "slow1['latency']['p50_us']") us" \
        "$(calc "slow64['requests_per_second'] / slow1['requests_per_second']")" "r >= 15"
}
line_burst() {
    fresh
    "$binary" admin pause flush >/dev/null
    baseline "${large[@]}" --duration 3s
    produce burst "${large[@]}" --bytes "$(scaled 3072)MiB"
    result burst "$(calc "burst['value_mb_per_second']") MB/s" "$(calc "disk(1048576)['mb_per_second']") MB/s" \
        "$(calc "burst['value_mb_per_second'] / disk(1048576)['mb_per_second']")" "r >= 0.5"
}
line_steady() {
    fresh TIDELOG__ARCHIVE__ENABLED=false
    baseline "${large[@]}" --duration 3s
    produce steady "${large[@]}" --warm-up 2s --duration "$(scaled 60)s"
    result steady "$(calc "steady['value_mb_per_second']") MB/s, $(calc "steady['metrics']['flushes']") flushes" \
        "$(calc "disk(1048576)['mb_per_second']") MB/s" \
        "$(calc "steady['value_mb_per_second'] / disk(1048576)['mb_per_second']")" "r >= 0.3"
}
line_ndjson() {
    fresh
    local load=(--record-size 1KiB --request-bytes 1MiB --content-type ndjson --connections 4 --warm-up 2s)
    baseline "${load[@]}" --duration 3s
    produce ndjson "${load[@]}" --duration "$(scaled 20)s"
    result ndjson "$(calc "ndjson['value_mb_per_second']") MB/s, $(calc "ndjson['records_per_second']") records/s" \
        "no-op $(calc "no_op(4)['value_mb_per_second']") MB/s" \
        "$(calc "ndjson['value_mb_per_second'] / no_op(4)['value_mb_per_second']")" ""
}
read_all() { # TIER: cold and warm, in each format
    local format tier=$1
    for format in batches ndjson json; do
        stop_server
        # Our own block cache is emptied; the operating system's stays as it is.
        rm -rf "$work/data/cache"
        serve TIDELOG__ARCHIVE__ENABLED=false
        bench read consume --topic bench --connections 4 --format "$format" --repeat 2 --server-pid "$server"
        for run in 0 1; do
            local rate
            rate="$(calc "read['runs'][$run]['body_mb_per_second']") MB/s, $(calc "read['runs'][$run]['records_per_second']") records/s"
            result catchup "$rate" "$tier, $format, $([ "$run" = 0 ] && echo cold || echo warm)" - ""
        done
    done
}
line_catchup() {
    fresh TIDELOG__ARCHIVE__ENABLED=false
    produce filled --partitions 4 --content-type ndjson --record-size 1KiB --request-bytes 1MiB --connections 4 \
        --bytes "$(scaled 1000)MB"
    "$binary" topic flush bench --timeout 10m >/dev/null
    read_all segments
    stop_server
    serve
    "$binary" topic flush bench --archive --timeout 30m >/dev/null
    read_all Parquet
}
line_memory() {
    fresh
    local budgets
    budgets=$(curl --silent --show-error --fail "$TIDELOG_ADMIN_SERVER/metrics" | awk '
        /^tidelog_(tail_cache|cache_memory|produce_memory)_budget_bytes/ { sum += $2 }
        END { print sum / 1048576 }')
    # Two budgets have no gauge: http.body_memory and fetch.memory.
    budgets=$(python3 -c "print(round($budgets + 256 + 256))")
    # Archived almost at once, or the compactor would only begin after a minute, near the end of the run.
    "$binary" topic create bench --partitions 4 --set archive_after_ms=1000 >/dev/null
    produce memory "${large[@]}" --partitions 4 --bytes "$(scaled 15000)MB" --rate 60
    local series="memory['server']['rss_mib_series']"
    result memory "$(calc "memory['server']['peak_rss_mib']") MiB at most, $(calc "memory['value_mb_per_second']") MB/s" \
        "budgets $budgets MiB + 200" "$(calc "memory['server']['peak_rss_mib'] / ($budgets + 200)")" "r <= 1"
    # Medians: memory goes up and down with every flush and archive job, and the largest of some samples of that is chance. What
    # it is at most is the line above.
    local late="median($series[-len($series) // 4:])" before="median($series[len($series) // 4: -len($series) // 4])"
    result flat "median of the last quarter $(calc "$late") MiB" "median of the half before $(calc "$before") MiB" \
        "$(calc "$late / $before")" "r <= 1.1"
}
line_wide() {
    fresh
    produce wide --topic wide --topics 1000 --partitions 10 --rate 10000 --connections 64 --record-size 256 \
        --warm-up 2s --duration "$(scaled 60)s"
    result wide "$(calc "wide['requests_per_second']")/s, p50 $(calc "wide['latency']['p50_us']"), p99 $(calc "wide['latency']['p99_us']") us" \
        "CPU $(calc "wide['server']['cpu_seconds'] / wide['seconds']") cores" - ""
    result wide "$(calc "wide['metrics']['flushes']") flushes, $(calc "wide['metrics']['bucket_puts']") PUTs" \
        "a flush $(calc "wide['metrics']['flush_segment_bytes'] / max(1, wide['metrics']['flushes'])") bytes of segments" - ""
    result wide "checkpoints $(calc "wide['metrics']['flush_checkpoint_bytes']") bytes in all" \
        "resident $(calc "wide['server']['peak_rss_mib']") MiB" - ""
}

for line in ${*:-$all}; do
    case " $all " in
        *" $line "*) "line_$line" ;;
        *) echo "bench: no line $line: $all" >&2; exit 2 ;;
    esac
done
exit "$missed"
