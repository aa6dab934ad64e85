#!/usr/bin/env bash
# Executes the commands of the README as a reader would: every block marked `sh`, in order, in one empty directory.
#
# `cargo run --release --` is replaced by a binary that is built already (TIDELOG, default target/debug/tidelog), the block
# that starts the server or the cluster runs in the background, and pip installs into the tests' virtual environment. Each block has to
# succeed, and the outputs have to hold what the README shows them for.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
binary=${TIDELOG:-$root/target/debug/tidelog}
[ -x "$binary" ] || { echo "readme: no binary $binary: run cargo build" >&2; exit 1; }
python=$("$root/tests/python.sh")
work=$(mktemp -d "${TMPDIR:-/tmp}/tidelog-readme.XXXXXX")
server=
cleanup() {
    status=$?
    if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then
        kill -TERM "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    [ "$status" -eq 0 ] || tail -n 20 "$work/serve.log" >&2 || true
    rm -rf "$work"
    exit "$status"
}
trap cleanup EXIT

mkdir "$work/bin" "$work/blocks" "$work/home"
# Stands for cargo: only the form that the README uses.
cat >"$work/bin/cargo" <<'SHIM'
#!/usr/bin/env bash
[ "$1 $2 $3" = "run --release --" ] || { echo "cargo: the README uses only cargo run --release --" >&2; exit 2; }
shift 3
exec "$TIDELOG_BINARY" "$@"
SHIM
chmod +x "$work/bin/cargo"
export TIDELOG_BINARY=$binary
PATH=$work/bin:$(dirname "$python"):$PATH

awk -v folder="$work/blocks" '
    /^```sh$/ { number++; file = sprintf("%s/%02d.sh", folder, number); inside = 1; next }
    /^```$/ { inside = 0; next }
    inside { print > file }
' "$root/README.md"

cd "$work/home"
count=0
for block in "$work"/blocks/*.sh; do
    count=$((count + 1))
    echo "--- README block $count"
    cat "$block"
    if grep -Eq -- '-- (serve|dev-cluster .*)$' "$block"; then
        # What the block before the cluster stopped gives its port back by its end.
        [ -z "$server" ] || wait "$server" || { echo "readme: the server did not stop cleanly" >&2; exit 1; }
        # Alone in its block, so that a signal reaches it and no shell.
        [ "$(wc -l <"$block")" -eq 1 ] || { echo "readme: a block that starts a server has one line" >&2; exit 1; }
        bash -euo pipefail -c "exec $(cat "$block")" >"$work/serve.out" 2>"$work/serve.log" </dev/null &
        server=$!
        ports=7070
        ! grep -q dev-cluster "$block" || ports="7070 7080 7090"
        for port in $ports; do
            tries=0
            until curl --silent --fail --max-time 5 --output /dev/null "http://127.0.0.1:$port/readyz"; do
                kill -0 "$server" 2>/dev/null || { echo "readme: the server ended" >&2; exit 1; }
                tries=$((tries + 1))
                [ "$tries" -lt 600 ] || { echo "readme: the server is not ready after a minute" >&2; exit 1; }
                sleep 0.1
            done
        done
        cat "$work/serve.out"
    else
        bash -euo pipefail "$block" </dev/null 2>&1 | tee "$work/out.$count"
        if grep -q '"error"' "$work/out.$count"; then
            echo "readme: block $count answered an error" >&2
            exit 1
        fi
    fi
done
[ "$count" -ge 5 ] || { echo "readme: only $count blocks were found" >&2; exit 1; }
cat "$work"/out.* >"$work/all"
for needle in '"offset":0' '"duplicate":true' '"next_offset"' 'alice' 'archived' 'learner\|voter'; do
    grep -q -- "$needle" "$work/all" || { echo "readme: nothing shows $needle" >&2; exit 1; }
done
# The cluster, as Ctrl-C would.
kill -TERM "$server"
wait "$server" || { echo "readme: the cluster did not stop cleanly" >&2; exit 1; }
server=
echo "README: $count blocks executed"
