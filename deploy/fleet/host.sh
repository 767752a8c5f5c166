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
	forwarder enroll --server "$collector" --token-file "$here/token" --out "$etc/tls"
fi

source=kernel
[ "$replace" = yes ] || source=multicast
[ ! -e "$etc/forwarder.conf" ] || [ -e "$etc/forwarder.conf.before" ] || cp -p "$etc/forwarder.conf" "$etc/forwarder.conf.before"
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
mv "$etc/forwarder.conf.new" "$etc/forwarder.conf"

if [ "$replace" = yes ] && systemctl cat auditd.service >/dev/null 2>&1; then
	systemctl disable auditd.service
	# systemctl refuses to stop it where its unit has RefuseManualStop.
	service auditd stop || systemctl stop auditd.service
fi
systemctl enable auditfleet-forwarder.service
systemctl restart auditfleet-forwarder.service
# What doctor warns of is for the log; what is at fault (3) fails the host.
forwarder doctor --options "$etc/forwarder.conf" || [ $? -ne 3 ]
echo "$name: ships to $collector"
