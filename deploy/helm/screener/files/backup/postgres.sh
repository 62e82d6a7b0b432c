#!/bin/sh
# The whole database, in pg_dump's own format: `pg_restore --clean --if-exists --dbname URL FILE` brings it back (with
# TimescaleDB between `SELECT timescaledb_pre_restore()` and `SELECT timescaledb_post_restore()`).
# SERVER_URL_FILE: a file with the URL. RETENTION_DAYS: how long backups are kept. FOLDER: where, /backups by default.
set -eu
umask 077
folder="${FOLDER:-/backups}/postgres"
file="$folder/$(date -u +%Y-%m-%dT%H%M%SZ).dump"
mkdir -p "$folder"
pg_dump --format=custom --no-owner --file="$file.part" --dbname="$(cat "$SERVER_URL_FILE")"
# a dump whose table of contents cannot be read is none
pg_restore --list "$file.part" >/dev/null
mv "$file.part" "$file"
find "$folder" -name '*.dump' -mtime "+$RETENTION_DAYS" -delete
find "$folder" -name '*.part' -mtime +1 -delete
ls -l "$file"
