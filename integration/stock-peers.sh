#!/bin/sh
# Installs the stock audit tools (and strace, nft, ip, the shells that completion is for, mandoc for the manual pages,
# others that speak TLS with pre-shared keys, stunnel, an Alertmanager, promtool, and a source of accounts beside /etc/passwd) that tests need, where that is
# possible: as root, on a system with apt.
# Says what will be skipped otherwise. Never fails: the tests say for themselves what they miss.
missing=
nss=
for tool in auditd auditctl ausearch aureport audisp-remote strace nft ip zsh fish mandoc openssl gnutls-cli stunnel4 prometheus-alertmanager promtool; do
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
[ -n "$nss" ] || missing="$missing libnss-extrausers"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
	echo "stock peers missing:$missing. Tests that compare with them will be skipped."
	echo "To run them: as root on Debian, apt-get install auditd audispd-plugins strace nftables iproute2 zsh fish bash-completion mandoc openssl gnutls-bin stunnel4 prometheus-alertmanager prometheus libnss-extrausers"
	exit 0
fi
echo "installing the stock peers:$missing"
# The package starts its daemon where it can; a test machine's own audit is not ours to change.
policy=/usr/sbin/policy-rc.d
made=
trap '[ -z "$made" ] || rm -f "$policy"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
if [ ! -e "$policy" ]; then
	made=1
	printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 0755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends auditd audispd-plugins strace nftables iproute2 zsh fish bash-completion mandoc openssl gnutls-bin stunnel4 prometheus-alertmanager prometheus libnss-extrausers; } >/dev/null 2>&1 ||
	echo "apt-get could not install them: tests that compare with them will be skipped"
exit 0
