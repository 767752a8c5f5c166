#!/bin/sh
# Runs every fuzz target of the tree for the time given (default 10s each).
set -eu
time=${1:-10s}
grep -rl --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do
	dir=$(dirname "$file")
	sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file" | while read -r target; do
		echo "fuzz $dir $target for $time"
		run() { go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$dir" 2>&1 </dev/null; }
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
	done
done
