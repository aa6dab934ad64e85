#!/bin/bash
# Brings what this machine runs into its directory of settings: image and configuration from Systems Manager, certificates and
# tokens from Secrets Manager.
#
# usage: settings.sh start      everything, before a start of the service
#        settings.sh refresh    only secrets, by a timer; Tidelog notices files that change
#
# Files are put in place whole, so that whatever interrupts this leaves each as it was or as it is to be. What cannot be fetched, or
# is not what it should be, keeps its last copy, with a warning: a start must not need these services, only the first one does.
set -euo pipefail

etc=${TIDELOG_ETC:-/etc/tidelog}
# shellcheck source=/dev/null
. "$etc/machine"
# The user of the container; none of the host's.
user=${TIDELOG_USER:-65532}

say() { echo "settings: $*" >&2; }

# put FILE MODE OWNER: standard input becomes the file, unless that is what it is already
put() {
    local file=$1 mode=$2 owner=$3 new
    # What a call left that was interrupted; there is one at a time, see below.
    rm -f "$file".new.??????
    new=$(mktemp "$file.new.XXXXXX")
    cat >"$new"
    if cmp -s "$new" "$file"; then
        rm -f "$new"
        return
    fi
    chmod "$mode" "$new"
    chown "$owner" "$new"
    sync "$new"
    mv "$new" "$file"
    say "$file is new"
}

# kept FILE WHAT: whether there is a copy to go on with
kept() {
    if [ -e "$1" ]; then
        say "$2 cannot be had: going on with the last copy"
    else
        say "$2 cannot be had, and there is no copy"
        exit 1
    fi
}

secret() { aws secretsmanager get-secret-value --region "$REGION" --secret-id "$1" --query SecretString --output text; }

# has JSON FIELD …: whether all of them are there, each a text or an object that is not empty. Looked at before anything is put in
# place, so that a secret or a parameter that somebody spoiled does not replace a copy that works.
has() {
    local json=$1
    shift
    jq -e '. as $all | $ARGS.positional | all(. as $field | ($all[$field] | type) as $type
        | ($type == "string" and $all[$field] != "") or $type == "object")' --args "$@" <<<"$json" >/dev/null 2>&1
}

secrets() {
    local value part
    install -d -m 0755 "$etc/secrets"
    if [ "$TLS_SECRET" != - ]; then
        if value=$(secret "$TLS_SECRET") && has "$value" cert key ca; then
            # The key before the certificate: Tidelog keeps the pair it has until both belong together.
            for part in ca key cert; do
                jq -j ".$part" <<<"$value" | put "$etc/secrets/$part.pem" 0400 "$user:$user"
            done
        else
            kept "$etc/secrets/cert.pem" "the certificate"
        fi
    fi
    if [ "$TOKENS_SECRET" != - ]; then
        if value=$(secret "$TOKENS_SECRET") && [ -n "$value" ]; then
            put "$etc/secrets/tokens" 0400 "$user:$user" <<<"$value"
        else
            kept "$etc/secrets/tokens" "the file of tokens"
        fi
    fi
    if [ "$METRICS_TOKEN_SECRET" != - ]; then
        if value=$(secret "$METRICS_TOKEN_SECRET") && [ -n "$value" ]; then
            printf %s "$value" | put "$etc/secrets/metrics-token" 0400 root:root
        else
            kept "$etc/secrets/metrics-token" "the token for the metrics"
        fi
    fi
}

settings() {
    local value
    if value=$(aws ssm get-parameter --region "$REGION" --name "/$NAME/$MACHINE" --query Parameter.Value --output text) &&
        has "$value" image config environment; then
        jq -j .config <<<"$value" | put "$etc/tidelog.toml" 0444 root:root
        jq -r --arg region "$REGION" '{AWS_REGION: $region} + .environment | to_entries[] | "\(.key)=\(.value)"' <<<"$value" |
            put "$etc/environment" 0444 root:root
        # The last, so that where it is the others are.
        jq -r '"TIDELOG_IMAGE=\(.image)"' <<<"$value" | put "$etc/image" 0444 root:root
    else
        kept "$etc/image" "the settings"
    fi
}

# An image that is here already is enough: a digest never changes, and a tag should not.
image() {
    # shellcheck source=/dev/null
    . "$etc/image"
    if docker image inspect "$TIDELOG_IMAGE" >/dev/null 2>&1; then
        return
    fi
    local registry=${TIDELOG_IMAGE%%/*}
    if [[ $registry == *.dkr.ecr.*.amazonaws.com* ]]; then
        aws ecr get-login-password --region "$(cut -d. -f4 <<<"$registry")" |
            docker login --username AWS --password-stdin "$registry" >/dev/null
    fi
    docker pull --quiet "$TIDELOG_IMAGE"
}

# The timer and a start do not get into each other's way.
exec 9>"$etc/lock"
flock 9
case ${1:-} in
    start) settings; secrets; image ;;
    refresh) secrets ;;
    *) echo "usage: settings.sh start|refresh" >&2; exit 2 ;;
esac
