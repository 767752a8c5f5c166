#!/bin/sh
# Puts the forwarder on many hosts by ssh, with a certificate each. docs/fleet.md explains it.
#
#   rollout.sh HOSTS PACKAGE
#
# HOSTS has a host name a line (# begins a comment); PACKAGE is auditfleet-forwarder's .deb or .rpm, for all of them.
# It runs where the CA's folder is. What each host said is in $STATE/HOST.log; a host that is done is not touched again.
set -u
COLLECTOR=${COLLECTOR:?HOST:PORT of the collector, by which it is in its certificate}
CA=${CA:-/var/lib/auditfleet/ca}          # folder of collector ca init
STATE=${STATE:-rollout}                   # what is done, and what hosts said
PARALLEL=${PARALLEL:-10}                  # hosts at once
# A host whose key is not known, or is another one, fails; so does one that asks for a password, or says nothing for a minute.
SSH=${SSH:-ssh -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=15 -o ServerAliveCountMax=4 -l root}
SUDO=${SUDO:-}                            # "sudo -n", where ssh logs in as somebody who may become root
TRANSPORT=${TRANSPORT:-grpc}              # or tls: audisp-remote's protocol, to listen_tls
REPLACE=${REPLACE:-yes}                   # no: the forwarder listens beside the host's auditd

here=$(cd "$(dirname "$0")" && pwd)

# one does a host.
one() {
	host=$1 package=$2
	work=$(mktemp -d) || return 1
	trap 'rm -rf "$work"' EXIT
	trap 'exit 130' INT TERM HUP
	# The token is good for an hour and for one certificate, and goes over standard input: no list of processes has it.
	(umask 077 && collector token "$host" --dir "$CA" >"$work/token") || return 1
	cp "$here/host.sh" "$work" && cp "$package" "$work" || return 1
	# By sh, as login shells differ. The host goes on when the connection breaks: what dpkg has begun, it ends.
	tar -C "$work" -c . | $SSH "$host" "exec sh -c 'umask 077; d=\$(mktemp -d) || exit; tar -x -C \$d && $SUDO sh \$d/host.sh $host $COLLECTOR $TRANSPORT $REPLACE >\$d/said 2>&1 </dev/null; s=\$?; [ ! -e \$d/said ] || cat \$d/said; rm -rf \$d; exit \$s'"
	status=$?
	# A token that nobody used is not left lying about.
	[ "$status" -eq 0 ] || collector token --revoke "$host" --dir "$CA" >/dev/null 2>&1
	return "$status"
}

# hosts are the words of the list, each once.
hosts() { sed 's/#.*//' "$1" | tr -s ' \t\r' '\n' | awk 'NF && !seen[$0]++'; }

case ${1-} in
--one)
	log=$STATE/$2.log
	one "$2" "$3" >"$log" 2>&1 && : >"$STATE/$2.done" && echo "$2: done" && exit 0
	rm -f "$STATE/$2.done"
	# What a host says is not for a terminal to obey.
	echo "$2: FAILED: $(grep . "$log" | tail -n 1 | tr -cd '\040-\176' | cut -c 1-300)"
	exit 1 ;;
"" | -*)
	sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
	exit 2 ;;
esac
[ -r "$1" ] && [ -r "${2-}" ] || { echo "rollout.sh: no file ${1-} or ${2-}" >&2; exit 2; }
# They become words of a shell on the host.
case $COLLECTOR$TRANSPORT$REPLACE in *[!A-Za-z0-9._:[\]-]*) echo "rollout.sh: a character that is none of a name or an address in COLLECTOR, TRANSPORT or REPLACE" >&2; exit 2 ;; esac
mkdir -p "$STATE" || exit 1
exec 9>"$STATE/lock" && flock -n 9 || { echo "rollout.sh: another one runs with $STATE" >&2; exit 2; }
export COLLECTOR CA STATE SSH SUDO TRANSPORT REPLACE
hosts "$1" | while read -r host; do
	# Names become file names and words of a shell.
	case $host in
	-* | .* | *[!A-Za-z0-9._-]*) echo "$host: FAILED: no host name" >&2 ;;
	*) [ -e "$STATE/$host.done" ] || echo "$host" ;;
	esac
done | xargs -r -n 1 -P "$PARALLEL" sh -c 'sh "$0" --one "$2" "$1" || :' "$0" "$2"
want=$(hosts "$1" | wc -l)
have=$(hosts "$1" | while read -r host; do [ ! -e "$STATE/$host.done" ] || echo; done | wc -l)
echo "$have of $want hosts are done"
[ "$have" -eq "$want" ]
