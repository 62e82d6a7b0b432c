#!/usr/bin/env bash
# base_image.sh NAME [PACKAGE...]: makes a base for deploy/Dockerfile out of Debian's packages, where no registry of
# images answers; PACKAGEs come on top. `make check-image BASE=NAME` builds on it. Needs root, debootstrap, and podman
# or docker.
set -euo pipefail
name=$1
shift
engine=${ENGINE:-$(command -v podman || command -v docker)}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(python3 python3-pip python3-venv ca-certificates "$@")
debootstrap --variant=minbase --include="$(IFS=,; echo "${packages[*]}")" bookworm "$folder" >"$folder.log" || {
  tail -20 "$folder.log"
  exit 1
}
rm "$folder.log"
# as the Python images have it: pip may install, and `python` is there
rm -f "$folder"/usr/lib/python3*/EXTERNALLY-MANAGED
ln -s python3 "$folder/usr/bin/python"
rm -rf "$folder"/var/cache/apt/* "$folder"/var/lib/apt/lists/* "$folder"/usr/share/{doc,man,locale}/*
tar -C "$folder" -c . | "$engine" import - "$name"
