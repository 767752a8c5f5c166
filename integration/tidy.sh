#!/bin/sh
# tidy.sh COMMAND…: runs the command with a folder for temporary files of its own, and when it has ended, or was told to end (^C, SIGTERM,
# SIGHUP), leaves none of its files, mounts and processes. Told to end it has half a minute to put back what it changed (audit rules);
# told once more it has no time. What is in the way of that is said.
# Only bash can have what it starts in a process group of its own without a terminal; what is started with & ignores ^C otherwise.
if [ -z "$BASH_VERSION" ]; then
	if command -v bash >/dev/null; then exec bash "$0" "$@"; else exec "$@"; fi
fi
set -um
dir= child= told=
end() {
	if [ -z "$child" ]; then exit "$2"; fi
	if [ -n "$told" ]; then
		kill -KILL -- "-$child"
	else
		told=$2
		kill "-$1" -- "-$child"
	fi 2>/dev/null
}
trap 'end INT 130' INT
trap 'end TERM 143' TERM
trap 'end HUP 129' HUP
trap '[ -z "$dir" ] || clean' EXIT

# ours lists the processes that the command has started: their environment names the folder, or their program lies in it.
ours() {
	{
		grep -lzsF "TMPDIR=$dir" /proc/[0-9]*/environ
		find /proc -maxdepth 2 -name exe -lname "$dir/*" 2>/dev/null
	} | cut -d / -f 3 | sort -u
}
clean() {
	trap '' INT TERM HUP
	# What was told to end has time for it, also in a process group of its own; what was left running has had its time.
	if [ -n "$told" ]; then
		for pid in $(ours); do kill -TERM "$pid"; done 2>/dev/null
		until=$((SECONDS + 30))
		while [ -n "$(ours)" ] && [ $SECONDS -lt $until ]; do sleep 0.1; done
	fi
	for pid in $(ours); do kill -KILL "$pid"; done 2>/dev/null
	while read -r _ _ _ _ at _; do
		case $at in "$dir"/*) umount -l "$at" ;; esac
	done 2>/dev/null </proc/self/mountinfo
	chmod -R u+rwX "$dir" 2>/dev/null
	rm -rf --one-file-system "$dir"
}

# Short, for the names of sockets have 108 bytes; open to others, for tests become other users.
# go runs what it builds there, which hardened hosts have forbidden in /tmp (noexec): another place is said.
for place in "${TMPDIR:-/tmp}/af" /var/tmp/af "$PWD/.af"; do
	dir=$(mktemp -d "${place}XXXX") || continue
	printf '#!/bin/sh\n' >"$dir/run" && chmod 700 "$dir/run" && "$dir/run" 2>/dev/null && break
	rm -rf "$dir"
	echo "programs can't be run in ${place%/*} (noexec?): temporary files go elsewhere" >&2
	dir=
done
[ -n "$dir" ] || { echo "TMPDIR=FOLDER names a folder where programs can be run" >&2; exit 1; }
rm "$dir/run"
chmod 755 "$dir"
TMPDIR=$dir "$@" </dev/null &
child=$!
# A signal ends the wait, not the command. bash says at the wait what became of a job.
while
	wait "$child"
	code=$?
	kill -0 "$child" 2>/dev/null
do :; done 2>/dev/null
exit "${told:-$code}"
