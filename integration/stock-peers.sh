#!/bin/sh
# Installs the stock audit tools that tests need, and strace, nft, ip, the shells that completion is for, mandoc for the manual pages,
# others that speak TLS with pre-shared keys, stunnel, HAProxy, an Alertmanager, promtool, a source of accounts beside /etc/passwd,
# ClickHouse and ZooKeeper, where that is possible: as root, on a system with apt.
# Says once what will be skipped otherwise. Never fails, but for ^C: the tests say for themselves what they miss.
missing=
nss=
for tool in auditd auditctl ausearch aureport audisp-remote strace nft ip zsh fish mandoc openssl gnutls-cli stunnel4 haproxy prometheus-alertmanager promtool clickhouse-server; do
	found=
	for dir in /usr/sbin /sbin /usr/bin /bin; do
		[ -x "$dir/$tool" ] && found=1
	done
	[ -n "$found" ] || missing="$missing $tool"
done
[ -e /usr/share/bash-completion/bash_completion ] || missing="$missing bash-completion"
for lib in /lib*/*/libnss_systemd.so.2 /lib*/libnss_extrausers.so.2 /usr/lib/libnss_extrausers.so.2; do
	[ -e "$lib" ] && nss=1
done
[ -e /usr/share/java/zookeeper.jar ] || missing="$missing zookeeper"
[ -n "$nss" ] || missing="$missing libnss-extrausers"
[ -n "$missing" ] || exit 0
packages="auditd audispd-plugins strace nftables iproute2 zsh fish bash-completion mandoc openssl gnutls-bin stunnel4 haproxy prometheus-alertmanager prometheus libnss-extrausers clickhouse-server zookeeper"
# skipped WHY: once, what that means and what would help.
skipped() {
	echo "missing:$missing. Tests that need them are skipped: $1."
	echo "To run them: as root on Debian, apt-get install $packages"
	exit 0
}
[ "$(id -u)" = 0 ] || skipped "not root"
command -v apt-get >/dev/null 2>&1 || skipped "no apt-get"
echo "installing the stock peers, which takes a minute or so:$missing"
# The package starts its daemon where it can; a test machine's own audit is not ours to change.
policy=/usr/sbin/policy-rc.d
ours="# of auditfleet's tests: starts nothing that they install"
made= told=
trap '[ -z "$made" ] || rm -f "$policy"' EXIT
trap 'told=130' INT
trap 'told=143' TERM HUP
# One that was left by a kill -9 is ours, too.
if [ ! -e "$policy" ] || grep -qsF "$ours" "$policy"; then
	made=1
	printf '#!/bin/sh\n%s\nexit 101\n' "$ours" >"$policy" && chmod 0755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt() { apt-get -qq -o Acquire::Retries=2 "$@" </dev/null >/dev/null 2>&1; }
# What is fetched can be fetched again. An installation that is broken off leaves packages half configured: out of ^C's reach (a
# session of its own) it comes to its end, which takes some seconds.
# shellcheck disable=SC2086
{ apt update; [ -n "$told" ] || apt install -y --no-install-recommends --download-only $packages; } || why="apt-get could not fetch them"
[ -z "$told" ] || exit $told
if [ -z "${why:-}" ]; then
	# shellcheck disable=SC2086
	setsid -w apt-get -qq install -y --no-install-recommends $packages </dev/null >/dev/null 2>&1 || why="apt-get could not install them"
fi
[ -z "$told" ] || exit $told
[ -z "${why:-}" ] || skipped "$why"
exit 0
