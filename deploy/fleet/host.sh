#!/bin/sh
# What rollout.sh does on a host, as root: host.sh NAME COLLECTOR TRANSPORT REPLACE. It may be repeated, also after it was cut off anywhere.
set -eu
name=$1 collector=$2 transport=$3 replace=$4
etc=${ETC:-/etc/auditfleet}
here=$(cd "$(dirname "$0")" && pwd)
umask 022 # of what a package's scripts make

# fail's words are the last ones, which rollout.sh shows.
fail() { printf '%s\n' "$*"; exit 1; }

for package in "$here"/*.deb; do
	[ ! -e "$package" ] || DEBIAN_FRONTEND=noninteractive dpkg -i --force-confold "$package" || fail "dpkg -i ended with $?"
done
for package in "$here"/*.rpm; do [ ! -e "$package" ] || rpm -U --replacepkgs "$package" || fail "rpm -U ended with $?"; done

# The key is made here and never leaves. A certificate that is here is kept, and renewed by the forwarder.
if [ ! -e "$etc/tls/$name.crt" ]; then
	# A key alone is what an enrolment left that was killed, and none is ever overwritten.
	[ ! -e "$etc/tls/$name.key" ] || mv -f "$etc/tls/$name.key" "$etc/tls/$name.key.before"
	chown "$(id -u)" "$here/token" # with sudo it is whose who logged in; a file of another's is not taken
	forwarder enroll --server "$collector" --token-file "$here/token" --out "$etc/tls"
fi

source=kernel
[ "$replace" = yes ] || source=multicast
rm -f "$etc/forwarder.conf.new"
(umask 077 && cat >"$etc/forwarder.conf.new") <<END
# Written by auditfleet's rollout; what stood here before is in forwarder.conf.before.
config = $etc/auditd.conf
source = $source
# Records say the name that the certificate proves, whatever the host calls itself: else each is a mismatch.
node = $name
remote = $collector
transport = $transport
tls_ca = $etc/tls/ca.crt
tls_cert = $etc/tls/$name.crt
tls_key = $etc/tls/$name.key
spool = ${SPOOL:-/var/spool/auditfleet}
spool_size = 1G
END
# Before anything of the host's is stopped.
forwarder --check --options "$etc/forwarder.conf.new" || fail "the configuration is not taken"
[ ! -e "$etc/forwarder.conf" ] || cmp -s "$etc/forwarder.conf" "$etc/forwarder.conf.new" || cp -p "$etc/forwarder.conf" "$etc/forwarder.conf.before"
mv "$etc/forwarder.conf.new" "$etc/forwarder.conf"

enabled='' running=''
if [ "$replace" = yes ] && systemctl cat auditd.service >/dev/null 2>&1; then
	! systemctl is-enabled --quiet auditd.service || enabled=yes
	! systemctl is-active --quiet auditd.service || running=yes
	systemctl disable auditd.service
	# systemctl refuses to stop it where its unit has RefuseManualStop.
	service auditd stop || systemctl stop auditd.service
fi
if ! { systemctl enable auditfleet-forwarder.service && systemctl restart auditfleet-forwarder.service; }; then
	journalctl -n 20 --no-pager -u auditfleet-forwarder.service || :
	[ "$enabled$running" ] || fail "the forwarder does not start"
	# A host without any audit daemon is worse than one that is not done.
	systemctl disable auditfleet-forwarder.service || :
	[ ! "$enabled" ] || systemctl enable auditd.service || :
	[ ! "$running" ] || systemctl start auditd.service || fail "the forwarder does not start, and auditd neither"
	fail "the forwarder does not start; auditd is as it was"
fi
# What doctor warns of (1) is for the log. A fault fails the host (the heaviest is the first line), and so does a doctor that could not look.
status=0
said=$(forwarder doctor --options "$etc/forwarder.conf") || status=$?
printf '%s\n' "$said"
[ "$status" -le 1 ] || fail "it runs, but: $(printf '%s\n' "$said" | head -n 1)"
echo "$name: ships to $collector"
