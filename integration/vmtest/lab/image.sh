#!/bin/sh
# image.sh TREE AGENT IMAGE PREPARE DEB…: a disk for guests: a copy of TREE with the packages installed as dpkg does it, without starting
# anything, and the commands PREPARE run in it. A DEB that is "stock" stands for auditd and its plugins. lab runs this as root, in namespaces of its own.
set -e
tree=$1 agent=$2 image=$3 prepare=$4
shift 4
work=$(mktemp -d "$image.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
root=$work/root
cp -a "$tree/root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"

printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 0755 "$root/usr/sbin/policy-rc.d"
inside() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 chroot "$root" "$@"; }
mkdir "$root/packages"
for deb; do
	case $deb in
	stock)
		inside sh -c 'dpkg -i /stock/*.deb'
		inside systemctl disable auditd # a case that wants it switches it on
		;;
	*)
		cp "$deb" "$root/packages/"
		inside dpkg -i "/packages/${deb##*/}"
		;;
	esac
done
rm -rf "$root/packages" "$root/usr/sbin/policy-rc.d"

install -m 0755 "$agent" "$root/usr/local/sbin/vmtest-agent"
cat >"$root/etc/systemd/system/vmtest-agent.service" <<'UNIT'
[Unit]
Description=what vmtest says is done
DefaultDependencies=no
After=systemd-remount-fs.service systemd-tmpfiles-setup.service
[Service]
ExecStart=/usr/local/sbin/vmtest-agent
Restart=always
KillMode=process
[Install]
WantedBy=sysinit.target
UNIT
inside systemctl enable vmtest-agent.service serial-getty@ttyS0.service
echo guest >"$root/etc/hostname"
printf '127.0.0.1 localhost guest\n' >"$root/etc/hosts"
printf '/dev/vda / ext4 defaults 0 0\n' >"$root/etc/fstab"
echo root:secret | inside chpasswd
: >"$root/etc/machine-id"
inside systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer >/dev/null
inside sh -ec "$prepare"
umount "$root/proc" "$root/run"
mke2fs -q -F -t ext4 -d "$root" "$image" 1500M
