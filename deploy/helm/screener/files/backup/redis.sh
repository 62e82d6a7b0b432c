#!/bin/sh
# Redis' RDB file: put it where the server's `dir` and `dbfilename` point, and start the server.
set -eu
umask 077
folder=/backups/redis
file="$folder/$(date -u +%Y-%m-%dT%H%M%SZ).rdb"
mkdir -p "$folder"
redis-cli -u "$(cat "$SERVER_URL_FILE")" --rdb "$file.part"
redis-check-rdb "$file.part" >/dev/null
mv "$file.part" "$file"
find "$folder" -name '*.rdb' -mtime "+$RETENTION_DAYS" -delete
find "$folder" -name '*.part' -mtime +1 -delete
ls -l "$file"
