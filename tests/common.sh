# shellcheck shell=bash
# What the scripts of tests/ have in common; sourced by them, after `set -euo pipefail`.
#
# What cannot be tested is said in a line `skipped: …`; .ci/run repeats those in its last lines. With CI=true nothing is skipped that
# could be installed.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
targets=${CARGO_TARGET_DIR:-$root/target}
self=${0##*/}

fail() { echo "tests/$self: $*" >&2; exit 1; }
skip() { echo "skipped: $*"; }
ok() { echo "ok: $*"; }

# at_exit FUNCTION: runs it when the script ends, with the exit status as its argument, and then removes $work; the status may
# be made worse by it, never better
at_exit() {
    last=$1
    trap finish EXIT
}
finish() {
    local status=$?
    trap - EXIT
    "$last" "$status" || status=1
    rm -rf "$work"
    exit "$status"
}

# installable COMMAND PACKAGE: whether the command is there, after its package of Debian was installed if need be; in CI it has to
# be. RUNLEVEL keeps Debian from starting services.
installable() {
    local path=$PATH:/usr/sbin:/sbin
    PATH=$path command -v "$1" >/dev/null && return
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        { apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "$2"; } >/dev/null 2>&1 || true
    fi
    PATH=$path command -v "$1" >/dev/null && return
    [ "${CI:-}" != true ] || fail "$1 is missing, and $2 cannot be installed"
    return 1
}

# virtual_environment NAME PACKAGE …: path of the programs of one that has them, made if it is not there or has others
virtual_environment() {
    local venv=$targets/$1
    shift
    if [ "$(cat "$venv/complete" 2>/dev/null)" != "$*" ]; then
        rm -rf "$venv"
        { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check "$@"; } >&2 || return 1
        echo "$*" >"$venv/complete"
    fi
    echo "$venv/bin"
}

# free_ports NUMBER: as many ports of loopback that nothing uses now. They are below those that outgoing connections get, any of
# which might take one before it is used, and each script looks in a part of its own, since several run beside each other.
free_ports() {
    python3 - "$1" "$$" <<'PYTHON'
import random, socket, sys
count, script = int(sys.argv[1]), int(sys.argv[2])
part = list(range(10_000 + script % 100 * 200, 10_200 + script % 100 * 200))
random.shuffle(part)
found = []
for port in part:
    try:
        socket.socket().bind(("127.0.0.1", port))
        found.append(port)
    except OSError:
        continue
    if len(found) == count:
        break
else:
    sys.exit("there are no free ports")
print(*found)
PYTHON
}

# sh_blocks FILE FOLDER: each block of a Markdown file that is marked `sh`, as a file by its number
sh_blocks() {
    mkdir -p "$2"
    awk -v folder="$2" '
        /^```sh$/ { number++; file = sprintf("%s/%02d.sh", folder, number); inside = 1; next }
        /^```$/ { inside = 0; next }
        inside { print > file }
    ' "$1"
}

# topology NAME NETWORK: sets up for minio/run-local.sh, which is $cluster afterwards, in a directory $work; when the script ends,
# so does the topology, with the last lines of its logs if something failed. TIDELOG and S3_SERVER are binaries that are built.
topology() {
    export TIDELOG=${TIDELOG:-$targets/debug/tidelog} S3_SERVER=${S3_SERVER:-$targets/debug/examples/s3-server}
    work=$(mktemp -d "${TMPDIR:-/tmp}/tidelog-$1.XXXXXX")
    export STATE=$work/topology NETWORK=${NETWORK:-$2}
    cluster=$root/minio/run-local.sh
    # For whoever sources this.
    # shellcheck disable=SC2034
    python=$("$root/tests/python.sh")
    at_exit end_topology
}
end_topology() {
    local ended=0
    "$cluster" down || ended=1
    if [ "$1$ended" != 00 ] && [ -d "$STATE/logs" ]; then tail -n 15 "$STATE"/logs/*.log >&2 || true; fi
    return "$ended"
}
