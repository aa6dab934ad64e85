#!/usr/bin/env bash
# Prints the path of a Python that can import duckdb, the independent reader of the tests: the one of the virtual
# environment under target/, which is made if it is not there.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
venv=${CARGO_TARGET_DIR:-$root/target}/python
if ! "$venv/bin/python" -c 'import duckdb' 2>/dev/null; then
    {
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check 'duckdb>=1.1'
    } >&2
fi
echo "$venv/bin/python"
