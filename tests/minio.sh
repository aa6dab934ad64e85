#!/usr/bin/env bash
# Tidelog over S3, as minio/ sets it up: the compose file as far as it can be checked without containers, then its topology as
# processes (minio/run-local.sh): every command of minio/README.md, records that come while a gateway leaves, a node crashes and
# the bucket is away, and tests/flights.sh with three nodes, against an S3 server that enforces minio/policy.json.
#
#   tests/minio.sh [ROWS]          rows of tests/flights.sh, default 200000
#
# TIDELOG       the binary           default: target/debug/tidelog
# S3_SERVER     the S3 server        default: target/debug/examples/s3-server
# S3_ENDPOINT   as minio/run-local.sh takes it, for another S3 server than that
# FLIGHTS_DATA  as tests/flights.sh takes it
set -euo pipefail

# shellcheck source=tests/common.sh
. "$(dirname "$0")/common.sh"
topology minio 78

echo "--- compose.yaml"
if installable docker-compose docker-compose; then
    for profile in minio seaweedfs; do
        COMPOSE_PROFILES=$profile docker-compose -f "$root/minio/compose.yaml" config -q
        echo "compose.yaml is valid with the profile $profile"
    done
else
    skip "compose.yaml: docker-compose is not installed"
fi
for script in "$root"/minio/*.sh; do
    if [ "$(head -n 1 "$script")" = '#!/bin/sh' ]; then sh -n "$script"; else bash -n "$script"; fi
done
if installable haproxy haproxy; then
    # The names of services are not known here: what is checked is the rest.
    sed -E 's/gateway-[12]:7070/127.0.0.1:7070/' "$root/minio/haproxy.cfg" >"$work/haproxy.cfg"
    PATH=$PATH:/usr/sbin haproxy -c -q -f "$work/haproxy.cfg"
    echo "haproxy.cfg is valid"
else
    skip "haproxy.cfg and the load balancer: haproxy is not installed"
fi

if installable systemd-analyze systemd; then
    # The binary is not installed where the unit has it.
    sed "s#/usr/local/bin/tidelog#$TIDELOG#" "$root/packaging/systemd/tidelog.service" >"$work/tidelog.service"
    systemd-analyze verify "$work/tidelog.service" 2>"$work/unit" || true
    if grep -F tidelog.service "$work/unit"; then exit 1; fi
    echo "tidelog.service is valid"
else
    skip "tidelog.service: systemd-analyze is not installed"
fi

echo "--- what the image is built from"
mkdir "$work/context"
ignored=$(grep -v '^#' "$root/.dockerignore" | sed 's/\./\\./g' | paste -sd '|')
(cd "$root" && git ls-files -z | grep -zEv "^($ignored)(/|$)" | xargs -0 cp --parents -t "$work/context")
cargo metadata --locked --offline --no-deps --format-version 1 --manifest-path "$work/context/Cargo.toml" >"$work/metadata"
"$python" - "$work/metadata" <<'PYTHON'
import json, os, sys
targets = [target for package in json.load(open(sys.argv[1]))["packages"] for target in package["targets"]]
missing = [target["src_path"] for target in targets if not os.path.exists(target["src_path"])]
sys.exit(f"minio: .dockerignore leaves out {missing}" if missing or not targets else 0)
PYTHON

echo "--- up"
"$cluster" up --detach
"$cluster" status
eval "$("$cluster" env)"

mkdir -p "$work/bin" "$work/here"
ln -s "$TIDELOG" "$work/bin/tidelog"
# Stands for DuckDB's command line, with its reader of S3 from a package.
cat >"$work/bin/duckdb" <<SHIM
#!$python
import duckdb, duckdb_ext, sys
db = duckdb.connect(config={"extension_directory": list(duckdb_ext.__path__)[0] + "/extensions"})
db.sql("load httpfs")
for statement in filter(str.strip, sys.argv[1].split(";")):
    shown = db.sql(statement)
    if shown is not None:
        print(shown)
SHIM
chmod +x "$work/bin/duckdb"
sh_blocks "$root/minio/README.md" "$work/blocks"
count=0
for block in "$work"/blocks/*.sh; do
    count=$((count + 1))
    echo "--- minio/README block $count"
    cat "$block"
    (cd "$work/here" && PATH=$work/bin:$PATH bash -euo pipefail "$block" </dev/null 2>&1) | tee "$work/out.$count"
    if grep -q '"error"' "$work/out.$count"; then
        fail "block $count answered an error"
    fi
done
[ "$count" -ge 4 ] || fail "only $count blocks were found"
cat "$work"/out.* >"$work/all"
for needle in '"offset":0' 'alice' '450' 'can be written' '"currency":"USD"'; do
    grep -q -- "$needle" "$work/all" || fail "nothing shows $needle"
done

echo "--- a gateway that leaves and a node that crashes while records come"
"$TIDELOG" topic create orderly --partitions 3 >/dev/null
# Each fault is after so many records were acknowledged, not after so long.
written() {
    "$TIDELOG" topic describe orderly --json | "$python" -c 'import json, sys; print(sum(p["high_watermark"] for p in json.load(sys.stdin)["partitions"]))'
}
after() { # RECORDS COMMAND…
    until [ "$(written)" -ge "$1" ]; do
        kill -0 "$producer" 2>/dev/null || fail "the producer ended early"
    done
    shift
    "$@"
}
trickle() { # as many records as the argument says, in 50 pieces with a request of somebody else between them
    local piece
    for piece in $(seq 1 50); do
        seq $(((piece - 1) * $1 / 50 + 1)) $((piece * $1 / 50))
        written >/dev/null
    done
}
trickle 20000 | "$TIDELOG" produce orderly >"$work/orderly" 2>&1 &
producer=$!
after 2000 "$cluster" stop gateway-1
after 5000 "$cluster" kill node-2
"$cluster" start gateway-1
"$cluster" start node-2
wait "$producer" || { cat "$work/orderly" >&2; exit 1; }
cat "$work/orderly"
"$TIDELOG" topic flush orderly --archive
"$TIDELOG" consume orderly --output value | sort -n >"$work/consumed"
seq 1 20000 | cmp - "$work/consumed" || fail "records are missing, or there twice"
"$TIDELOG" admin status >"$work/members"
[ "$(grep -c reachable "$work/members")" -ge 3 ] || { cat "$work/members" >&2; exit 1; }

if [ -z "${S3_ENDPOINT:-}" ]; then
    echo "--- a bucket that goes away while records come"
    "$cluster" kill s3
    seq 20001 30000 | "$TIDELOG" produce orderly
    "$cluster" start s3
    "$TIDELOG" topic flush orderly --archive
    "$TIDELOG" consume orderly --output value | sort -n >"$work/consumed"
    seq 1 30000 | cmp - "$work/consumed" || fail "records are missing, or there twice"
    "$TIDELOG" verify --bucket "$TIDELOG_BUCKET" | tail -n 1
fi

echo "--- a right that the policy lacks"
# The bucket is Tidelog's, another one is not: the probe has to say so.
if "$TIDELOG" bucket check --quick --bucket s3://another/place >"$work/denied" 2>&1; then
    fail "another bucket could be written"
fi
cat "$work/denied"
grep -q 's3:PutObject' "$work/denied" || fail "the probe does not name the right"

"$cluster" down
echo "--- flights"
if [ "${1:-200000}" != 0 ]; then
    TOPOLOGY=$cluster STATE=$work/flights "$root/tests/flights.sh" "${1:-200000}"
fi
echo "minio: done"
