#!/usr/bin/env bash
# Dashboards and alerts: promtool's checks and the tests of the rules, then every rule and every query of a dashboard against the
# metrics of a running topology (minio/run-local.sh) that has done some work; where Prometheus is installed it scrapes that
# topology, and has to load the rules and to have something for every query.
#
#   tests/monitoring.sh [static]    static: only what needs no processes, with src/metrics for the metrics
#
# TIDELOG, S3_SERVER   as tests/minio.sh takes them
set -euo pipefail

# shellcheck source=tests/common.sh
. "$(dirname "$0")/common.sh"
topology monitoring 79

if installable promtool prometheus; then
    promtool check rules "$root"/monitoring/rules/*.yml
    promtool test rules "$root/monitoring/rules.test.yml"
    # The rules are where the settings say only in a container.
    sed "s#/etc/prometheus/rules#$root/monitoring/rules#" "$root/minio/prometheus.yml" >"$work/prometheus.yml"
    promtool check config "$work/prometheus.yml"
else
    skip "the rules of alerts: promtool is not installed"
fi
"$python" "$root/tests/monitoring.py" source
[ "${1:-}" != static ] || exit 0

"$cluster" up --detach
eval "$("$cluster" env)"
work_a_little() { # every part of the cluster does something, again and again until what is measured has changed
    seq 1 "$1" | "$TIDELOG" produce numbers --create --partitions 6 >/dev/null
    "$TIDELOG" topic flush numbers --archive >/dev/null
    "$TIDELOG" consume numbers --output value | tail -n 1 >/dev/null
}
work_a_little 20000
if [ -n "${PROMETHEUS:-}" ]; then
    # Rates need changes between two scrapes.
    while [ ! -f "$work/enough" ]; do work_a_little 2000; done &
    worker=$!
fi
endpoints=()
IFS=, read -r -a nodes <<<"$TIDELOG_ADMIN_SERVER"
for url in "${nodes[@]}" ${TIDELOG_GATEWAYS//,/ }; do endpoints+=("$url/metrics"); done
failed=0
"$python" "$root/tests/monitoring.py" "${endpoints[@]}" || failed=1
touch "$work/enough"
[ -z "${worker:-}" ] || wait "$worker"
[ "$failed" -eq 0 ] || exit 1
if [ -n "${PROMETHEUS:-}" ]; then
    # What is wrong has to be noticed, through the labels that series really have in Prometheus.
    "$cluster" kill node-3
    if [ -z "${S3_ENDPOINT:-}" ]; then
        "$cluster" kill s3
        seq 1 1000 | "$TIDELOG" produce numbers >/dev/null
        "$python" "$root/tests/monitoring.py" pending TidelogProcessGone TidelogMemberAway TidelogBucketAway
        "$cluster" start s3
    else
        "$python" "$root/tests/monitoring.py" pending TidelogProcessGone TidelogMemberAway
    fi
    "$cluster" start node-3
fi
echo "monitoring: done"
