#!/bin/sh
# package-test.sh FOLDER: installs, upgrades, removes and purges the packages in FOLDER (make packages) in a real Debian, beside
# auditd and without it. It needs root, dpkg, debootstrap and Debian's mirror (once: the tree is kept in $CACHE for a day); lintian
# and rpmlint are run where they are. Everything happens in a copy of the tree, in namespaces of its own, and is gone at the end. A step that
# goes wrong ends it and is named. STEPS="fresh stores" runs some of them. Upgrades from the first version that had packages need
# Go and the clone with its history, of which those packages are built once; they are left out elsewhere, which is said.
# ARCH=arm64 tries the packages of another architecture under emulation (Debian: qemu-user-static): what they do without the kernel's
# audit, of which qemu-user hands no message to the kernel; slow.
set -e
here=$(cd "$(dirname "$0")" && pwd)
CACHE=${CACHE:-/var/tmp/auditfleet-package-test}

missing() { echo "package-test: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || missing "needs root, for chroot and mount"
for tool in debootstrap dpkg-deb unshare ip; do
	command -v "$tool" >/dev/null || missing "needs $tool (Debian: apt-get install debootstrap dpkg util-linux iproute2)"
done
native=$(dpkg --print-architecture)
arch=${ARCH:-$native}
packages=$(cd "${1:-dist}" && pwd)
ls "$packages"/auditfleet-forwarder_*_"$arch".deb >/dev/null || missing "$packages has no packages for $arch: make packages"

# What an emulated program is started by is the kernel's to know, in one table for the whole machine: it knows for as long as that takes.
emulate=:
if [ "$arch" != "$native" ]; then
	case $arch in arm64) qemu=qemu-aarch64 ;; *) missing "ARCH=$arch: arm64 is the only one that is emulated here" ;; esac
	[ -e /usr/lib/binfmt.d/$qemu.conf ] || missing "needs $qemu-static and /usr/lib/binfmt.d/$qemu.conf (Debian: apt-get install qemu-user-static)"
	# shellcheck disable=SC2016
	emulate='
		mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
		if ! ls /proc/sys/fs/binfmt_misc/*'"${qemu#qemu-}"'* >/dev/null 2>&1; then
			text=$(sed "s/^:[^:]*:/:auditfleet-'"${qemu#qemu-}"':/" /usr/lib/binfmt.d/'$qemu'.conf)
			printf "%s" "$text" >/proc/sys/fs/binfmt_misc/register
			trap "echo -1 >/proc/sys/fs/binfmt_misc/auditfleet-'"${qemu#qemu-}"'" EXIT
			trap "exit 130" INT
			trap "exit 143" TERM HUP
		fi'
fi

work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# The tree, with auditd's packages in apt's cache, so that later runs need no network.
tree=$CACHE/bookworm-$arch-1.tar
[ -z "$(find "$tree" -mtime +0 2>/dev/null)" ] || rm -f "$tree"
if [ ! -e "$tree" ]; then
	mkdir -p "$CACHE"
	echo "package-test: making a Debian 12, which takes some minutes"
	unshare --mount --propagation private sh -ec "$emulate"'
		debootstrap --arch="$1" --variant=minbase --include=systemd,rpm bookworm "$2" "$3"' sh "$arch" "$work/new" "${MIRROR:-http://deb.debian.org/debian}" >"$work/said" 2>&1 ||
		{ tail -n 5 "$work/said" >&2; missing "debootstrap failed (MIRROR names another mirror)"; }
	cp /etc/resolv.conf "$work/new/etc/resolv.conf"
	unshare --mount --propagation private sh -ec "$emulate"'
		chroot "$1" apt-get install -y -qq --download-only --no-install-recommends auditd audispd-plugins' sh "$work/new" >/dev/null
	tar -C "$work/new" -cf "$work/tar" . && mv "$work/tar" "$tree"
	rm -rf --one-file-system "$work/new"
fi

# The first packages, kept in $CACHE: what a host may have had, whose collector was root's.
first() {
	commit=$(git -c safe.directory='*' -C "$here/.." log --diff-filter=A --format=%H -- deploy/packages/build.sh 2>/dev/null | tail -n 1)
	[ -n "$commit" ] && command -v "${GO:-go}" >/dev/null || return 1
	made=$CACHE/first-$commit-$arch
	if [ ! -d "$made" ]; then
		echo "package-test: building the first packages, which takes some minutes"
		mkdir "$work/first"
		git -c safe.directory='*' -C "$here/.." archive "$commit" | tar -C "$work/first" -xf -
		# Where it wrote them then; its build made no difference of where it ran.
		(cd "$work/first" && make -s packages ARCHES="$arch") >"$work/said" 2>&1 || { tail -n 5 "$work/said" >&2; missing "the first packages can't be built"; }
		mkdir -p "$CACHE" && mv "$work/first/dist" "$made.new" && rm -rf "$made.new/build" && mv "$made.new" "$made"
		rm -rf "$work/first"
	fi
	mkdir "$work/packages/first"
	for deb in "$made"/*_"$arch".deb; do
		name=${deb##*/}
		cp "$deb" "$work/packages/first/${name%%_*}.deb"
	done
	cp "$made"/*.rpm "$work/packages/first/"
}

# The version before: the same, but for its number and one file of configuration whose example was another.
older() {
	dpkg-deb -R "$1" "$work/older"
	sed -i 's/^Version: .*/Version: 0.0.1-1/; s/(>= [^)]*)/(>= 0.0.1)/' "$work/older/DEBIAN/control"
	for conf in forwarder collector; do
		[ ! -e "$work/older/etc/auditfleet/$conf.conf" ] || echo "# an example of before" >>"$work/older/etc/auditfleet/$conf.conf"
	done
	dpkg-deb -Zgzip -z1 -b "$work/older" "$2" >/dev/null
	rm -rf "$work/older"
}
mkdir -p "$work/packages/old" "$work/packages/new"
cp "$packages"/*_"$arch".deb "$packages"/*_all.deb "$packages"/*.rpm "$work/packages/new/"
for deb in "$work"/packages/new/*.deb; do
	name=${deb##*/}
	older "$deb" "$work/packages/old/${name%%_*}.deb"
	mv "$deb" "$work/packages/new/${name%%_*}.deb"
