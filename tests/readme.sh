#!/usr/bin/env bash
# Executes the commands of the README as a reader would: every block marked `sh`, in order, in one empty directory.
#
# `cargo run --release --` is replaced by a binary that is built already (TIDELOG, default target/debug/tidelog), the block
# that starts the server or the cluster runs in the background, and pip installs into the tests' virtual environment. Each block has to
# succeed, and the outputs have to hold what the README shows them for.
set -euo pipefail

# shellcheck source=tests/common.sh
. "$(dirname "$0")/common.sh"
binary=${TIDELOG:-$root/target/debug/tidelog}
[ -x "$binary" ] || fail "no binary $binary: run cargo build"
python=$("$root/tests/python.sh")
work=$(mktemp -d "${TMPDIR:-/tmp}/tidelog-readme.XXXXXX")
server=
end_server() {
    if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then
        kill -TERM "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    [ "$1" = 0 ] || tail -n 20 "$work/serve.log" >&2 || true
}
at_exit end_server

mkdir "$work/bin" "$work/home"
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

sh_blocks "$root/README.md" "$work/blocks"

cd "$work/home"
count=0
for block in "$work"/blocks/*.sh; do
    count=$((count + 1))
    echo "--- README block $count"
    cat "$block"
    if grep -Eq -- '-- (serve|dev-cluster .*)$' "$block"; then
        # What the block before the cluster stopped gives its port back by its end.
        [ -z "$server" ] || wait "$server" || fail "the server did not stop cleanly"
        # Alone in its block, so that a signal reaches it and no shell.
        [ "$(wc -l <"$block")" -eq 1 ] || fail "a block that starts a server has one line"
        bash -euo pipefail -c "exec $(cat "$block")" >"$work/serve.out" 2>"$work/serve.log" </dev/null &
        server=$!
        ports=7070
        ! grep -q dev-cluster "$block" || ports="7070 7080 7090"
        for port in $ports; do
            tries=0
            until curl --silent --fail --max-time 5 --output /dev/null "http://127.0.0.1:$port/readyz"; do
                kill -0 "$server" 2>/dev/null || fail "the server ended"
                tries=$((tries + 1))
                [ "$tries" -lt 600 ] || fail "the server is not ready after a minute"
                sleep 0.1
            done
        done
        cat "$work/serve.out"
    else
        bash -euo pipefail "$block" </dev/null 2>&1 | tee "$work/out.$count"
        if grep -q '"error"' "$work/out.$count"; then
            fail "block $count answered an error"
        fi
    fi
done
[ "$count" -ge 5 ] || fail "only $count blocks were found"
cat "$work"/out.* >"$work/all"
for needle in '"offset":0' '"duplicate":true' '"next_offset"' 'alice' 'archived' 'learner\|voter'; do
    grep -q -- "$needle" "$work/all" || fail "nothing shows $needle"
done
# The cluster, as Ctrl-C would.
kill -TERM "$server"
wait "$server" || fail "the cluster did not stop cleanly"
server=
echo "README: $count blocks executed"
