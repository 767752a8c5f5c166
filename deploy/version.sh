#!/bin/sh
# version.sh version|commit|time|date|package: what this tree is, for the programs and the packages made of it.
# In a clone git says it; in a tarball the file deploy/revision does, which git archive (and GitHub) fills in. In a
# copy of neither kind it is unknown. time is the commit's, in seconds, or SOURCE_DATE_EPOCH.
set -e
cd "$(dirname "$0")/.."
git() { command git -c safe.directory='*' "$@" 2>/dev/null; } # root builds in somebody else's clone, too

read -r commit time version rest <deploy/revision || :
case $commit in
*[!0-9a-f]* | '') # not filled in
	commit='' time='' version=''
	# A tree that was unpacked within another project's clone is not that one's.
	if top=$(git rev-parse --show-toplevel) && [ "$top" = "$(pwd -P)" ]; then
		commit=$(git rev-parse HEAD) time=$(git log -1 --format=%ct)
		version=$(git describe --tags --always --dirty)
	fi
	;;
*) [ -n "$version" ] || version=$(echo "$commit" | cut -c 1-7) ;;
esac
time=${SOURCE_DATE_EPOCH:-$time}
on() { date -u -d "@$time" "+$1"; }

case $1 in
version) echo "${version:-unknown}" ;;
commit) echo "$commit" ;;
time) echo "$time" ;;
date) [ -z "$time" ] || on %Y-%m-%dT%H:%M:%SZ ;;
package) # a tag's own number, or the last release's and what came after: it sorts between that and the next one
	released=$(sed -n 's/^## v\([0-9][0-9.]*\) .*/\1/p' CHANGELOG.md | head -n 1)
	case $version in
	v[0-9]*-[0-9]*-g* | *-dirty) ;;
	v[0-9]*) echo "${version#v}" && exit ;;
	esac
	[ -n "$commit" ] || { echo "version.sh: nothing says which version this is: it is neither a clone nor a released tarball" >&2; exit 1; }
	echo "$released+git$(on %Y%m%d%H%M%S).$(echo "$commit" | cut -c 1-7)"
	;;
*) sed -n '2,4s/^# //p' "$0" >&2 && exit 2 ;;
esac
