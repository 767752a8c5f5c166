#!/bin/sh
# Runs every fuzz target of the tree for the time given (default 10s each), or those of the one package that follows it.
# Packages run side by side, one for each processor; each is built once for all its targets. FUZZ_PLAIN=1 takes the test
# binaries as they are: in a second or two, coverage leads nowhere that is worth compiling everything once more for.
set -eu
time=${1:-10s}
if [ $# -lt 2 ]; then
	grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u | xargs -P "$(nproc)" -n1 sh "$0" "$time"
	exit
fi
dir=$2
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
# Where go test keeps the inputs that led further.
kept=$(${GO:-go} env GOCACHE)/fuzz
package=$(${GO:-go} list "$dir")
if [ -n "${FUZZ_PLAIN:-}" ]; then
	${GO:-go} test -c -vet=off -o "$built/test" "$dir"
else
	${GO:-go} test -c -vet=off -fuzz . -o "$built/test" "$dir"
fi
cd "$dir"
sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' ./*_test.go >"$built/targets"
run() { "$built/test" -test.run '^$' -test.fuzz "^$1\$" -test.fuzztime "$time" -test.fuzzcachedir "$kept/$package" -test.parallel 1 -test.timeout 10m 2>&1 </dev/null; }
while read -r target; do
	echo "fuzz $dir $target for $time"
	for try in 1 2 3 4; do
		out=$(run "$target") && break
		# A worker still busy when the time is up fails the run in these words alone, with no input to blame.
		case $try$out in
		4* | *"Failing input written"* | *"--- FAIL: $target/"* | *panic:*) ;;
		*"context deadline exceeded"*)
			echo "$dir $target again: the time was up, no input failed"
			continue
			;;
		esac
		printf '%s\n' "$out"
		exit 1
	done
done <"$built/targets"
