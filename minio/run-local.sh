#!/usr/bin/env bash
# The topology of compose.yaml as processes of this machine, where there are no containers: three nodes, two gateways behind a
# load balancer and a compactor, against any S3 endpoint, or a small S3 server of this repository if none is given.
#
#   minio/run-local.sh up [--detach]     starts what is not running, in order; without --detach until Ctrl-C
#   minio/run-local.sh down              ends all of it in the reverse order; the data stays
#   minio/run-local.sh start NAME…       starts services that were ended, and waits until they are healthy
#   minio/run-local.sh stop NAME…        ends services as `docker compose stop` would; kill NAME… as a crash would
#   minio/run-local.sh status            what runs where
#   minio/run-local.sh env               the variables that tidelog's commands need, for eval
#
# Commands, environment, order and health checks are those of compose.yaml. Each service has an address of its own in
# 127.0.0.0/8 and keeps its ports, so this needs Linux. Without haproxy there is no load balancer: TIDELOG_SERVER names both
# gateways then, and the client goes on with the other one when one is away. Prometheus runs too if it is installed.
#
# STATE         directory of data, logs and process ids    default: target/local
# TIDELOG       the binary                                 default: target/release/tidelog, else target/debug/tidelog
# S3_SERVER     the S3 server to start                     default: target/debug/examples/s3-server (or release)
# S3_ENDPOINT   an S3 endpoint that is there already, with TIDELOG_S3_USER and TIDELOG_S3_PASSWORD, and the bucket `tidelog`
# NETWORK       second number of the addresses             default: 77, so 127.77.0.1 and so on
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
built() { # PATH: of the release build if there is one, else of the other
    local profile
    for profile in release debug; do
        if [ -x "${CARGO_TARGET_DIR:-$root/target}/$profile/$1" ]; then
            echo "${CARGO_TARGET_DIR:-$root/target}/$profile/$1"
            return
        fi
    done
    echo "run-local: $1 is not built: cargo build && cargo build -p tidelog-cli --example s3-server" >&2
    exit 1
}
TIDELOG=${TIDELOG:-$(built tidelog)}
[ -n "${S3_ENDPOINT:-}" ] || S3_SERVER=${S3_SERVER:-$(built examples/s3-server)}
STATE=${STATE:-${CARGO_TARGET_DIR:-$root/target}/local}
export TIDELOG S3_SERVER STATE
python=python3
"$python" -c 'import yaml' 2>/dev/null || python=$("$root/tests/python.sh")
exec "$python" "$here/local.py" "$@"
