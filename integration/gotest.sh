#!/bin/sh
# Runs go test with the arguments given: flags as -name or -name=value, then packages. What go test prints is printed as it
# comes. At most six tests that failed are then run once more, each alone: one that passes is named in a line
# that begins with FLAKY, which is also appended to the file that $FLAKY names, and does not fail the run. A build that
# fails, a panic, a timeout, a data race, a leak, an exit of the program: what no test's name stands for fails at once.
# It says when it begins, what a test waits for, what was skipped because this machine lacks something, and how long it took.
set -u
most=6
# What was drawn at random is drawn again.
export AUDITFLEET_SEED="${AUDITFLEET_SEED:-$(date +%s)}"
work=$(mktemp -d)
began=$(date +%s)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
: >"$work/skipped"
export AUDITFLEET_SKIPPED="$work/skipped"
flags='' packages=''
for arg; do
	case $arg in
	-*) flags="$flags $arg" ;;
	*) packages="$packages $arg" ;;
	esac
done
# Neither has a space or a pattern in it, so both are split into words below.
# What a test says to whoever waits (AUDITFLEET_SAY) goes where go test prints: to the pipe, which the shell has that go takes the place of.
gotest() {
	{
		sh -c 'export AUDITFLEET_SAY="/proc/$$/fd/1"; exec "$@"' sh ${GO:-go} test "$@" 2>&1 || echo $? >"$work/code"
	} | tee "$work/out"
}

# ended says what was not tested, by reason, and how long all took.
ended() {
	sort -u "$work/skipped" | awk -F '\t' '
	{ sub("/.*", "", $1) }
	!(($1, $2) in seen) { seen[$1, $2]; tests[$2] = tests[$2] " " $1; n[$2]++ }
	END { for (why in n) printf "skipped %d: %s (%s)\n", n[why], why, substr(tests[why], 2) }' | sort
	took=$(($(date +%s) - began))
	echo "took $((took / 60)) min $((took % 60)) s"
}

rm -f "$work/code"
echo "begins at $(date +%H:%M); the line of a package comes when it has ended. All of them take some ten minutes on two quiet cores."
# shellcheck disable=SC2086
gotest $flags $packages
[ -e "$work/code" ] || { ended; exit 0; }

# go test prints the output of a package in one piece, which its line ends: the failed tests of each, or what else it was.
awk -F '\t' '
/^--- FAIL: / { split($0, word, " "); if (!seen[word[3]]++) tests[++n] = word[3] }
/^panic: |^fatal error: |^WARNING: DATA RACE/ { if (!why) why = $0 }
/^FAIL\t/ {
	split($2, word, " ")
	if (!why && !n) why = $0
	if (why) print "! " word[1] " " why
	else for (i = 1; i <= n; i++) print word[1] " " tests[i]
}
/^(FAIL|ok  )\t|^\?  / { n = 0; why = ""; split("", seen) }
' "$work/out" >"$work/failed"
if grep -q '^!' "$work/failed" || [ ! -s "$work/failed" ]; then
	sed -n 's/^! /not run again: /p' "$work/failed"
	ended
	exit 1
fi
if [ "$(wc -l <"$work/failed")" -gt $most ]; then
	echo "not run again: more than $most tests failed"
	ended
	exit 1
fi
code=0
while read -r package test; do
	echo "again, alone: $package $test"
	rm -f "$work/code"
	# shellcheck disable=SC2086
	gotest $flags "-run=^$test\$" "$package" </dev/null
	if [ -e "$work/code" ]; then
		code=1
	else
		echo "FLAKY: $package $test failed at first and passed alone" | tee -a "${FLAKY:-/dev/null}"
	fi
done <"$work/failed"
ended
exit $code
