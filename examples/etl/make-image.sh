#!/bin/sh
# Makes busybox.tar, an image that holds BusyBox and nothing else: a shell, awk, sort and three hundred other programs in one file.
# Debian's package busybox-static has it. With a registry at hand there is nothing to make: `image: busybox:stable-musl` is the same.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
case $(uname -m) in aarch64) architecture=arm64 ;; *) architecture=amd64 ;; esac

mkdir -p "$work/root/bin" "$work/root/usr/bin"
cp /bin/busybox "$work/root/bin/busybox"
for name in sh awk; do ln -s busybox "$work/root/bin/$name"; done
ln -s /bin/busybox "$work/root/usr/bin/awk"
tar -C "$work/root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$work/layer.tar" .

layer=$(sha256sum <"$work/layer.tar" | cut -d ' ' -f 1)
cat >"$work/config.json" <<JSON
{"architecture": "$architecture", "os": "linux", "config": {"Env": ["PATH=/bin:/usr/bin"], "Cmd": ["/bin/sh"]},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:$layer"]}}
JSON
echo '[{"Config": "config.json", "RepoTags": ["busybox:latest"], "Layers": ["layer.tar"]}]' >"$work/manifest.json"
tar -C "$work" -cf busybox.tar manifest.json config.json layer.tar
echo "busybox.tar: $(wc -c <busybox.tar) bytes"
