#!/usr/bin/env bash
# terraform/roll.sh rehearsed with three processes on this machine: it restarts all voters under load without a failed request,
# stops at one that does not come back, refuses while one is down; and after that the runbook of a lost volume (replace-node),
# with the lost voter's address and a new number. Needs jq, python3 and a built tidelog (TIDELOG, default target/debug/tidelog).
set -euo pipefail
# shellcheck source=tests/common.sh
. "$(dirname "$0")/common.sh"
cd "$root"

tidelog=$(realpath "${TIDELOG:-target/debug/tidelog}")
work=$(mktemp -d "${TMPDIR:-/tmp}/tidelog-roll.XXXXXX")
home=$work
mkdir "$home/bin"
ln -s "$tidelog" "$home/bin/tidelog"
export PATH="$home/bin:$PATH"

end_processes() {
    local pid
    for pid in "$home"/*.pid "$home"/producer; do
        [ -e "$pid" ] && kill -9 "$(cat "$pid")" 2>/dev/null || true
    done
    [ "$1" = 0 ] || tail -n 20 "$home"/*.log >&2 || true
}
at_exit end_processes

# For clients, operators and peers of four nodes.
read -ra ports < <(free_ports 12)
client() { echo "${ports[$(($1 * 3 - 3))]}"; }
admin() { echo "${ports[$(($1 * 3 - 2))]}"; }
peer() { echo "${ports[$(($1 * 3 - 1))]}"; }
nodes="1=127.0.0.1:$(peer 1),2=127.0.0.1:$(peer 2),3=127.0.0.1:$(peer 3)"
servers="http://127.0.0.1:$(client 1),http://127.0.0.1:$(client 2),http://127.0.0.1:$(client 3)"

# A command that starts node $1 in its place: what a machine does when it has booted. The place of node 4 is that of node 2.
cat >"$home/start" <<START
#!/bin/bash
set -euo pipefail
place=\$1
case \$1 in
$(for node in 1 2 3; do echo "$node) client=$(client $node) admin=$(admin $node) peer=$(peer $node) ;;"; done)
4) client=$(client 2) admin=$(admin 2) peer=$(peer 2) place=2 ;;
esac
echo "\$1" >>"$home/started"
nohup tidelog serve --node-id "\$1" --cluster "$nodes" --peer-listen "127.0.0.1:\$peer" --listen "127.0.0.1:\$client" \\
    --admin-listen "127.0.0.1:\$admin" --bucket "file://$home/bucket" --data-dir "$home/data-\$1" \\
    >>"$home/node-\$1.log" 2>&1 </dev/null &
echo \$! >"$home/\$place.pid"
START
chmod +x "$home/start"

# The output voters of the module, as for these processes.
voters() {
    jq -n '[$ARGS.positional | _nwise(3) | {node_id: .[0] | tonumber, instance_id: "i-\(.[0])", zone: .[1],
        admin_url: "http://127.0.0.1:\(.[2])", resource: "none"}]' --args "$@"
}
voters 1 a "$(admin 1)" 2 b "$(admin 2)" 3 c "$(admin 3)" >"$home/voters.json"

roll() { ROLL_VOTERS="$home/voters.json" ROLL_RESTART="$home/start" ROLL_STEADY=2 ROLL_PATIENCE=8 terraform/roll.sh "$@"; }
pids() { cat "$home"/{1,2,3}.pid; }
# Whether the node of that process id runs: one that nobody has reaped yet does not, nor does another process that got its number.
runs() { grep -aq -- "$home" "/proc/$1/cmdline" 2>/dev/null; }
# Whether the cluster is well: then roll.sh gets as far as finding that there is no node 9.
well() {
    local said
    said=$(roll restart 9 2>&1) && return 1
    [[ $said == *"there is no voter 9"* ]]
}
wait_well() {
    local _
    for _ in $(seq 120); do
        if well; then return; fi
        sleep 0.5
    done
    fail "the cluster did not become well: $(roll restart 9 2>&1)"
}

mkdir "$home/bucket"
for node in 1 2 3; do "$home/start" $node; done
wait_well
tidelog topic create numbers --server "$servers" >/dev/null

# One request after the other, each of which must be acknowledged.
(
    echo "$BASHPID" >"$home/producer"
    trap 'exit 0' TERM
    while :; do
        if echo x | tidelog produce numbers --server "$servers" >/dev/null 2>>"$home/produce.log"; then
            echo y >>"$home/acknowledged"
        else
            echo n >>"$home/failed"
        fi
    done
) &
producer=$!

before=$(pids)
: >"$home/started"
roll restart
[ "$(sort "$home/started" | tr '\n' ' ')" = "1 2 3 " ] || fail "each voter was to be started once: $(cat "$home/started")"
for pid in $before; do
    if runs "$pid"; then fail "process $pid of before still runs"; fi
done
kill "$producer"
wait "$producer" || true
[ ! -e "$home/failed" ] || fail "$(wc -l <"$home/failed") requests failed: $(cat "$home/produce.log")"
acknowledged=$(wc -l <"$home/acknowledged")
stored=$(tidelog consume numbers --server "$servers" --output value | wc -l)
# The request that was under way when the producer was ended may be there or not.
[ "$acknowledged" -gt 0 ] && [ "$stored" -ge "$acknowledged" ] && [ "$stored" -le $((acknowledged + 1)) ] ||
    fail "$acknowledged records were acknowledged and $stored are there"
ok "all voters were restarted under load, and $acknowledged records are there"

: >"$home/started"
status=0
said=$(ROLL_RESTART=true ROLL_TIMEOUT=5 ROLL_PATIENCE=30 ROLL_VOTERS="$home/voters.json" terraform/roll.sh 2>&1) || status=$?
[ "$status" = 1 ] || fail "a voter that does not come back is an error: $said"
grep -q "did not come back well" <<<"$said" || fail "not told which voter is away: $said"
[ "$(grep -c draining <<<"$said")" = 1 ] || fail "went on with another voter: $said"
ok "it stops at a voter that does not come back"

status=0
said=$(roll 2>&1) || status=$?
[ "$status" = 1 ] && grep -q "nothing is restarted" <<<"$said" && ! grep -q draining <<<"$said" ||
    fail "not refused while a voter is down: $said"
[ ! -s "$home/started" ] || fail "a voter was restarted while another one is down"
ok "it refuses while a voter is down: $(sed -n 2p <<<"$said")"

down=
for node in 1 2 3; do runs "$(cat "$home/$node.pid")" || down=$down$node; done
grep -q "goes on with it: roll.sh restart $down\$" <<<"$said" || fail "not told what goes on with node $down: $said"
status=0
said=$(roll restart $((down % 3 + 1)) 2>&1) || status=$?
[ "$status" = 1 ] && grep -q "nothing is restarted" <<<"$said" || fail "another voter was restarted while $down is down: $said"
[ ! -s "$home/started" ] || fail "a voter was restarted while another one is down"
roll restart "$down"
[ "$(cat "$home/started")" = "$down" ] || fail "node $down alone was to be started: $(cat "$home/started")"
wait_well
ok "named, the voter that is down is started, and no other may be"

# Killed where it does the most harm: a voter is drained, and nobody has started it again.
printf '#!/bin/sh\nkill -9 $PPID\n' >"$home/killed"
chmod +x "$home/killed"
: >"$home/started"
status=0
said=$(ROLL_RESTART="$home/killed" ROLL_STEADY=2 ROLL_VOTERS="$home/voters.json" terraform/roll.sh restart 2>&1) || status=$?
[ "$status" = 137 ] && [ "$(grep -c draining <<<"$said")" = 1 ] || fail "it was to be killed after draining one voter ($status): $said"
status=0
said=$(roll 2>&1) || status=$?
again=$(sed -n 's/.*goes on with it: roll.sh //p' <<<"$said")
[ "$status" = 1 ] && [ -n "$again" ] || fail "not told how to go on after being killed: $said"
# shellcheck disable=SC2086
roll $again
wait_well
[ "restart $(cat "$home/started")" = "$again" ] || fail "only $again was to be started: $(cat "$home/started")"
ok "killed between draining and restarting, it is told how to go on, and does"

# README, "A lost volume": the voter comes back empty, under a new number, with its address.
kill -9 "$(cat "$home/2.pid")"
rm -rf "$home/data-2"
status=0
timeout 60 tidelog serve --node-id 2 --cluster "$nodes" --peer-listen "127.0.0.1:$(peer 2)" --listen "127.0.0.1:$(client 2)" \
    --admin-listen "127.0.0.1:$(admin 2)" --bucket "file://$home/bucket" --data-dir "$home/data-2" >"$home/refused.log" 2>&1 || status=$?
[ "$status" != 0 ] && [ "$status" != 124 ] && grep -q replace-node "$home/refused.log" ||
    fail "the old number with an empty directory was not refused ($status): $(cat "$home/refused.log")"
"$home/start" 4
tidelog admin replace-node 2 4 "127.0.0.1:$(peer 2)" --admin-server "http://127.0.0.1:$(admin 1),http://127.0.0.1:$(admin 3)"
voters 1 a "$(admin 1)" 4 b "$(admin 2)" 3 c "$(admin 3)" >"$home/voters.json"
wait_well
again=$(tidelog consume numbers --server "$servers" --output value | wc -l)
[ "$again" = "$stored" ] || fail "$stored records were there before the volume was lost, and $again are now"
ok "a lost volume is replaced under a new number, at the same address"

roll restart 4
ok "the new voter is restarted like the others"
echo "roll: done"
