#!/bin/sh
# SeaweedFS with an administrator, and a user of Tidelog who may read, write and list its bucket alone.
set -eu

cat >/tmp/s3.json <<JSON
{"identities": [
  {"name": "root", "credentials": [{"accessKey": "$SEAWEEDFS_ROOT_USER", "secretKey": "$SEAWEEDFS_ROOT_PASSWORD"}], "actions": ["Admin"]},
  {"name": "tidelog", "credentials": [{"accessKey": "$TIDELOG_S3_USER", "secretKey": "$TIDELOG_S3_PASSWORD"}],
   "actions": ["Read:tidelog", "Write:tidelog", "List:tidelog"]}
]}
JSON
# The bucket, as soon as there is a server to make it in; that it is there already is no failure.
(
    until echo "s3.bucket.create -name tidelog" | weed shell -master=127.0.0.1:9333 2>/dev/null | grep -qi 'bucket\|exist'; do
        sleep 1
    done
) &
exec weed server -dir=/data -ip.bind=0.0.0.0 -s3 -s3.port=9000 -s3.config=/tmp/s3.json
