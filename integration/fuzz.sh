#!/bin/sh
# Runs every fuzz target of the tree for the time given (default 10s each). A package is built once for all its targets.
set -eu
time=${1:-10s}
top=$PWD
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
# Where go test keeps the inputs that led further.
kept=$(${GO:-go} env GOCACHE)/fuzz
grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u >"$built/packages"
while read -r dir; do
	${GO:-go} test -c -vet=off -fuzz . -o "$built/test" "$dir"
	package=$(${GO:-go} list "$dir")
	sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$dir"/*_test.go >"$built/targets"
	while read -r target; do
		echo "fuzz $dir $target for $time"
		run() { cd "$top/$dir" && "$built/test" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$time" -test.fuzzcachedir "$kept/$package" -test.timeout 10m 2>&1 </dev/null; }
		for try in 1 2 3 4; do
			out=$(run) && break
			printf '%s\n' "$out"
			# A worker still busy when the time is up fails the run in these words alone, with no input to blame.
			case $try$out in
			4* | *"Failing input written"* | *"--- FAIL: $target/"* | *panic:*) exit 1 ;;
			*"context deadline exceeded"*) echo "again: the time was up, no input failed" ;;
			*) exit 1 ;;
			esac
		done
	done <"$built/targets"
done <"$built/packages"
