#!/bin/sh
# Runs go test with the arguments given: flags as -name or -name=value, then packages. What go test prints is printed as it
# comes. At most six tests that failed are then run once more, each alone: one that passes is named in a line
# that begins with FLAKY, which is also appended to the file that $FLAKY names, and does not fail the run. A build that
# fails, a panic, a timeout, a data race, a leak, an exit of the program: what no test's name stands for fails at once.
set -u
most=6
# What was drawn at random is drawn again.
export AUDITFLEET_SEED="${AUDITFLEET_SEED:-$(date +%s)}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags='' packages=''
for arg; do
	case $arg in
	-*) flags="$flags $arg" ;;
	*) packages="$packages $arg" ;;
	esac
done
# Neither has a space or a pattern in it, so both are split into words below.
gotest() { { ${GO:-go} test "$@" 2>&1 || echo $? >"$work/code"; } | tee "$work/out"; }

rm -f "$work/code"
# shellcheck disable=SC2086
gotest $flags $packages
[ -e "$work/code" ] || exit 0

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
	exit 1
fi
if [ "$(wc -l <"$work/failed")" -gt $most ]; then
	echo "not run again: more than $most tests failed"
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
exit $code
