#!/bin/sh
# install.sh install|uninstall PROGRAM BIN: puts PROGRAM, from the folder BIN, with its manual pages, completion and unit below
# $DESTDIR$PREFIX, or removes them. Configuration and data are not its to touch. $RUNS is a folder with a PROGRAM that this
# machine can run to write the completion, where BIN's is for another one. $UNITDIR is where the unit goes, $FOLDED non-empty
# has manual pages compressed.
set -e
do=$1 program=$2 bin=$3
prefix=${PREFIX:-/usr/local}
root=$DESTDIR$prefix
units=$DESTDIR${UNITDIR:-$prefix/lib/systemd/system}
deploy=$(dirname "$0")

pages() { for page in "$deploy/man/$program.8" "$deploy/man/$program"[-.]*.[58]; do echo "$page"; done | sort -u; }

if [ "$do" = uninstall ]; then
	rm -f "$root/sbin/$program" "$units/auditfleet-$program.service"
	for page in $(pages); do
		rm -f "$root/share/man/man${page##*.}/${page##*/}" "$root/share/man/man${page##*.}/${page##*/}.gz"
	done
	for name in "$program" auditctl augenrules autrace ausearch aureport aulast aulastlog ausyscall; do
		if [ "$name" != "$program" ]; then # a link of install-stock-names that leads here, or another's
			[ "$(readlink "$root/sbin/$name")" = "$program" ] || continue
			rm -f "$root/sbin/$name"
		fi
		rm -f "$root/share/bash-completion/completions/$name" "$root/share/zsh/site-functions/_$name" "$root/share/fish/vendor_completions.d/$name.fish"
	done
	exit
fi

install -D -m 0755 "$bin/$program" "$root/sbin/$program"
for page in $(pages); do
	name=${page##*/} folder=$root/share/man/man${page##*.}
	install -d "$folder"
	to=$(readlink "$page") || to=
	case $to in
	"$program"*) # of the same program: a link again
		ln -sf "$to${FOLDED:+.gz}" "$folder/$name${FOLDED:+.gz}" && continue ;;
	esac
	# A page of the other program, which need not be there, is a copy.
	if [ -n "$FOLDED" ]; then
		gzip -9n <"$page" >"$folder/$name.gz" && chmod 0644 "$folder/$name.gz"
	else
		rm -f "$folder/$name" # perhaps a link of an earlier version
		install -m 0644 "$page" "$folder/$name"
	fi
done
install -d "$units"
sed "s|/usr/local/sbin/|$prefix/sbin/|" "$deploy/auditfleet-$program.service" >"$units/auditfleet-$program.service"
chmod 0644 "$units/auditfleet-$program.service"
sh "$deploy/completion.sh" "${RUNS:-$bin}" "$program" "$root/share"
