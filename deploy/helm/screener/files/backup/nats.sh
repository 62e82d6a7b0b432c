#!/bin/sh
# A snapshot of the candle stream with its consumers: `nats stream restore FOLDER` brings it back.
# SERVER_URL, or SERVER_URL_FILE: the URL, or a file with it. STREAM: the stream, CANDLES by default (NS_CANDLES in a
# namespace). RETENTION_DAYS: how long backups are kept. FOLDER: where, /backups by default.
set -eu
umask 077
folder="${FOLDER:-/backups}/nats"
target="$folder/$(date -u +%Y-%m-%dT%H%M%SZ)"
mkdir -p "$folder"
if [ -z "${SERVER_URL:-}" ]; then
    SERVER_URL="$(cat "$SERVER_URL_FILE")"
fi
export NATS_URL="$SERVER_URL"
nats stream backup "${STREAM:-CANDLES}" "$target.part" --consumers --no-progress
mv "$target.part" "$target"
find "$folder" -mindepth 1 -maxdepth 1 -type d -mtime "+$RETENTION_DAYS" -exec rm -r {} +
ls -l "$target"
