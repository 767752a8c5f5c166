#!/bin/sh
# tree.sh OUT: a Debian 12 for guests in the folder OUT: a root tree, a kernel and an initrd that mounts /dev/vda. What is stock's is
# only fetched: image.sh installs it where a case wants it. lab runs this as root, once for each change of it.
set -e
out=$1
mirror=${MIRROR:-http://deb.debian.org/debian}
root=$out/root
include=systemd-sysv,dbus,udev,kmod,login,passwd,sudo,openssh-server,openssh-client,procps,iproute2,libpam-systemd,util-linux-extra,busybox-static,cpio,e2fsprogs
debootstrap --variant=minbase --include=$include bookworm "$root" "$mirror"

# Sockets of the machine's own stay out: the guest has no way to the network, and apt is asked here only.
cp /etc/resolv.conf "$root/etc/resolv.conf"
chroot "$root" apt-get clean
chroot "$root" apt-get install -y -qq --download-only --no-install-recommends auditd audispd-plugins libauparse0 libaudit1
mkdir -p "$root/stock"
mv "$root"/var/cache/apt/archives/*.deb "$root/stock/"
kernel=$(chroot "$root" apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[^ ]*\).*/\1/p' | head -n 1)
# Unpacked aside: its /lib is a folder, and would take the place of the link.
mkdir "$out/deb"
chroot "$root" sh -ec "cd /tmp && apt-get download -qq $kernel"
dpkg-deb -x "$root"/tmp/$kernel*.deb "$out/deb"
version=${kernel#linux-image-}
mv "$out/deb/lib/modules" "$root/usr/lib/modules"
mv "$out/deb/boot/vmlinuz-$version" "$out/kernel"
rm -rf "$out/deb" "$root"/tmp/*.deb
chroot "$root" depmod "$version"
rm -rf "$root"/var/lib/apt/lists/* "$root"/usr/share/locale/* "$root"/usr/share/info/* "$root/etc/resolv.conf"

initrd=$out/initrd.d
# It only loads what the disk needs, which initramfs-tools takes longer for.
mkdir -p "$initrd/bin" "$initrd/dev" "$initrd/proc" "$initrd/root" "$initrd/lib"
cp "$root/bin/busybox" "$initrd/bin/busybox"
{
	echo '#!/bin/busybox sh'
	echo '/bin/busybox mount -t devtmpfs dev /dev && /bin/busybox mount -t proc proc /proc'
	for module in virtio_pci virtio_blk virtio_console ext4; do
		chroot "$root" modprobe -S "$version" --show-depends $module
	done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' | while read -r file; do
		cp "$root$file" "$initrd/lib/"
		echo "/bin/busybox insmod /lib/${file##*/}"
	done
	echo 'for disk in 1 2 3 4 5 6 7 8 9; do [ -b /dev/vda ] && break; /bin/busybox sleep 1; done'
	echo '/bin/busybox mount -t ext4 /dev/vda /root && /bin/busybox umount /proc'
	echo 'exec /bin/busybox switch_root /root /sbin/init'
} >"$initrd/init"
chmod 0755 "$initrd/init"
mv "$initrd" "$root/initrd"
chroot "$root" sh -ec 'cd /initrd && find . | cpio -o -H newc --quiet' | gzip -1 >"$out/initrd"
rm -rf "$root/initrd"