done
cp "$here/package-steps.sh" "$here/cmd/firstlight/testdata/sample.log" "$here"/testdata/stores/*.tar.gz "$work/packages/"
steps=fresh # emulated
[ "$arch" != "$native" ] || steps='fresh beside rpm since-deb since-rpm stores'
steps=${STEPS:-$steps}
case $steps in
*since* | *stores*) first || { echo "package-test: left out, for there is no Go, or no history: since-deb since-rpm stores"; steps=$(echo "$steps" | sed 's/since-[a-z]*\|stores//g'); } ;;
esac

if [ -z "$STEPS" ] && command -v lintian >/dev/null; then
	echo "== lintian"
	lintian --fail-on error "$packages"/*_"$arch".deb "$packages"/*_all.deb
fi
if [ -z "$STEPS" ] && command -v rpmlint >/dev/null; then
	echo "== rpmlint"
	rpmlint -c "$here/../deploy/packages/rpm/rpmlint.toml" "$packages"/*.rpm
fi
for step in $steps; do
	mkdir "$work/root"
	tar -C "$work/root" -xf "$tree"
	cp -r "$work/packages" "$work/root/packages"
	# A mount namespace takes its mounts with it, a PID namespace its processes, and a network of its own leaves the host's ports.
	unshare --mount --propagation private --pid --fork --kill-child --net sh -ec "$emulate"'
		ip link set lo up
		mount -t proc proc "$1/proc"
		mount -t tmpfs -o mode=0755 tmpfs "$1/run"
		env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 \
			chroot "$1" sh /packages/package-steps.sh "$2"' sh "$work/root" "$step" </dev/null
	rm -rf --one-file-system "$work/root"
done
echo "package-test: all steps passed"
