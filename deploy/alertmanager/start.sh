#!/bin/sh
# Writes the configuration of the channels that have a secret, and runs the command that follows: `start.sh COMMAND...`.
# SLACK_API_URL, PAGERDUTY_ROUTING_KEY, DEAD_MAN_URL: empty or `none` turns a channel off, and nothing is sent to it.
set -eu
umask 077
from="${CONFIGURATION_DIR:-/etc/alertmanager}"
to="${RUN_DIR:-/tmp/alertmanager}"
mkdir -p "$to"
ln -sfn "$from/templates" "$to/templates"

off=""
# channel NAME SECRET: writes the secret to a file, or takes the channel's blocks out
channel() {
    if [ -z "$2" ] || [ "$2" = none ]; then
        off="$off;/# begin $1\$/,/# end $1\$/d"
    else
        printf %s "$2" >"$to/$1"
    fi
}
channel slack "${SLACK_API_URL:-}"
channel pagerduty "${PAGERDUTY_ROUTING_KEY:-}"
channel dead-man "${DEAD_MAN_URL:-}"

sed "s|/etc/alertmanager/secrets|$to|$off" "$from/alertmanager.yml" |
    # the URL of a webhook may have any character that sed gives a meaning
    awk '{
        at = index($0, "https://dead-man.invalid/")
        if (at) $0 = substr($0, 1, at - 1) ENVIRON["DEAD_MAN_URL"]
        print
    }' >"$to/alertmanager.yml"
unset SLACK_API_URL PAGERDUTY_ROUTING_KEY DEAD_MAN_URL
exec "$@"
