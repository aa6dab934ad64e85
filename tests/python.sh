#!/usr/bin/env bash
# Prints the path of a Python that can import duckdb, the independent reader of the tests, and yaml: the one of the virtual
# environment under target/, which is made if it is not there. DuckDB's reader of S3 comes from a package beside it, since
# DuckDB itself would fetch it from elsewhere; the versions have to agree.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
venv=${CARGO_TARGET_DIR:-$root/target}/python
if ! "$venv/bin/python" -c 'import duckdb, duckdb_ext, yaml' 2>/dev/null; then
    {
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check duckdb==1.4.4 'duckdb-ext-httpfs>=1.4.4,<1.4.5' 'pyyaml>=6'
    } >&2
fi
echo "$venv/bin/python"
