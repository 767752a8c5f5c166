#!/bin/sh
# build.sh OUT: makes the .deb and .rpm of every package and architecture ($ARCHES) in the folder OUT, the same bytes each time.
# It needs the programs of this machine in bin, which write the completion, and Go; nothing of Debian's or Red Hat's tools.
set -e
umask 022
cd "$(dirname "$0")/../.."
mkdir -p "$1"
out=$(cd "$1" && pwd)
build=$out/build
GO=${GO:-go}
export GOFLAGS="$GOFLAGS -trimpath" # the bill of materials has the hash of the tool that made it
NFPM="$GO run github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2"
SBOM="$GO run github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0"
STOCK_NAMES=${STOCK_NAMES:?make packages says them}
PACKAGE_VERSION=$(sh deploy/version.sh package)
SOURCE_DATE_EPOCH=$(sh deploy/version.sh time)
MAINTAINER=${MAINTAINER:-auditfleet developers <auditfleet@users.noreply.github.com>}
MADE=$build/made
export PACKAGE_VERSION SOURCE_DATE_EPOCH MAINTAINER MADE

# made COMMAND FILE: what COMMAND prints becomes FILE, compressed without the time and a name.
made() {
	mkdir -p "$(dirname "$2")"
	$1 >"$MADE/text"
	gzip -9n <"$MADE/text" >"$2"
}

texts() { "$MADE/texts" "$@"; }
entries() { texts entries "$1" "$PACKAGE_VERSION-1" "$MAINTAINER" "$SOURCE_DATE_EPOCH" <CHANGELOG.md; }
changelog() { texts changelog "$1" "$PACKAGE_VERSION-1" "$MAINTAINER" "$SOURCE_DATE_EPOCH" <CHANGELOG.md; }

# documented PACKAGE FORMAT STAGE: what every package has in its folder of documentation.
documented() {
	doc=$3/usr/share/doc/$1
	mkdir -p "$doc"
	cp deploy/packages/copyright "$doc/copyright"
	made "cat CHANGELOG.md" "$doc/changelog.gz"
	[ "$2" = rpm ] || made "changelog $1" "$doc/changelog.Debian.gz"
	if [ "$2" = deb ] && [ -e "deploy/packages/deb/$1.lintian" ]; then
		install -D -m 0644 "deploy/packages/deb/$1.lintian" "$3/usr/share/lintian/overrides/$1"
	fi
}

# described NAME STAGE DESCRIPTION: what only an .rpm says of itself: which files are documentation ("rpm -qd", --excludedocs) and which
# the licence, each named, and what has changed ("rpm -q --changelog").
described() {
	rm -rf "$2.docs"
	for file in $(cd "$2" && find usr/share/man usr/share/doc -type f 2>/dev/null | sort); do
		mkdir -p "$2.docs/${file%/*}"
		mv "$2/$file" "$2.docs/$file"
		kind=doc
		[ "${file##*/}" != copyright ] || kind=license
		echo "  - {src: $2.docs/$file, dst: /$file, type: $kind}"
	done >"$MADE/docs"
	entries "auditfleet-$1" >"$MADE/entries"
	sed -i "/^contents:/r $MADE/docs" "$3"
	echo "changelog: $MADE/entries" >>"$3"
}

# pack NAME FORMAT ARCH STAGE: the package auditfleet-NAME.
pack() {
	find "$4" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	description=$MADE/$1.$2.yaml
	cp "deploy/packages/$1.yaml" "$description"
	[ "$2" = deb ] || described "$1" "$4" "$description"
	(cd "$build/here" && STAGE=$4 ARCH=$3 $NFPM package -f "$description" -p "$2" -t "$out/") >"$MADE/said" || { cat "$MADE/said" >&2; exit 1; }
	sed -n 's/^created package: //p' "$MADE/said"
}

# program NAME FORMAT ARCH: the package of one of the two programs.
program() {
	stage=$build/$2-$3/$1
	rm -rf "$stage"
	DESTDIR=$stage PREFIX=/usr FOLDED=1 RUNS=bin sh deploy/install.sh install "$1" "$build/$3"
	if [ "$2" = deb ]; then # where Debian's zsh looks
		mv "$stage/usr/share/zsh/site-functions" "$stage/usr/share/zsh/vendor-completions"
	fi
	documented "auditfleet-$1" "$2" "$stage"
	made "texts notices $build/$3/$1" "$doc/NOTICES.gz"
	made "$SBOM bin -json -std -noserial -notimestamp -version $PACKAGE_VERSION $build/$3/$1" "$doc/sbom.cdx.json.gz"
	for kind in tmpfiles sysusers; do
		[ ! -e "deploy/packages/$1.$kind" ] || install -D -m 0644 "deploy/packages/$1.$kind" "$stage/usr/lib/$kind.d/auditfleet-$1.conf"
	done
	pack "$1" "$2" "$3" "$stage"
}

# names FORMAT: the package of links by which the forwarder answers to the stock tools' names.
names() {
	stage=$build/$1-all/stock-names
	rm -rf "$stage"
	for name in $STOCK_NAMES; do
		to=/usr/sbin
		case $1:$name in
		rpm:*) to=/usr/libexec/auditfleet ;;
		*:aulast | *:aulastlog | *:ausyscall) to=/usr/bin ;;
		esac
		mkdir -p "$stage$to"
		case $to in
		/usr/sbin) ln -s forwarder "$stage$to/$name" ;;
		/usr/bin) ln -s ../sbin/forwarder "$stage$to/$name" ;;
		*) ln -s ../../sbin/forwarder "$stage$to/$name" ;;
		esac
		sh deploy/completion.sh bin forwarder "$stage/usr/share" "$name"
	done
	if [ "$1" = deb ]; then
		mv "$stage/usr/share/zsh/site-functions" "$stage/usr/share/zsh/vendor-completions"
	fi
	documented auditfleet-stock-names "$1" "$stage"
	pack stock-names "$1" all "$stage"
}

rm -rf "$build"
mkdir -p "$MADE" "$build/here"
# nfpm looks at what a link leads to as seen from where it runs: that must be nothing, or the link becomes a folder.
ln -s "$PWD/deploy" "$build/here/deploy"
rm -f "$out"/*.deb "$out"/*.rpm
(unset GOARCH && $GO build -o "$MADE/texts" ./deploy/packages/texts)
# What an upgrade hands to the collector's user is the same whichever program unpacks.
ln -s "$MADE" "$build/here/made"
for script in deb/collector.postinst rpm/collector.post; do
	sed -e '/^@handed@$/{r deploy/packages/collector.handed' -e 'd}' "deploy/packages/$script" >"$MADE/${script#*/}"
done
# A package changes nothing of a running auditd: its plugin is there, and not active.
sed -e 's|/usr/local/sbin/|/usr/sbin/|' -e 's/^active = yes/active = no/' deploy/au-fleet.conf >"$MADE/au-fleet.conf"
touch -d "@$SOURCE_DATE_EPOCH" "$MADE/au-fleet.conf"
for arch in ${ARCHES:-amd64 arm64}; do
	GOARCH=$arch ${MAKE:-make} -s build BIN="$build/$arch"
	for format in ${FORMATS:-deb rpm}; do
		program forwarder $format $arch
		program collector $format $arch
	done
done
for format in ${FORMATS:-deb rpm}; do names $format; done
