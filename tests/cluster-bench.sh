#!/usr/bin/env bash
# The measured lines of a cluster of three nodes on this machine; docs/performance.md says what each is for.
#
#   tests/cluster-bench.sh [LINE ...] [--scale F]      default: all, about 7 minutes
#
#   failover  leader killed under load, 20 times: p50 <= 1.8 x the longest election timeout, worst <= 2 x it + 1 s
#   transfer  leadership moved under load, 20 times: no failed request, no pause over 300 ms
#   drain     leader drained under load, 10 times: the same
#   many      64 connections, one 256 B record a request, by way of the leader, another node, a gateway: >= 0.4 x the rate of one node
#   large     1 MiB record batches, 4 connections, the same ways: >= 0.3 x the rate of one node
#   behind    a follower back after 1 GB: producers keep >= 0.7 x their rate
#   traffic   bytes between the nodes per byte acknowledged: <= 2.1 by way of the leader, <= 3.2 of another node, or a gateway
#   idle      10,000 partitions, idle and each written once a second: reported
#
# TMPDIR is on the disk that is measured. Exits 101 if a target is missed.
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo test --locked --release -p tidelog-cli --test cluster_bench -- "$@"
