#!/usr/bin/env bash
# Everything about terraform/ that can be known without an account of AWS: format, validity, the module's own tests (with AWS
# mocked), the scripts of the machines, a scan, an apply and destroy of examples/complete against an emulator (moto server), and
# roll.sh and the runbook of a lost volume with processes.
#
#   tests/terraform.sh [PART …]     parts: static, scripts, unit, emulated, scan, roll; all of them by default
#
# TIDELOG         the binary                                    default: target/debug/tidelog
# TF_PLUGIN_DIR   directory of providers                        default: where Terraform and its images keep them
# CI=true         nothing is skipped that can be installed
#
# Needs terraform with the provider hashicorp/aws 5.x; without them the parts that need them are skipped. The last lines list
# every skip.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
parts=("$@")
[ $# -gt 0 ] || parts=(static scripts unit emulated scan roll)
tidelog=$(realpath -m "${TIDELOG:-target/debug/tidelog}")
targets=${CARGO_TARGET_DIR:-$root/target}
work=$(mktemp -d "${TMPDIR:-/tmp}/tidelog-terraform.XXXXXX")
emulator=
passed=0
skipped=()

cleanup() {
    status=$?
    [ -z "$emulator" ] || kill "$emulator" 2>/dev/null || true
    rm -rf "$work"
    exit "$status"
}
trap cleanup EXIT

step() { printf '%s %(%H:%M:%S)T\n' "--- terraform: $*" -1; }
ok() { echo "ok: $*"; passed=$((passed + 1)); }
fail() { echo "tests/terraform.sh: $*" >&2; exit 1; }
skip() { echo "skipped: $*"; skipped+=("$*"); }

# installable COMMAND PACKAGE: installs a package of Debian's if the command is not there; only in CI must it succeed
installable() {
    command -v "$1" >/dev/null && return
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        { apt-get update -qq && apt-get install -y -qq "$2"; } >/dev/null 2>&1 || true
    fi
    command -v "$1" >/dev/null && return
    [ "${CI:-}" != true ] || fail "$1 is missing, and $2 cannot be installed"
    return 1
}

# python NAME PACKAGE …: path of a virtual environment that has them
python() {
    local venv=$targets/$1
    shift
    if [ ! -e "$venv/complete" ]; then
        { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check "$@" && touch "$venv/complete"; } >&2 || return 1
    fi
    echo "$venv/bin"
}

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

# Whether the module can be initialised; its copy in the working directory is what is tested.
provider=
prepare() {
    [ -z "$provider" ] || { [ "$provider" = yes ]; return; }
    provider=no
    command -v terraform >/dev/null || { skip "Terraform: there is no terraform"; return 1; }
    find_provider
    export TF_CLI_CONFIG_FILE=$work/terraform.rc CHECKPOINT_DISABLE=1 TF_IN_AUTOMATION=1
    mkdir "$work/module"
    git ls-files -z --cached --others --exclude-standard terraform | xargs -0 cp --parents -t "$work/module"
    if ! (cd "$work/module/terraform" && terraform init -backend=false -no-color) >"$work/init.log" 2>&1; then
        skip "Terraform: there is no provider hashicorp/aws 5.x ($(grep -m1 '^Error' "$work/init.log" || tail -n 1 "$work/init.log"))"
        return 1
    fi
    provider=yes
}

part_static() {
    local directory
    "$(command -v python3)" tests/terraform/check.py readme terraform
    ok "the README names every input and output, and no others"
    "$(command -v python3)" tests/terraform/check.py metrics terraform src/metrics/table.rs
    ok "every metric that is sent, scaled by or alarmed on exists"
    bash -n terraform/roll.sh terraform/files/*.sh
    if installable shellcheck shellcheck; then
        shellcheck --severity=warning terraform/roll.sh terraform/files/*.sh tests/terraform.sh tests/roll.sh
        ok "shellcheck"
    else
        skip "shellcheck: not installed"
    fi
    prepare || return 0
    terraform fmt -check -recursive -diff terraform
    for directory in . examples/complete; do
        (cd "$work/module/terraform/$directory" && { terraform init -backend=false -no-color >/dev/null && terraform validate -no-color; })
    done
    ok "terraform fmt and validate"
}

part_unit() {
    prepare || return 0
    if ! terraform version -json | jq -e '.terraform_version | split(".") | map(tonumber) >= [1, 11, 0]' >/dev/null; then
        skip "terraform test: it needs Terraform 1.11"
        return 0
    fi
    (cd "$work/module/terraform" && terraform test -no-color)
    ok "terraform test"
}

# volume.sh on plain files, which blkid and mkfs take like devices.
part_scripts() {
    local disk=$work/disk before status
    if ! installable mkfs.xfs xfsprogs || ! installable mkfs.ext4 e2fsprogs || ! installable blkid util-linux; then
        skip "the script of the volume: no mkfs.xfs"
        return 0
    fi
    volume() { VOLUME_TIMEOUT=0 VOLUME_MOUNT=true terraform/files/volume.sh "$1" "$work/mounted"; }
    truncate -s 400M "$disk"
    volume "$disk" | grep -q "formatting" || fail "an empty volume was not formatted"
    before=$(blkid -p -o value -s UUID "$disk")
    volume "$disk" | grep -q "formatting" && fail "a volume with a file system was formatted"
    [ "$(blkid -p -o value -s UUID "$disk")" = "$before" ] || fail "the file system changed"
    truncate -s 0 "$disk" && truncate -s 400M "$disk" && mkfs.ext4 -q "$disk"
    refuses() {
        before=$(sha256sum "$disk")
        status=0
        volume "$disk" 2>"$work/said" || status=$?
        [ "$status" = 1 ] && grep -q "$1" "$work/said" || fail "not refused ($1): $(cat "$work/said")"
        [ "$(sha256sum "$disk")" = "$before" ] || fail "a volume that was refused was written to"
    }
    refuses "has ext4, not xfs"
    truncate -s 0 "$disk" && truncate -s 400M "$disk"
    printf 'a log without its file system' | dd of="$disk" bs=1 seek=5000000 conv=notrunc status=none
    refuses "has no file system, but is not empty"
    status=0
    volume "$work/nothing" 2>"$work/said" || status=$?
    [ "$status" = 1 ] && grep -q "not attached" "$work/said" || fail "a volume that is not there is an error"
    rm -f "$disk"
    ok "only an empty volume is formatted"
}

start_emulator() {
    local port
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    "$1/moto_server" -H 127.0.0.1 -p "$port" >"$work/moto.log" 2>&1 &
    emulator=$!
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
    prepare || return 0
    local bin zone status script
    bin=$(python terraform-moto 'moto[server]>=5' awscli) || {
        [ "${CI:-}" != true ] || fail "moto cannot be installed"
        skip "apply and destroy: moto cannot be installed"
        return 0
    }
    start_emulator "$bin"
    cd "$work/module/terraform/examples/complete"
    "$bin/python" "$root/tests/terraform/emulated.py" seed terraform.tfvars.json
    terraform init -no-color >/dev/null
    step "apply"
    timeout 600 terraform apply -no-color -input=false -auto-approve >"$work/apply.log" 2>&1 || fail "apply: $(grep -A 12 '^Error' "$work/apply.log")"
    grep '^Apply complete' "$work/apply.log"
    plan "$work/second.json"
    python3 "$root/tests/terraform/check.py" unchanged "$work/second.json"
    ok "a second plan is empty, but for what the emulator does not store"

    plan "$work/ami.json" -var "ami_id=$(jq -r .other_ami emulated.json)"
    python3 "$root/tests/terraform/check.py" only-fleets "$work/ami.json"
    ok "a new AMI and nothing else changes no voter"
    plan "$work/image.json" -var "image=$(jq -r .other_image emulated.json)"
    python3 "$root/tests/terraform/check.py" only-fleets "$work/image.json"
    ok "a new image changes no voter"
    "$bin/python" "$root/tests/terraform/emulated.py" look
    for script in user-data-*.sh; do
        bash -n "$script" || fail "$script is no script"
        grep -q '^END$' "$script" || fail "$script has no files"
    done
    ok "what the emulator has is what was asked for"

    step "settings of the machines"
    settings "$bin"

    step "destroy"
    status=0
    terraform destroy -no-color -input=false -auto-approve >"$work/destroy.log" 2>&1 || status=$?
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
    terraform destroy -no-color -input=false -auto-approve >"$work/destroy.log" 2>&1 || fail "destroy: $(grep -A 12 '^Error' "$work/destroy.log")"
    grep '^Destroy complete' "$work/destroy.log"
    "$bin/python" "$root/tests/terraform/emulated.py" gone
    ok "without the volumes everything is destroyed, and the volumes are still there"
    kill "$emulator"
    emulator=
    cd "$root"
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
        # Twice: the second time nothing is new.
        PATH="$work/bin:$1:$PATH" TIDELOG_ETC="$etc" TIDELOG_USER=$(id -u) "$root/terraform/files/settings.sh" start 2>"$work/said" || fail "$(cat "$work/said")"
        [ "$(grep -c 'is new' "$work/said")" -ge 8 ] || fail "settings.sh: $(cat "$work/said")"
        PATH="$work/bin:$1:$PATH" TIDELOG_ETC="$etc" TIDELOG_USER=$(id -u) "$root/terraform/files/settings.sh" start 2>"$work/said"
        [ ! -s "$work/said" ] || fail "settings.sh wrote again what was the same: $(cat "$work/said")"
        # And without the services it goes on with what it has.
        PATH="$work/bin:$1:$PATH" AWS_ENDPOINT_URL=http://127.0.0.1:9 TIDELOG_ETC="$etc" TIDELOG_USER=$(id -u) "$root/terraform/files/settings.sh" start 2>"$work/said" ||
            fail "settings.sh needs the services: $(cat "$work/said")"
        grep -q "going on with the last copy" "$work/said" || fail "settings.sh: $(cat "$work/said")"
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
    bin=$(python terraform-checkov checkov) || {
        [ "${CI:-}" != true ] || fail "checkov cannot be installed"
        skip "scan: checkov cannot be installed"
        return 0
    }
    (cd terraform && "$bin/checkov" --config-file .checkov.yaml --directory . --quiet --compact)
    ok "checkov; what it skips, and why, is in terraform/.checkov.yaml"
}

part_roll() {
    if [ ! -x "$tidelog" ]; then
        [ "${CI:-}" != true ] || fail "no binary $tidelog: run cargo build"
        skip "roll.sh: no binary $tidelog"
        return 0
    fi
    TIDELOG=$tidelog tests/roll.sh
    ok "roll.sh and replace-node with processes"
}

if ! installable jq jq; then
    skip "everything: no jq"
    parts=()
fi
for part in "${parts[@]}"; do
    step "$part"
    "part_$part"
done

echo "--- terraform: skipped"
if [ ${#skipped[@]} -eq 0 ]; then echo "nothing"; else printf '%s\n' "${skipped[@]}"; fi
echo "$passed passed, 0 failed, ${#skipped[@]} skipped"
