#!/usr/bin/env bash
# The scripts of the machines that terraform/ makes, interrupted at every step: volume.sh on plain files, which blkid and mkfs take
# like devices, and settings.sh with a stand-in for aws. Part of tests/terraform.sh.
set -euo pipefail
# shellcheck source=tests/common.sh
. "$(dirname "$0")/../common.sh"
cd "$root"
work=$(mktemp -d "${TMPDIR:-/tmp}/tidelog-scripts.XXXXXX")
at_exit true
disk=$work/disk
mkdir "$work/bin"

# Makes the disk anew, with nothing on it.
blank() { rm -f "$disk" && truncate -s 400M "$disk"; }
volume() { VOLUME_TIMEOUT=0 VOLUME_MOUNT=true terraform/files/volume.sh "${1:-$disk}" "$work/mounted"; }
superblock() { xfs_db -r -c 'sb 0' -c "print $1" "$disk" 2>&1; }
refuses() {
    local before status=0
    before=$(sha256sum "$disk")
    volume >"$work/said" 2>&1 || status=$?
    [ "$status" = 1 ] && grep -q "$1" "$work/said" || fail "not refused ($1): $(cat "$work/said")"
    [ "$(sha256sum "$disk")" = "$before" ] || fail "a volume that was refused was written to"
}

only_an_empty_volume_is_formatted() {
    local before status=0
    blank
    volume >"$work/said"
    grep -q "is empty: formatting" "$work/said" || fail "an empty volume was not formatted"
    before=$(sha256sum "$disk")
    volume >"$work/said"
    [ "$(sha256sum "$disk")" = "$before" ] || fail "a volume with a file system was written to: $(cat "$work/said")"
    blank
    mkfs.ext4 -q "$disk"
    refuses "has ext4, not xfs"
    blank
    printf 'a log without its file system' | dd of="$disk" bs=1 seek=5000000 conv=notrunc status=none
    refuses "has no file system, but is not empty"
    volume "$work/nothing" >"$work/said" 2>&1 || status=$?
    [ "$status" = 1 ] && grep -q "not attached" "$work/said" || fail "a volume that is not there is an error: $(cat "$work/said")"
    ok "only an empty volume is formatted"
}

# mkfs.xfs loses its power before each of its writes in turn; the next boot has to make a file system that is whole.
interrupted_formatting_is_done_again() {
    local at status
    cc -shared -fPIC -O1 -o "$work/kill.so" tests/terraform/kill_at_write.c -ldl
    printf '#!/bin/sh\nLD_PRELOAD=%s exec %s "$@"\n' "$work/kill.so" "$(PATH=$PATH:/usr/sbin:/sbin command -v mkfs.xfs)" >"$work/bin/mkfs.xfs"
    chmod +x "$work/bin/mkfs.xfs"
    for ((at = 1; ; at++)); do
        blank
        status=0
        PATH=$work/bin:$PATH KILL_AT=$at volume >"$work/said" 2>&1 || status=$?
        [ "$status" != 0 ] || break
        [ "$at" -lt 1000 ] || fail "mkfs.xfs does not come to an end"
        volume >"$work/said" 2>&1 || fail "formatting that was interrupted at write $at was not done again: $(cat "$work/said")"
        [ "$(superblock inprogress)" = "inprogress = 0" ] || fail "interrupted at write $at, the file system stays unfinished"
        xfs_repair -n "$disk" >"$work/said" 2>&1 || fail "interrupted at write $at, the file system is not whole: $(cat "$work/said")"
    done
    [ "$at" -gt 20 ] || fail "mkfs.xfs was interrupted at $((at - 1)) writes only"
    ok "formatting that is interrupted at any of its $((at - 1)) writes is done again"

    # The mark alone is damage, not a sign of an interrupted mkfs.xfs.
    blank
    volume >/dev/null
    printf '\1' | dd of="$disk" bs=1 seek=126 conv=notrunc status=none
    status=$(sha256sum "$disk")
    volume >"$work/said" 2>&1
    [ "$(sha256sum "$disk")" = "$status" ] || fail "a file system whose superblock is damaged was formatted: $(cat "$work/said")"
    ok "a damaged superblock is not taken for interrupted formatting"
}

