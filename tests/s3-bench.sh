#!/usr/bin/env bash
# The measured lines over S3: against the S3 server of this repository, signatures checked, or the one that the environment
# names, through a TCP proxy that counts the calls, delays them and has some of them fail; docs/performance.md says what each
# line is for.
#
#   tests/s3-bench.sh [LINE ...] [--scale F]      default: all, about 7 minutes; all but `engine`, about 3
#
#   calls    1 GiB at 64 MiB a flush: <= 90 PUTs a GiB for segments, index parts and checkpoints, <= 40 more for the archive;
#            16 cold partitions read from segments and from the archive: <= 1 GET a MiB
#   latency  with 50 ms added to every call and 1% errors: p99 of acks=quorum <= 1.2 x the same run without, p99 of acks=object
#            <= 3 x 50 ms + flush.interval
#   flush    with the same: a tail of 1 GiB at >= 200 MB/s, or >= 0.8 x bare PUTs or the bare disk, whichever is least
#   engine   lone, many, steady and catchup of tests/bench.sh, without delay
#
# TMPDIR                    is on the disk that is measured
# TIDELOG_TEST_S3_ENDPOINT  another S3 server, such as http://10.0.0.1:9000, without TLS; with AWS_ACCESS_KEY_ID and the like. What
#                           is written to it stays, below s3-bench-*
# TIDELOG_TEST_S3_BUCKET    its bucket             default: tidelog
#
# Exits 101 if a target is missed.
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo test --locked --release -p tidelog-cli --test s3_bench -- "$@"
