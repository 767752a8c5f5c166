#!/bin/sh
# What rollout.sh does on a host, as root: host.sh NAME COLLECTOR TRANSPORT REPLACE. It may be repeated.
set -eu
name=$1 collector=$2 transport=$3 replace=$4
etc=${ETC:-/etc/auditfleet}
here=$(cd "$(dirname "$0")" && pwd)

for package in "$here"/*.deb; do [ ! -e "$package" ] || DEBIAN_FRONTEND=noninteractive dpkg -i --force-confold "$package"; done
for package in "$here"/*.rpm; do [ ! -e "$package" ] || rpm -U --replacepkgs "$package"; done

# The key is made here and never leaves. A certificate that is here is kept, and renewed by the forwarder.
if [ ! -e "$etc/tls/$name.crt" ]; then
	# A key alone is what an enrolment left that was cut off: enroll overwrites none.
	[ ! -e "$etc/tls/$name.key" ] || mv -f "$etc/tls/$name.key" "$etc/tls/$name.key.before"
	forwarder enroll --server "$collector" --token-file "$here/token" --out "$etc/tls"
fi

source=kernel
[ "$replace" = yes ] || source=multicast
cat >"$etc/forwarder.conf.new" <<END
# Written by auditfleet's rollout; what stood here before is in forwarder.conf.before.
config = $etc/auditd.conf
source = $source
remote = $collector
transport = $transport
tls_ca = $etc/tls/ca.crt
tls_cert = $etc/tls/$name.crt
tls_key = $etc/tls/$name.key
spool = ${SPOOL:-/var/spool/auditfleet}
spool_size = 1G
END
# Nothing of the host's is changed for a configuration that cannot work.
forwarder --options "$etc/forwarder.conf.new" --check
[ ! -e "$etc/forwarder.conf" ] || cmp -s "$etc/forwarder.conf" "$etc/forwarder.conf.new" || cp -p "$etc/forwarder.conf" "$etc/forwarder.conf.before"
mv "$etc/forwarder.conf.new" "$etc/forwarder.conf"

instead=no
if [ "$replace" = yes ] && systemctl cat auditd.service >/dev/null 2>&1; then
	systemctl is-active --quiet auditd.service && instead=yes
	systemctl disable auditd.service
	# systemctl refuses to stop it where its unit has RefuseManualStop.
	service auditd stop || systemctl stop auditd.service
fi
systemctl enable auditfleet-forwarder.service
if ! systemctl restart auditfleet-forwarder.service; then
	journalctl -n 5 --no-pager -u auditfleet-forwarder.service || :
	if [ "$instead" = yes ]; then # no host stays without an audit daemon
		systemctl disable auditfleet-forwarder.service
		systemctl enable auditd.service
		systemctl start auditd.service
		echo "the forwarder did not start: auditd runs again"
	else
		echo "the forwarder did not start"
	fi
	exit 1
fi
# What doctor warns of (1) is for the log; a fault fails the host, and so does a doctor that could not look.
forwarder doctor --options "$etc/forwarder.conf" || [ $? -eq 1 ]
echo "$name: ships to $collector"
