#!/usr/bin/env bash
# Everything about terraform/ that can be known without an account of AWS: format, validity, the module's own tests (with AWS
# mocked), the scripts of the machines, a scan, an apply and destroy of examples/complete against an emulator (moto server), and
# roll.sh and the runbook of a lost volume with processes.
#
#   tests/terraform.sh [PART …]     parts: static, scripts, unit, scan, emulated, roll; all of them by default
#
# TIDELOG         the binary                                    default: target/debug/tidelog
# TF_PLUGIN_DIR   directory of providers                        default: where Terraform and its images keep them
# CI=true         nothing is skipped that can be installed
#
# Needs terraform with the provider hashicorp/aws 5.x; without them the parts that need them are skipped. Most of the time is
# waiting: for the provider, which polls what it made, and for processes. So three lanes of parts run beside each other, and what
# a lane said is printed when it has ended. The last lines list every skip.
set -euo pipefail

# shellcheck source=tests/common.sh
. "$(dirname "$0")/common.sh"
cd "$root"
parts=("$@")
[ $# -gt 0 ] || parts=(static scripts unit scan emulated roll)
tidelog=$(realpath -m "${TIDELOG:-target/debug/tidelog}")
work=$(mktemp -d "${TMPDIR:-/tmp}/tidelog-terraform.XXXXXX")
lanes=()
end_lanes() {
    local pid
    for pid in "${lanes[@]}"; do kill -- "-$pid" 2>/dev/null || true; done
    # They work in the directory that is removed next.
    wait
}
at_exit end_lanes

step() { printf '%s %(%H:%M:%S)T\n' "--- terraform: $*" -1; }

# The provider: Terraform's own places, and where images keep a mirror.
find_provider() {
    local directory
    for directory in "${TF_PLUGIN_DIR:-}" "$HOME/.terraform.d/plugins" /usr/local/share/terraform/plugins /usr/share/terraform/plugins /opt/*; do
        if [ -n "$directory" ] && [ -d "$directory/registry.terraform.io/hashicorp/aws" ]; then
            printf 'provider_installation {\n  filesystem_mirror {\n    path = "%s"\n  }\n}\n' "$directory" >"$work/terraform.rc"
            return
        fi
    done
    # None here: whatever Terraform does by itself.
    printf 'disable_checkpoint = true\n' >"$work/terraform.rc"
}

# Makes a copy of the module that is initialised, which is what is tested; without a provider $provider says why there is none.
provider=
prepare() {
    command -v terraform >/dev/null || { provider="there is no terraform"; return; }
    find_provider
    export TF_CLI_CONFIG_FILE=$work/terraform.rc CHECKPOINT_DISABLE=1 TF_IN_AUTOMATION=1
    mkdir "$work/module"
    git ls-files -z --cached --others --exclude-standard terraform | xargs -0 cp --parents -t "$work/module"
    if ! (cd "$work/module/terraform" && terraform init -backend=false -no-color) >"$work/init.log" 2>&1; then
        provider="there is no provider hashicorp/aws 5.x ($(grep -m1 '^Error' "$work/init.log" || tail -n 1 "$work/init.log"))"
    fi
}
# Whether there is one; if not, the part that is the argument is skipped.
has_provider() {
    [ -n "$provider" ] || return 0
    skip "$1: $provider"
    return 1
}

part_static() {
    local directory
    python3 tests/terraform/check.py readme terraform
    ok "the README has every input and output with type, default and description, and no others"
    python3 tests/terraform/check.py metrics terraform src/metrics/table.rs
    ok "every metric that is sent, scaled by or alarmed on exists"
    python3 tests/terraform/check.py runbooks terraform docs/operations.md
    ok "every alarm names a section of the runbook"
    bash -n terraform/roll.sh terraform/files/*.sh
    if installable shellcheck shellcheck; then
        shellcheck --severity=warning --external-sources terraform/roll.sh terraform/files/*.sh tests/{common,terraform,roll,minio,monitoring,readme}.sh tests/terraform/scripts.sh
        ok "shellcheck"
    else
        skip "shellcheck: not installed"
    fi
    has_provider "terraform fmt and validate" || return 0
    terraform fmt -check -recursive -diff terraform
    for directory in . examples/complete; do
        (cd "$work/module/terraform/$directory" && { terraform init -backend=false -no-color >/dev/null && terraform validate -no-color; })
    done
    ok "terraform fmt and validate"
}

part_unit() {
    has_provider "terraform test" || return 0
    if ! terraform version -json | jq -e '.terraform_version | split(".") | map(tonumber) >= [1, 11, 0]' >/dev/null; then
        skip "terraform test: it needs Terraform 1.11"
        return 0
    fi
    (cd "$work/module/terraform" && terraform test -no-color)
    ok "terraform test"
}

part_scripts() { tests/terraform/scripts.sh; }

start_emulator() {
    local port
    port=$(free_ports 1)
    "$1/python" "$root/tests/terraform/server.py" "$port" >"$work/moto.log" 2>&1 &
    emulator=$!
    # shellcheck disable=SC2064
    trap "kill $emulator 2>/dev/null || true" EXIT
    export AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_REGION=eu-central-1 AWS_DEFAULT_REGION=eu-central-1
    export AWS_EC2_METADATA_DISABLED=true AWS_MAX_ATTEMPTS=2
    unset AWS_PROFILE AWS_SESSION_TOKEN
    local _
    for _ in $(seq 120); do
        if curl -sf "$AWS_ENDPOINT_URL/moto-api/" -o /dev/null; then return; fi
        kill -0 "$emulator" 2>/dev/null || fail "the emulator ended: $(tail -n 5 "$work/moto.log")"
        sleep 0.5
    done
    fail "the emulator does not answer"
}

# plan FILE ARGUMENT …: a plan as JSON
plan() {
    local file=$1
    shift
    terraform plan -no-color -input=false -out="$work/plan" "$@" >"$work/plan.log" 2>&1 || fail "plan: $(cat "$work/plan.log")"
    terraform show -json "$work/plan" >"$file"
}

part_emulated() {
    has_provider "apply and destroy" || return 0
    local bin zone status script
    # Most of what is made waits for its own next poll.
    local wide=(-no-color -input=false -auto-approve -parallelism=40)
    bin=$(virtual_environment terraform-moto 'moto[server]==5.2.5' awscli) || {
        [ "${CI:-}" != true ] || fail "moto cannot be installed"
        skip "apply and destroy: moto cannot be installed"
        return 0
    }
    start_emulator "$bin"
    cd "$work/module/terraform/examples/complete"
    "$bin/python" "$root/tests/terraform/emulated.py" seed terraform.tfvars.json
    terraform init -no-color >/dev/null
    step "apply"
    timeout --foreground 600 terraform apply "${wide[@]}" >"$work/apply.log" 2>&1 || fail "apply: $(grep -A 12 '^Error' "$work/apply.log" || tail -n 20 "$work/apply.log")"
    grep '^Apply complete' "$work/apply.log"
    plan "$work/second.json"
    python3 "$root/tests/terraform/check.py" unchanged "$work/second.json"
    ok "a second plan is empty, but for what the emulator does not store"

    plan "$work/ami.json" -refresh=false -var "ami_id=$(jq -r .other_ami emulated.json)"
    python3 "$root/tests/terraform/check.py" only-fleets "$work/ami.json"
    ok "a new AMI and nothing else changes no voter"
    plan "$work/image.json" -refresh=false -var "image=$(jq -r .other_image emulated.json)"
    python3 "$root/tests/terraform/check.py" only-fleets "$work/image.json"
    ok "a new image changes no voter"
    "$bin/python" "$root/tests/terraform/emulated.py" look "$root/cli/src/command/cost/model.rs"
    ok "what the emulator has is what was asked for"
    for script in user-data-*.sh; do first_boot "$script"; done
    ok "first boots write scripts and units, and what failed is done again"

    step "settings of the machines"
    settings "$bin"

    step "destroy"
    status=0
    timeout --foreground 600 terraform destroy "${wide[@]}" >"$work/destroy.log" 2>&1 || status=$?
    [ "$status" != 0 ] && grep -q prevent_destroy "$work/destroy.log" || fail "destroy was not refused: $(tail -n 20 "$work/destroy.log")"
    for zone in a b c; do
        grep -q "aws_ebs_volume.wal\[\"eu-central-1$zone\"\] has lifecycle.prevent_destroy" <(tr -s ' \n' ' ' <"$work/destroy.log") ||
            fail "the volume of zone $zone is not guarded: $(cat "$work/destroy.log")"
    done
    [ "$(terraform state list | grep -c 'aws_instance.this')" = 3 ] || fail "a refused destroy destroyed something"
    ok "destroy is refused because of the volumes, and destroys nothing"
    for zone in a b c; do
        terraform state rm "module.tidelog.aws_ebs_volume.wal[\"eu-central-1$zone\"]" >/dev/null
    done
    timeout --foreground 600 terraform destroy "${wide[@]}" >"$work/destroy.log" 2>&1 || fail "destroy: $(grep -A 12 '^Error' "$work/destroy.log" || tail -n 20 "$work/destroy.log")"
    grep '^Destroy complete' "$work/destroy.log"
    "$bin/python" "$root/tests/terraform/emulated.py" gone
    ok "without the volumes everything is destroyed, and the volumes are still there"
}

# first_boot SCRIPT: a machine's user data, below a directory instead of / and with commands that only say what they were told; then
# its setup.sh, which the first time cannot install anything
first_boot() {
    local place=$work/boot/$1 command
    mkdir -p "$place"/{bin,etc/systemd/system}
    for command in systemctl dnf rpm; do
        printf '#!/bin/sh\necho "%s $*" >>%s/told\n%s\n' "$command" "$place" "$([ "$command" = systemctl ] || echo "[ -e $place/online ]")" >"$place/bin/$command"
        chmod +x "$place/bin/$command"
    done
    mkdir -p "$place/opt/aws/amazon-cloudwatch-agent/bin"
    printf '#!/bin/sh\ntrue\n' >"$place/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl"
    chmod +x "$place/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl"
    sed -E "s#(/etc/(tidelog|systemd)|/usr/local/lib/tidelog|/opt/aws)#$place\\1#g" "$1" >"$place/user-data"
    PATH=$place/bin:$PATH bash "$place/user-data" || fail "$1 failed"
    grep -q 'systemctl start --no-block tidelog-setup.service' "$place/told" || fail "$1 sets nothing up: $(cat "$place/told")"
    for command in "$place"/usr/local/lib/tidelog/*.sh; do bash -n "$command" || fail "$1: $command is no script"; done
    jq -e .logs.metrics_collected.prometheus "$place/etc/tidelog/agent.json" >/dev/null || fail "$1: the agent has no settings"
    cmp <(cat "$root/terraform/files/volume.sh"; echo) "$place/usr/local/lib/tidelog/volume.sh" || fail "$1 has another volume.sh"
    if PATH=$place/bin:$PATH "$place/usr/local/lib/tidelog/setup.sh"; then fail "$1: without packages setup.sh says that all is well"; fi
    if grep -q 'tidelog.service' "$place/told"; then fail "$1: tidelog was started without its packages"; fi
    touch "$place/online"
    PATH=$place/bin:$PATH "$place/usr/local/lib/tidelog/setup.sh" || fail "$1: setup.sh is not done again"
    grep -q 'systemctl start --no-block tidelog.service' "$place/told" || fail "$1: tidelog is not started: $(cat "$place/told")"
    units "$place/etc/systemd/system"
}

# units FOLDER: what systemd says of the units in it
units() {
    if ! installable systemd-analyze systemd; then
        skip "units of the machines: systemd-analyze is not installed"
        return
    fi
    printf '[Service]\nExecStart=/bin/true\n' >"$1/docker.service"
    sed -i -E 's#/usr/bin/(docker|chown|install|systemctl)#/bin/true#' "$1"/tidelog*.service
    systemd-analyze verify --man=no "$1"/tidelog*.{service,timer} >"$1/said" 2>&1 || true
    if grep -E 'tidelog[a-z-]*\.(service|timer)' "$1/said"; then fail "systemd does not take the units"; fi
}

# settings.sh with the emulator's parameters and secrets; what it writes is what tidelog takes.
settings() {
    local machine etc environment
    mkdir -p "$work/bin"
    printf '#!/bin/sh\nexit 0\n' >"$work/bin/docker"
    chmod +x "$work/bin/docker"
    for machine in voter-eu-central-1b gateway compactor; do
        etc=$work/etc-$machine
        mkdir -p "$etc"
        jq -r --arg machine "$machine" '.machines[$machine] | to_entries[] | "\(.key)=\(.value)"' emulated.json >"$etc/machine"
        PATH="$work/bin:$1:$PATH" TIDELOG_ETC="$etc" TIDELOG_USER=$(id -u) "$root/terraform/files/settings.sh" start 2>"$work/said" || fail "$(cat "$work/said")"
        [ "$(grep -c 'is new' "$work/said")" = 8 ] || fail "settings.sh: $(cat "$work/said")"
        grep -q 'TIDELOG__FLUSH__BYTES=64MiB' "$etc/environment" || fail "the settings of the example are not there"
        if [ -x "$tidelog" ]; then
            mapfile -t environment <"$etc/environment"
            env "${environment[@]}" "$tidelog" serve --check-config --config "$etc/tidelog.toml" >"$work/checked" 2>&1 || fail "$machine: $(cat "$work/checked")"
        fi
    done
    [ -x "$tidelog" ] || skip "the machines' settings were not read by tidelog: no binary $tidelog"
    ok "machines fetch their settings and secrets, and tidelog takes them"
}

part_scan() {
    local bin
    bin=$(virtual_environment terraform-checkov checkov==3.3.30) || {
        [ "${CI:-}" != true ] || fail "checkov cannot be installed"
        skip "scan: checkov cannot be installed"
        return 0
    }
    (cd terraform && "$bin/checkov" --config-file .checkov.yaml --directory . --quiet --compact --skip-download)
    ok "checkov; what it skips, and why, is in terraform/.checkov.yaml"
}

part_roll() {
    if [ ! -x "$tidelog" ]; then
        [ "${CI:-}" != true ] || fail "no binary $tidelog: run cargo build"
        skip "roll.sh: no binary $tidelog"
        return 0
    fi
    TIDELOG=$tidelog tests/roll.sh
}

# Parts that run one after the other, each lane in a process of its own.
lane() {
    local part
    for part in "$@"; do
        [[ " ${parts[*]} " == *" $part "* ]] || continue
        step "$part"
        (
            cd "$root"
            "part_$part"
        )
    done
}

for part in "${parts[@]}"; do
    declare -F "part_$part" >/dev/null || fail "there is no part $part"
done
installable jq jq || fail "jq is missing"
prepare
failed=
for number in 1 2 3; do
    case $number in
        1) members=(emulated) ;;
        2) members=(roll) ;;
        3) members=(static scripts unit scan) ;;
    esac
    # A process group each, so that what a lane started ends with it.
    set -m
    lane "${members[@]}" >"$work/lane.$number" 2>&1 </dev/null &
    lanes+=($!)
    set +m
done
# The shortest first.
for number in 3 2 1; do
    wait "${lanes[number - 1]}" || failed=$number
    cat "$work/lane.$number"
done
[ -z "$failed" ] || fail "failed"

echo "--- terraform: skipped"
sed -n 's/^skipped: //p' "$work"/lane.* >"$work/skipped"
if [ -s "$work/skipped" ]; then cat "$work/skipped"; else echo "nothing"; fi
echo "$(cat "$work"/lane.* | grep -c '^ok: ') passed, 0 failed, $(wc -l <"$work/skipped") skipped"
