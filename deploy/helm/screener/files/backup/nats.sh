#!/bin/sh
# A snapshot of the candle stream with its consumers: `nats stream restore FOLDER` brings it back.
set -eu
umask 077
folder=/backups/nats
target="$folder/$(date -u +%Y-%m-%dT%H%M%SZ)"
mkdir -p "$folder"
if [ -z "$SERVER_URL" ]; then
    SERVER_URL="$(cat "$SERVER_URL_FILE")"
fi
export NATS_URL="$SERVER_URL"
nats stream backup "$STREAM" "$target.part" --consumers --no-progress
mv "$target.part" "$target"
find "$folder" -mindepth 1 -maxdepth 1 -type d -mtime "+$RETENTION_DAYS" -exec rm -r {} +
ls -l "$target"
