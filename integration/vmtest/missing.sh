#!/bin/sh
# missing.sh ends with a message where make vmtest cannot be had.
missing() { echo "vmtest: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || missing "needs root, for debootstrap and chroot"
[ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || missing "needs a Debian on amd64: its guests are made of Debian's packages"
need=
for tool in debootstrap:debootstrap unshare:util-linux qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils mke2fs:e2fsprogs; do
	command -v "${tool%%:*}" >/dev/null || need="$need ${tool#*:}"
done
[ -z "$need" ] || missing "needs$need: apt-get install --no-install-recommends$need"
