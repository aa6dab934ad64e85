#!/bin/bash
# Restarts or replaces the voters of a cluster, one at a time, without a record or a vote lost.
#
# usage: roll.sh [restart|replace] [NODE …]
#
# restart   drains a voter and reboots its machine: it comes up with the image and the settings that were applied last
# replace   drains a voter and has Terraform make its machine anew (a new AMI, another instance type); its address and its
#           volume stay
#
# NODE are node ids; without any, all voters in turn, those that lead the most last. It begins with nothing, and goes on with
# the next voter, only while the whole cluster is well: every shard has a leader that hears of every voter, every voter of the
# list votes and takes connections, and none is behind by more than ROLL_LAG entries. So it refuses when one is down already, and stops when one does
# not come back: then at most that one is away. It may be run again at any time. If a run was interrupted after it drained a voter,
# `roll.sh restart NODE` (or replace) with that voter alone goes on with it, if it is the only one that is away.
#
# It needs tidelog, jq and terraform (run it where the module is applied), and aws for restart. The voters' ports for operators
# have to be reachable (operator_cidr_blocks); TIDELOG_TOKEN and TIDELOG_CA are used as by tidelog admin.
#
# ROLL_VOTERS   file with the output voters as JSON             default: terraform output -json voters
# ROLL_MODULE   what the root module calls this one             default: module.tidelog
# ROLL_TIMEOUT  seconds for a voter to come back and catch up   default: 1800
# ROLL_PATIENCE seconds for a cluster that is not well to become so by itself, as after a change of leaders    default: 30
# ROLL_LAG      entries that count as caught up                 default: 1000
# ROLL_STEADY   looks in a row that must find all well          default: 3
# ROLL_RESTART  command that restarts a voter instead, with its node id and its instance as arguments
# ROLL_REPLACE  the same for replace
set -euo pipefail

mode=restart
case ${1:-} in
    restart | replace) mode=$1; shift ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
esac
timeout=${ROLL_TIMEOUT:-1800}
patience=${ROLL_PATIENCE:-30}
most_lag=${ROLL_LAG:-1000}
steady=${ROLL_STEADY:-3}
module=${ROLL_MODULE-module.tidelog}
# Seconds between two looks, and for a process to end that was drained.
look=1
drain_timeout=120

say() { printf '%(%H:%M:%S)T %s\n' -1 "$*"; }
fail() { printf 'roll: %s\n' "$*" >&2; exit 1; }

for tool in tidelog jq; do
    command -v "$tool" >/dev/null || fail "$tool is missing"
done
if [ -n "${ROLL_VOTERS:-}" ]; then
    voters=$(cat "$ROLL_VOTERS")
else
    voters=$(terraform output -json voters)
fi
count=$(jq length <<<"$voters")
[ "$count" -ge 3 ] || fail "there are $count voters: with fewer than three none can be away"

