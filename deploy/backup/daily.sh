#!/bin/sh
# daily.sh SERVER: backs up postgres, nats or redis at its start and each day, until it is stopped; after a failure again
# in an hour. For compose.backup.yaml; Kubernetes has CronJobs.
# SERVER_URL: the URL. SCRIPTS, METRICS: folders of the backup scripts, and of the page that the node exporter reads.
# PAUSE_S: 86400. The scripts have variables of their own.
set -u
server=$1
page="${METRICS:-/metrics}/$server"
pause_s="${PAUSE_S:-86400}"
export SERVER_URL_FILE="${SERVER_URL_FILE:-/tmp/url}"
(umask 077 && printf %s "$SERVER_URL" >"$SERVER_URL_FILE")
trap 'exit 0' TERM INT

success_s="$(sed -n 's/^screener_backup_last_success_timestamp_seconds.* //p' "$page.prom" 2>/dev/null)"
# before the first success: the begin of the schedule
success_s="${success_s:-$(date +%s)}"
while :; do
    if sh "${SCRIPTS:-/scripts}/$server.sh"; then
        success_s="$(date +%s)" failed=0 wait_s="$pause_s"
    else
        failed=1 wait_s=$((pause_s / 24))
    fi
    cat >"$page.part" <<PAGE
# HELP screener_backup_last_success_timestamp_seconds When a backup last succeeded, or its schedule began.
# TYPE screener_backup_last_success_timestamp_seconds gauge
screener_backup_last_success_timestamp_seconds{backup="$server"} $success_s
# HELP screener_backup_failed 1: the last backup failed.
# TYPE screener_backup_failed gauge
screener_backup_failed{backup="$server"} $failed
PAGE
    # the exporter must never read half a page
    mv "$page.part" "$page.prom"
    # in the background: a shell that waits for a program hears no signal
    sleep "$wait_s" &
    wait $!
done
