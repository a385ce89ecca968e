#!/bin/sh
# Makes digits.tar, an image that holds one static program and its model: no shell, no C library, no container engine needed.
# What is packed is the format of `docker save`, in which an image is two JSON files and a tar for each layer.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
case $(uname -m) in aarch64) architecture=arm64 ;; *) architecture=amd64 ;; esac

mkdir "$work/root"
gcc -O2 -Wall -Werror -static -o "$work/root/digits" digits.c
cp model.txt "$work/root/model.txt"
chmod 644 "$work/root/model.txt"
tar -C "$work/root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$work/layer.tar" .

layer=$(sha256sum <"$work/layer.tar" | cut -d ' ' -f 1)
cat >"$work/config.json" <<JSON
{"architecture": "$architecture", "os": "linux", "config": {"Entrypoint": ["/digits"]},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:$layer"]}}
JSON
echo '[{"Config": "config.json", "RepoTags": ["digits:latest"], "Layers": ["layer.tar"]}]' >"$work/manifest.json"
tar -C "$work" -cf digits.tar manifest.json config.json layer.tar
echo "digits.tar: $(wc -c <digits.tar) bytes"