# What the stand-in for aws answers with: version $1 of everything.
publish() {
    mkdir -p "$work/aws"
    jq -n --arg version "$1" '{image: "registry.example/tidelog:\($version)", config: "version = \($version)\n", environment: {A: $version}}' >"$work/aws/parameter"
    jq -n --arg version "$1" '{cert: "cert \($version)\n", key: "key \($version)\n", ca: "ca \($version)\n"}' >"$work/aws/tls"
    echo "tokens $1" >"$work/aws/tokens"
    echo "metrics $1" >"$work/aws/metrics"
}
# settings VERB [STEP]: settings.sh, killed at its STEPth renaming of a file, before it is done
settings() {
    PATH=$work/bin:$PATH AWS_ANSWERS=$work/aws TIDELOG_ETC=$work/etc TIDELOG_USER=$(id -u) KILL_AT=${2:-0} KILL_COUNT=$work/count \
        terraform/files/settings.sh "$1"
}
fetched() { (cd "$work/etc" && cat secrets/{ca,key,cert}.pem secrets/tokens secrets/metrics-token tidelog.toml environment image); }
expected() {
    printf 'ca %s\nkey %s\ncert %s\ntokens %s\nmetrics %s' "$1" "$1" "$1" "$1" "$1"
    printf 'version = %s\nAWS_REGION=r\nA=%s\nTIDELOG_IMAGE=registry.example/tidelog:%s\n' "$1" "$1" "$1"
}
# Every file is of one version or of the other, and none is in between.
all_whole() {
    local file
    for file in "$work"/etc/secrets/* "$work"/etc/{tidelog.toml,environment,image}; do
        case $file in *.new.* | *'*') continue ;; esac
        [ ! -e "$file" ] || [ "$(grep -c '[12]$' "$file")" -ge 1 ] || fail "$file is neither of one version nor of the other: $(cat "$file")"
    done
}

stand_ins() {
    cat >"$work/bin/aws" <<'SH'
#!/bin/sh
case "$1 $2 $*" in
    "ssm get-parameter"*) cat "$AWS_ANSWERS/parameter" ;;
    *--secret-id\ tls\ *) cat "$AWS_ANSWERS/tls" ;;
    *--secret-id\ tokens\ *) cat "$AWS_ANSWERS/tokens" ;;
    *--secret-id\ metrics\ *) cat "$AWS_ANSWERS/metrics" ;;
    *) exit 1 ;;
esac
SH
    # The image is here.
    printf '#!/bin/sh\nexit 0\n' >"$work/bin/docker"
    # Counts the renamings, and kills what does them before the one that is asked for.
    cat >"$work/bin/mv" <<SH
#!/bin/bash
count=\$((\$(cat "\$KILL_COUNT" 2>/dev/null || echo 0) + 1))
echo "\$count" >"\$KILL_COUNT"
[ "\$count" != "\$KILL_AT" ] || { kill -9 "\$PPID"; exit 1; }
exec $(command -v mv) "\$@"
SH
    chmod +x "$work"/bin/{aws,docker,mv}
}

# settings.sh is killed before each file that it puts in place, at the first boot and when everything is new.
interrupted_settings_are_fetched_again() {
    local at status first steps=0
    stand_ins
    for first in yes no; do
        for ((at = 1; ; at++)); do
            rm -rf "${work:?}/etc" && mkdir "$work/etc"
            printf '%s\n' NAME=n MACHINE=m REGION=r TLS_SECRET=tls TOKENS_SECRET=tokens METRICS_TOKEN_SECRET=metrics >"$work/etc/machine"
            rm -f "$work/count"
            publish 1
            [ "$first" = yes ] || { settings start 2>/dev/null && rm -f "$work/count" && publish 2; }
            status=0
            settings start "$at" >"$work/said" 2>&1 || status=$?
            all_whole
            [ "$status" != 0 ] || break
            steps=$((steps + 1))
            # Without the services: either it has all of a version, file by file, or it says what it has not.
            status=0
            AWS_ANSWERS=none PATH=$work/bin:$PATH TIDELOG_ETC=$work/etc TIDELOG_USER=$(id -u) KILL_COUNT=$work/count KILL_AT=0 \
                terraform/files/settings.sh start >"$work/said" 2>&1 || status=$?
            if [ "$status" = 0 ]; then fetched >/dev/null; else grep -q "there is no copy" "$work/said" || fail "killed at $at: $(cat "$work/said")"; fi
            [ "$first" = yes ] || [ "$status" = 0 ] || fail "killed at $at, it cannot go on with what was there before: $(cat "$work/said")"
            settings start 2>"$work/said" || fail "killed at $at, it does not start: $(cat "$work/said")"
            [ "$(fetched)" = "$(if [ "$first" = yes ]; then expected 1; else expected 2; fi)" ] || fail "killed at $at, it fetched: $(fetched)"
            [ -z "$(find "$work/etc" -name '*.new.*')" ] || fail "killed at $at, it leaves $(find "$work/etc" -name '*.new.*')"
        done
        [ "$at" -gt 8 ] || fail "settings.sh put only $((at - 1)) files in place"
    done
    ok "settings.sh, killed before any of the files that it puts in place ($steps times), goes on at the next start"

    settings start 2>"$work/said" || fail "$(cat "$work/said")"
    [ ! -s "$work/said" ] || fail "settings.sh put in place again what was the same: $(cat "$work/said")"
    publish 3
    jq 'del(.key)' "$work/aws/tls" >"$work/tls" && cp "$work/tls" "$work/aws/tls"
    echo '{"image": "", "config": "", "environment": {}}' >"$work/aws/parameter"
    : >"$work/aws/tokens"
    settings start 2>"$work/said" || fail "$(cat "$work/said")"
    [ "$(grep -c 'going on with the last copy' "$work/said")" = 3 ] || fail "what is wrong with a secret is not said: $(cat "$work/said")"
    grep -q 'key 2' "$work/etc/secrets/key.pem" && grep -q 'cert 2' "$work/etc/secrets/cert.pem" && grep -q 'version = 2' "$work/etc/tidelog.toml" &&
        grep -q 'tokens 2' "$work/etc/secrets/tokens" || fail "a secret that was spoiled replaced a copy that works"
    ok "a secret or a parameter that is not what it should be replaces nothing"
}

for needed in mkfs.xfs:xfsprogs mkfs.ext4:e2fsprogs blkid:util-linux cc:gcc; do
    if ! installable "${needed%:*}" "${needed#*:}"; then
        skip "the scripts of the machines: ${needed%:*} is not installed"
        exit 0
    fi
done
PATH=$PATH:/usr/sbin:/sbin
only_an_empty_volume_is_formatted
interrupted_formatting_is_done_again
interrupted_settings_are_fetched_again