# of NODE FIELD
of() { jq -er --argjson node "$1" ".[] | select(.node_id == \$node) | .$2" <<<"$voters"; }
urls() { jq -r '[.[].admin_url] | join(",")' <<<"$voters"; }
status() { timeout 20 tidelog admin status --json --admin-server "$1" 2>/dev/null; }
# listens NODE: whether anything takes connections where its port for operators is; tidelog itself would try for half a minute
listens() {
    local address
    address=$(of "$1" admin_url)
    address=${address#*://}
    # shellcheck disable=SC2016
    timeout 5 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "${address%:*}" "${address##*:}" 2>/dev/null
}

# unwell [AWAY]: what is wrong with a cluster, one finding a line; nothing if all is well. Reads the status of any of its nodes. The
# node AWAY may be away, and nothing else may be wrong.
unwell() {
    jq -r --argjson voters "$voters" --argjson most "$most_lag" --argjson away "${1:-null}" '
        .cluster as $cluster
        | if ($cluster.shards | type) != "array" or ($cluster.shards | length) == 0 then
            "the shards are not known: \($cluster.failed // "no answer")"
          else
            ($cluster.shards[] | . as $shard
                | (if .leader == null then "shard \(.shard) has no leader" else empty end),
                  (if .health != "good" and ($away == null or .health != "degraded") then "shard \(.shard) is \(.health)" else empty end),
                  ($voters[].node_id | select(. != $away) | . as $node
                    | [$shard.members[] | select(.node == $node)] as $found
                    | if ($found | length) == 0 or ($found[0].voter | not) then "node \($node) does not vote in shard \($shard.shard)"
                      elif $found[0].reachable != true then "node \($node) is away from shard \($shard.shard)"
                      elif ($found[0].lag == null) or ($found[0].lag > $most) then "node \($node) is \($found[0].lag // "?") entries behind in shard \($shard.shard)"
                      else empty end)),
            ([$cluster.members[] | select(.voter)] | length) as $voting
            | if $voting != ($voters | length) then "\($voting) nodes vote, and the list has \($voters | length)" else empty end
          end'
}

# absent [AWAY]: which voters take no connections. A leader may take some seconds to notice that one is gone.
absent() {
    local node
    for node in $(jq -r '.[].node_id' <<<"$voters"); do
        [ "$node" = "${1:-}" ] || listens "$node" || echo "node $node takes no connections at $(of "$node" admin_url)"
    done
}

# well [AWAY]: whether the whole cluster is, but for the node AWAY, as several looks in a row say; prints what is not
well() {
    local looks found now
    for ((looks = 0; looks < steady; looks++)); do
        [ "$looks" = 0 ] || sleep "$look"
        found=$(absent "$@")
        [ -z "$found" ] || { echo "$found"; return 1; }
        now=$(status "$(urls)") || { echo "no voter answers"; return 1; }
        found=$(unwell "$@" <<<"$now") || { echo "the status is not understood"; return 1; }
        [ -z "$found" ] || { echo "$found"; return 1; }
    done
}

# settled [AWAY]: the same, with some patience: leaderships are spread again after each restart, and a new leader has not heard of
# everybody yet
settled() {
    local found deadline=$((SECONDS + patience))
    until found=$(well "$@"); do
        [ "$SECONDS" -lt "$deadline" ] || { echo "$found"; return 1; }
        sleep "$look"
    done
}

# until_well NODE: waits until the voter itself answers and the cluster is well
until_well() {
    local node=$1 url deadline=$((SECONDS + timeout)) found=""
    url=$(of "$node" admin_url)
    while [ "$SECONDS" -lt "$deadline" ]; do
        if [ "$(status "$url" | jq -r .node_id)" = "$node" ]; then
            found=$(well) && return
        else
            found="it does not answer at $url"
        fi
        sleep "$look"
    done
    fail "node $node did not come back well within $timeout s; nothing else was touched: $found"
}

# ended NODE: waits until a drained process is gone
ended() {
    local deadline=$((SECONDS + drain_timeout))
    while listens "$1"; do
        [ "$SECONDS" -lt "$deadline" ] || fail "node $1 was drained and still runs after $drain_timeout s"
        sleep "$look"
    done
}

restart() {
    local node=$1 instance
    instance=$(of "$node" instance_id)
    if [ "$mode" = restart ] && [ -n "${ROLL_RESTART:-}" ]; then
        $ROLL_RESTART "$node" "$instance"
    elif [ "$mode" = replace ] && [ -n "${ROLL_REPLACE:-}" ]; then
        $ROLL_REPLACE "$node" "$instance"
    elif [ "$mode" = restart ]; then
        aws ec2 reboot-instances --instance-ids "$instance"
    else
        # The old machine must let itself be ended; the new one is protected again by the same apply. If a run before this one got
        # further there is no old one any more; if it is there and stays protected, apply fails and says so.
        aws ec2 modify-instance-attribute --instance-id "$instance" --no-disable-api-termination ||
            say "node $node: the protection of $instance is not taken off; going on"
        local resource
        resource="${module:+$module.}$(of "$node" resource)"
        terraform apply -auto-approve -input=false -replace="$resource" -target="${resource%.aws_instance.this}"
        [ -n "${ROLL_VOTERS:-}" ] || voters=$(terraform output -json voters)
    fi
}

# Voters by how many shards they lead, the fewest first: each leadership moves as seldom as can be.
order() {
    status "$(urls)" | jq -r --argjson voters "$voters" '
        .cluster.shards as $shards
        | $voters | sort_by(.node_id as $node | [$shards[] | select(.leader == $node)] | length) | .[].node_id'
}

# gone NODE: whether it is the only one that is away, as a drained voter is that nobody started again
gone() { ! listens "$1" && settled "$1" >/dev/null; }

# refuse FINDINGS: ends; if an earlier run may have been interrupted, with what goes on with it
refuse() {
    local node hint=
    for node in $(jq -r '.[].node_id' <<<"$voters"); do
        if gone "$node"; then
            hint="
if an earlier run left node $node behind, this goes on with it: roll.sh $mode $node"
        fi
    done
    fail "$1$hint"
}

drained=
if ! found=$(settled); then
    if [ $# = 1 ] && of "$1" admin_url >/dev/null && gone "$1"; then
        drained=$1
    else
        refuse "the cluster is not well, so nothing is restarted:
$found"
    fi
fi
if [ $# -gt 0 ]; then nodes=$*; else nodes=$(order); fi
[ "$(wc -w <<<"$nodes")" -gt 0 ] || fail "the leaders are not known"
for node in $nodes; do
    of "$node" admin_url >/dev/null || fail "there is no voter $node"
done

for node in $nodes; do
    trap 'fail "interrupted; if node $node does not come back by itself, this goes on with it: roll.sh $mode $node"' INT TERM
    if [ "$node" = "$drained" ]; then
        say "node $node: is away already, and nothing else is wrong"
    else
        found=$(settled) || refuse "the cluster is not well, so node $node is not restarted:
$found"
        say "node $node: draining"
        tidelog admin drain --admin-server "$(of "$node" admin_url)"
        ended "$node"
    fi
    say "node $node: $mode"
    restart "$node"
    until_well "$node"
    say "node $node: back, and all are well"
done
say "done: $(wc -w <<<"$nodes") voters"
