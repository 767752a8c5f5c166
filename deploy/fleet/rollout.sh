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
SSH=${SSH:-ssh -o BatchMode=yes -o ConnectTimeout=10 -l root}
TRANSPORT=${TRANSPORT:-grpc}              # or tls: audisp-remote's protocol, to listen_tls
REPLACE=${REPLACE:-yes}                   # no: the forwarder listens beside the host's auditd

here=$(cd "$(dirname "$0")" && pwd)

# one does a host.
one() {
	host=$1 package=$2
	work=$(mktemp -d) || exit 1
	trap 'rm -rf "$work"' EXIT
	trap 'exit 130' INT TERM HUP
	# The token is good for an hour and for one certificate, and goes over standard input: no list of processes has it.
	(umask 077 && collector token "$host" --dir "$CA" >"$work/token") || exit 1
	cp "$here/host.sh" "$work" && cp "$package" "$work" || exit 1
	tar -C "$work" -c . | $SSH "$host" "umask 077; d=\$(mktemp -d) && tar -x -C \$d && sh \$d/host.sh '$host' '$COLLECTOR' '$TRANSPORT' '$REPLACE'; s=\$?; rm -rf \$d; exit \$s"
}

case ${1-} in
--one)
	one "$2" "$3" >"$STATE/$2.log" 2>&1 && : >"$STATE/$2.done" && echo "$2: done" && exit 0
	rm -f "$STATE/$2.done"
	echo "$2: FAILED: $(tail -n 1 "$STATE/$2.log")"
	exit 1 ;;
"" | -*)
	sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
	exit 2 ;;
esac
[ -r "$1" ] && [ -r "${2-}" ] || { echo "rollout.sh: no file ${1-} or ${2-}" >&2; exit 2; }
mkdir -p "$STATE" || exit 1
export COLLECTOR CA STATE SSH TRANSPORT REPLACE
sed 's/#.*//' "$1" | tr -s ' \t' '\n' | grep . | while read -r host; do
	# Names become file names and words of a shell.
	case $host in
	-* | .* | *[!A-Za-z0-9._-]*) echo "$host: FAILED: no host name" >&2 ;;
	*) [ -e "$STATE/$host.done" ] || echo "$host" ;;
	esac
done | xargs -r -n 1 -P "$PARALLEL" sh -c 'sh "$0" --one "$2" "$1" || :' "$0" "$2"
want=$(sed 's/#.*//' "$1" | tr -s ' \t' '\n' | grep -c .)
have=$(sed 's/#.*//' "$1" | tr -s ' \t' '\n' | grep . | while read -r host; do [ ! -e "$STATE/$host.done" ] || echo; done | wc -l)
echo "$have of $want hosts are done"
[ "$have" -eq "$want" ]
