#!/bin/sh
# Redis' RDB file. A server with an append-only file reads no other: the runbook restore.md says how to bring it back.
# SERVER_URL_FILE: a file with the URL. RETENTION_DAYS: how long backups are kept. FOLDER: where, /backups by default.
set -eu
umask 077
folder="${FOLDER:-/backups}/redis"
file="$folder/$(date -u +%Y-%m-%dT%H%M%SZ).rdb"
mkdir -p "$folder"
# of redis://:PASSWORD@HOST redis-cli would send an empty user name, which no server knows
url="$(sed 's|://:|://default:|' "$SERVER_URL_FILE")"
redis-cli -u "$url" --rdb "$file.part"
redis-check-rdb "$file.part" >/dev/null
mv "$file.part" "$file"
find "$folder" -name '*.rdb' -mtime "+$RETENTION_DAYS" -delete
find "$folder" -name '*.part' -mtime +1 -delete
ls -l "$file"
