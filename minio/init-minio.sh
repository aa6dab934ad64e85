#!/bin/sh
# Makes the bucket and the user of Tidelog in MinIO, who may do what policy.json says and nothing else. May be run again.
set -eu

here=$(dirname "$0")
mc --quiet alias set s3 http://s3:9000 "$MINIO_ROOT_USER" "$MINIO_ROOT_PASSWORD" >/dev/null
mc --quiet mb --ignore-existing s3/tidelog
mc --quiet admin policy create s3 tidelog "$here/policy.json"
mc --quiet admin user add s3 "$TIDELOG_S3_USER" "$TIDELOG_S3_PASSWORD"
# Attaching what is attached is an error to mc; what counts is that it is attached afterwards.
mc --quiet admin policy attach s3 tidelog --user "$TIDELOG_S3_USER" ||
    mc --quiet admin user info s3 "$TIDELOG_S3_USER" | grep -q tidelog
