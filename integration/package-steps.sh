#!/bin/sh
# package-steps.sh fresh|beside|rpm|since-deb|since-rpm|stores: what package-test.sh does within the Debian that it has made. Not for any other machine.
set -e
[ -e /packages/sample.log ] || { echo "package-steps: package-test.sh runs this, in a chroot" >&2; exit 1; }

step() { echo "== $what: $*"; now=$*; }
what=$1
trap '[ $? = 0 ] || { echo "package-steps: $what: failed: $now" >&2; tail -n 20 /tmp/said >&2; }' EXIT
# Each check is a command of its own: set -e passes over what fails before && or behind !.
fail() { echo "$*" >>/tmp/said; exit 1; }
is() { [ "$1" "$2" ] || fail "not so: [ $1 $2 ]"; }
no() { if [ -e "$1" ] || [ -L "$1" ]; then fail "$1 is there"; fi; }
same() { [ "$1" = "$2" ] || fail "\"$1\" is not \"$2\""; }
has() { grep -q -- "$2" "$1" || fail "$1 lacks: $2; has: $(cat "$1")"; }
lacks() { if grep -- "$2" "$1" >>/tmp/said; then fail "$1 has: $2"; fi; }
mode() { same "$(stat -c '%a %U' "$1")" "$2 root"; }
apt() { apt-get -y -qq --no-install-recommends "$@" >>/tmp/said 2>&1; }
# debs VERSION NAME…: installs packages. confold: what an administrator changed is kept without a question.
debs() {
	version=$1 list=
	shift
	for name in "$@"; do list="$list /packages/$version/auditfleet-$name.deb"; done
	# shellcheck disable=SC2086
	dpkg --force-confold -i $list >>/tmp/said 2>&1
}
# Wherever systemctl would be asked to do something, it is noted.
systemd() {
	mkdir -p /run/systemd/system
	printf '#!/bin/sh\necho "$*" >>/tmp/asked\ncase "$*" in *is-enabled*) echo enabled ;; *is-active*) echo active ;; esac\n' >/usr/bin/systemctl
	chmod 0755 /usr/bin/systemctl
}
asked() { has /tmp/asked "$1"; }
# serve starts the collector as whom its store belongs to: it takes no other user's but root's.
serve() {
	as=
	if [ "$(stat -c %U /var/lib/auditfleet/collector 2>/dev/null)" = auditfleet ]; then
		as="setpriv --reuid=auditfleet --regid=auditfleet --init-groups --inh-caps=-all,+net_bind_service --ambient-caps=-all,+net_bind_service --"
	fi
	# shellcheck disable=SC2086
	$as collector serve --config /etc/auditfleet/collector.conf >>/tmp/said 2>&1 &
	collector=$!
	until [ -S /var/lib/auditfleet/collector/collector.sock ]; do
		kill -0 $collector # or it has ended
		sleep 0.1
	done
}
end() {
	kill $collector
	wait $collector
}
found() { same "$(collector search --store /var/lib/auditfleet/collector -m ADD_USER --count 2>>/tmp/said)" "$1"; }

# get FORMAT VERSION: the forwarder's and the collector's packages, as an upgrade or as what was there before it.
get() {
	case $1 in
	deb) debs "$2" forwarder collector ;;
	rpm) command rpm --nodeps -U --oldpackage "/packages/$2"/auditfleet-forwarder-[0-9]*."$a".rpm "/packages/$2"/auditfleet-collector-[0-9]*."$a".rpm >>/tmp/said 2>&1 ;;
	esac
}
# kept FORMAT: where that format puts the new example of a file that was changed.
kept() { case $1 in deb) echo dpkg-dist ;; rpm) echo rpmnew ;; esac; }

fresh() {
	step "the version before, on a host that never had auditd"
	debs old forwarder collector
	is -x /usr/sbin/forwarder
	is -x /usr/sbin/collector
	forwarder version >>/tmp/said
	collector version >>/tmp/said
	mode /etc/auditfleet/forwarder.conf 640
	mode /etc/auditfleet/collector.conf 640
	same "$(stat -c %G /etc/auditfleet/collector.conf)" auditfleet
	mode /etc/audit 750
	mode /var/spool/auditfleet 700
	no /etc/audit/auditd.conf
	no /etc/audit/audisp-remote.conf
	has /etc/group "^auditfleet:"
	has /etc/passwd "^auditfleet:"
	[ -z "$(find /etc/systemd -name 'auditfleet*')" ] # nothing is enabled
	gzip -dc /usr/share/man/man8/collector-salvage.8.gz | grep -q salvage
	gzip -t /usr/share/doc/auditfleet-*/*.gz

	step "the units, as systemd reads them"
	systemd-analyze verify --man=no /usr/lib/systemd/system/auditfleet-forwarder.service /usr/lib/systemd/system/auditfleet-collector.service >/tmp/verified 2>&1 || :
	grep -v /bin/kill /tmp/verified >/tmp/wrong || : # procps is in every Debian but the least
	lacks /tmp/wrong auditfleet

	step "records, with the configuration as it was installed"
	serve
	forwarder --source /packages/sample.log --node web1 --remote 127.0.0.1:60 --spool /var/spool/auditfleet/file --config /etc/auditfleet/auditd.conf >>/tmp/said 2>&1
	found 1
	end

	step "upgrade: what was root's and the collector needs is its user's; what it cannot read elsewhere is said"
	mkdir -p /etc/auditfleet/tls /srv/tls && collector ca init --dir /var/lib/auditfleet/issuer >>/tmp/said 2>&1
	collector ca issue log1 --dir /var/lib/auditfleet/issuer --out /etc/auditfleet/tls >>/tmp/said 2>&1
	cp /etc/auditfleet/tls/log1.key /srv/tls/
	collector seal init --name log1 >>/tmp/said 2>&1
	for key in ca cert key; do echo "tls_$key = /etc/auditfleet/tls/$key"; done |
		sed 's:/key:/log1.key:; s:/cert:/log1.crt:; s:/ca$:/ca.crt:' >>/etc/auditfleet/collector.conf
	echo "listen_tls = :61" >>/etc/auditfleet/collector.conf
	chown -R root:root /var/lib/auditfleet /etc/auditfleet/tls
	chmod 0700 /etc/auditfleet/tls
	cp -a /etc/auditfleet/collector.conf /tmp/conf
	sed -i 's:^tls_key = .*:tls_key = /srv/tls/log1.key:' /etc/auditfleet/collector.conf
	dpkg --force-confold -i /packages/new/auditfleet-collector.deb >/tmp/upgraded 2>&1
	has /tmp/upgraded 'tls_key: open /srv/tls/log1.key: permission denied'
	has /tmp/upgraded 'will not start'
	cp -a /tmp/conf /etc/auditfleet/collector.conf
	cp -a /etc/auditfleet/forwarder.conf /tmp/conf
	echo "tls_key = /etc/auditfleet/tls/log1.key" >>/etc/auditfleet/forwarder.conf # which takes a key of root's only
	dpkg --force-confold -i /packages/new/auditfleet-collector.deb >/tmp/upgraded 2>&1
	has /tmp/upgraded 'tls_key: open /etc/auditfleet/tls/log1.key: permission denied'
	mode /etc/auditfleet/tls/log1.key 600
	cp -a /tmp/conf /etc/auditfleet/forwarder.conf
	dpkg --force-confold -i /packages/new/auditfleet-collector.deb >/tmp/upgraded 2>&1
	lacks /tmp/upgraded 'auditfleet-collector: '
	same "$(stat -c '%a %U' /etc/auditfleet/tls/log1.key)" "600 auditfleet"
	mode /etc/auditfleet/tls/ca.crt 644
	same "$(find /var/lib/auditfleet -mindepth 1 ! -user auditfleet)" ""
	serve
	same "$(stat -c %U /proc/$collector)" auditfleet
	found 1
	end
	sed -i '/^tls_/d; /^listen_tls/d' /etc/auditfleet/collector.conf
	debs old collector

	step "upgrade: what was changed is kept, what ran is started again, data is there"
	echo "max_days = 400" >>/etc/auditfleet/collector.conf
	mkdir -p /etc/auditfleet/tls /var/log/audit && echo key >/etc/auditfleet/tls/host.key && echo record >/var/log/audit/audit.log
	systemd
	debs new forwarder collector
	has /etc/auditfleet/collector.conf '^max_days = 400'
	is -e /etc/auditfleet/collector.conf.dpkg-dist
	lacks /etc/auditfleet/forwarder.conf 'example of before' # nobody changed it: the new one
	asked "try-restart auditfleet-forwarder.service"
	asked "try-restart auditfleet-collector.service"
	lacks /tmp/asked 'enable\|stop '
	rm -f /tmp/asked
	sed -i '/^max_days = 0/d' /etc/auditfleet/collector.conf
	serve
	found 1

	step "removed: it is stopped, configuration and data stay; installed again, it goes on"
	end
	apt remove auditfleet-forwarder auditfleet-collector
	asked "stop auditfleet-forwarder.service"
	asked "stop auditfleet-collector.service"
	no /usr/sbin/collector
	no /usr/lib/systemd/system/auditfleet-collector.service
	has /etc/auditfleet/collector.conf '^max_days = 400'
	debs new forwarder collector
	serve
	found 1

	step "purged while something is on hold: the store stays, and the keys"
	collector hold add web1 --reason "case 4711" --store /var/lib/auditfleet/collector >>/tmp/said 2>&1
	end
	mkdir -p /var/lib/auditfleet/ca && echo key >/var/lib/auditfleet/ca/ca.key
	ln -s /usr/lib/systemd/system/auditfleet-collector.service /etc/systemd/system/multi-user.target.wants/
	apt purge auditfleet-collector
	is -e /var/lib/auditfleet/collector/HOLDS
	is -e /var/lib/auditfleet/ca/ca.key
	is -e /etc/auditfleet/tls/host.key
	no /etc/auditfleet/collector.conf
	no /etc/systemd/system/multi-user.target.wants/auditfleet-collector.service

	step "purged without a hold: the store goes, keys and the host's log stay"
	debs new collector
	serve
	found 1
	collector hold remove web1 --reason closed --store /var/lib/auditfleet/collector >>/tmp/said 2>&1
	end
	apt purge auditfleet-collector auditfleet-forwarder
	no /var/lib/auditfleet/collector
	is -e /var/lib/auditfleet/ca/ca.key
	no /var/spool/auditfleet
	no /etc/auditfleet/forwarder.conf
	no /etc/audit/plugins.d/au-fleet.conf
	is -e /var/log/audit/audit.log
	is -e /etc/auditfleet/tls/host.key
	[ -z "$(dpkg -l 'auditfleet-*' 2>/dev/null | grep '^[a-z]i')" ]
}

# stock says which program a name leads to: ours or auditd's.
stock() { ausearch --version 2>&1 | grep -q auditfleet && echo ours || echo auditd; }

beside() {
	printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod 0755 /usr/sbin/policy-rc.d

	step "auditd is installed after us: no file of its is there, and no question is asked"
	debs new forwarder collector
	apt install auditd audispd-plugins
	same "$(stock)" auditd
	has /etc/audit/plugins.d/au-fleet.conf '^active = no'
	dpkg --verify auditd >>/tmp/said

	step "the stock names become ours, auditd's programs go aside"
	debs old stock-names
	debs new stock-names
	same "$(stock)" ours
	for name in auditctl augenrules aureport ausearch autrace; do
		same "$(readlink -f /usr/sbin/$name)" /usr/sbin/forwarder
		is -f /usr/sbin/$name.auditd
		is -x /sbin/$name.auditd
	done
	for name in aulast aulastlog ausyscall; do
		same "$(readlink -f /usr/bin/$name)" /usr/sbin/forwarder
		is -f /usr/bin/$name.auditd
	done
	ausyscall x86_64 openat >>/tmp/said
	auditctl -v | grep -q auditfleet
	/usr/sbin/ausearch.auditd --version | grep -qv auditfleet

	step "auditd is installed again, removed, installed: its programs stay aside"
	apt install --reinstall auditd
	same "$(stock)" ours
	is -f /usr/sbin/ausearch.auditd
	apt remove auditd
	same "$(stock)" ours
	no /usr/sbin/ausearch.auditd
	apt install auditd
	same "$(stock)" ours
	is -f /usr/sbin/ausearch.auditd

	step "the stock names are auditd's again"
	apt remove auditfleet-stock-names
	same "$(stock)" auditd
	no /usr/sbin/ausearch.auditd
	[ -z "$(dpkg-divert --list 'auditfleet*'; dpkg-divert --list | grep auditfleet)" ]
	dpkg --verify auditd >>/tmp/said

	step "the stock names without the forwarder: refused, auditd keeps its programs"
	apt remove auditfleet-forwarder
	if debs new stock-names; then fail "they were installed"; fi
	has /tmp/said "install auditfleet-forwarder first"
	same "$(stock)" auditd
	[ -z "$(dpkg-divert --list | grep auditfleet)" ]
	# apt sees to the order.
	apt install /packages/new/auditfleet-stock-names.deb /packages/new/auditfleet-forwarder.deb
	same "$(stock)" ours
	apt purge auditfleet-stock-names
	same "$(stock)" auditd

	step "the stock names with the forwarder, before auditd and without it"
	apt purge auditd audispd-plugins auditfleet-forwarder
	debs new forwarder stock-names
	same "$(stock)" ours
	apt install auditd
	same "$(stock)" ours
	is -f /usr/sbin/auditctl.auditd
	apt purge auditfleet-stock-names auditfleet-forwarder auditfleet-collector
	same "$(stock)" auditd
	is -e /etc/audit/auditd.conf
	is -d /etc/audit/rules.d
	dpkg --verify auditd >>/tmp/said
}

rpm() {
	step "the .rpm: installed, verified, the names by alternatives, removed"
	command rpm --nodeps -i /packages/new/auditfleet-*."$a".rpm /packages/new/auditfleet-*.noarch.rpm >>/tmp/said 2>&1
	command rpm -Va --nodeps >>/tmp/said
	forwarder version >>/tmp/said
	collector version >>/tmp/said
	has /etc/group "^auditfleet:"
	has /etc/passwd "^auditfleet:"
	mode /var/spool/auditfleet 700
	same "$(stock)" ours
	same "$(readlink -f /usr/sbin/auditctl)" /usr/sbin/forwarder
	echo "# mine" >>/etc/auditfleet/forwarder.conf
	command rpm --nodeps -e auditfleet-stock-names auditfleet-forwarder auditfleet-collector >>/tmp/said 2>&1
	no /usr/sbin/auditctl
	no /usr/sbin/forwarder
	is -e /etc/auditfleet/forwarder.conf.rpmsave
	is -d /var/spool/auditfleet

	step "the .rpm beside auditd's programs, which stay"
	printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod 0755 /usr/sbin/policy-rc.d
	apt install auditd
	command rpm --nodeps -i /packages/new/auditfleet-forwarder*."$a".rpm /packages/new/auditfleet-*.noarch.rpm >>/tmp/said 2>&1
	same "$(stock)" auditd
	/usr/libexec/auditfleet/auditctl -v | grep -q auditfleet
	command rpm --nodeps -e auditfleet-stock-names auditfleet-forwarder >>/tmp/said 2>&1
	same "$(stock)" auditd
}

# since FORMAT: from the first version that had packages, whose collector was root's.
since() {
	step "the first version: a store, a CA, a certificate and a key, all root's"
	get "$1" first
	serve
	same "$(stat -c %U /proc/$collector)" root
	forwarder --source /packages/sample.log --node web1 --remote 127.0.0.1:60 --spool /var/spool/auditfleet/file --config /etc/auditfleet/auditd.conf >>/tmp/said 2>&1
	found 1
	end
	echo "127.0.0.1 log1" >>/etc/hosts
	mkdir -m 0700 /etc/auditfleet/tls
	collector ca init --dir /var/lib/auditfleet/issuer >>/tmp/said 2>&1
	for name in log1 web2; do collector ca issue $name --dir /var/lib/auditfleet/issuer --out /etc/auditfleet/tls >>/tmp/said 2>&1; done
	collector seal init --name log1 >>/tmp/said 2>&1
	printf 'listen_tls = :61\ntls_ca = /etc/auditfleet/tls/ca.crt\ntls_cert = /etc/auditfleet/tls/log1.crt\ntls_key = /etc/auditfleet/tls/log1.key\n' >>/etc/auditfleet/collector.conf
	echo "# mine" >>/etc/auditfleet/forwarder.conf
	serve
	end

	step "upgraded: what ran is started again, nothing is enabled, stopped or lost"
	systemd
	get "$1" new
	asked "try-restart auditfleet-forwarder.service"
	asked "try-restart auditfleet-collector.service"
	lacks /tmp/asked 'enable\|disable\|stop '
	has /etc/auditfleet/collector.conf '^listen_tls = :61'
	has /etc/auditfleet/forwarder.conf '^# mine'
	is -e "/etc/auditfleet/collector.conf.$(kept "$1")"
	has /etc/passwd "^auditfleet:"
	same "$(stat -c '%a %U %G' /etc/auditfleet/collector.conf)" "640 root auditfleet"
	same "$(stat -c '%a %U' /etc/auditfleet/tls/log1.key)" "600 auditfleet"
	same "$(find /var/lib/auditfleet -mindepth 1 ! -user auditfleet)" ""
	[ "$1" = deb ] || same "$(command rpm -V --nodeps auditfleet-forwarder auditfleet-collector | grep -v ' c ')" ""

	step "the collector goes on, as its own user, with the store, the CA, the keys"
	serve
	same "$(stat -c %U /proc/$collector)" auditfleet
	found 1
	forwarder --source /packages/sample.log --node web2 --remote log1:61 --transport tls --tls-ca /etc/auditfleet/tls/ca.crt --tls-cert /etc/auditfleet/tls/web2.crt \
		--tls-key /etc/auditfleet/tls/web2.key --spool /var/spool/auditfleet/file2 --config /etc/auditfleet/auditd.conf >>/tmp/said 2>&1
	found 2
	collector token web3 --dir /var/lib/auditfleet/issuer >>/tmp/said 2>&1
	collector seal --store /var/lib/auditfleet/collector >/tmp/checkpoint 2>>/tmp/said
	has /tmp/checkpoint log1
	end
	collector verify --store /var/lib/auditfleet/collector >>/tmp/said 2>&1

	step "removed: what was changed stays, and the data"
	case $1 in
	deb) apt remove auditfleet-forwarder auditfleet-collector ;;
	rpm) command rpm --nodeps -e auditfleet-forwarder auditfleet-collector >>/tmp/said 2>&1 ;;
	esac
	no /usr/sbin/collector
	is -e /var/lib/auditfleet/collector/MANIFEST
	is -e /etc/auditfleet/tls/log1.key
	is -e "/etc/auditfleet/collector.conf$([ "$1" = deb ] || echo .rpmsave)"
}

# Stores of every version, each made by a collector of that time that was killed in the end: what an older package may leave.
stores() {
	for store in /packages/v*.tar.gz; do
		of=${store##*/v} of=${of%%.*}
		step "a store of version $of, root's, under the first package; upgraded"
		rm -rf /var/lib/auditfleet
		get deb first
		mkdir -p -m 0700 /var/lib/auditfleet/collector
		tar -C /var/lib/auditfleet/collector -xzf "$store"
		has /var/lib/auditfleet/collector/VERSION "^auditfleet store $of\$"
		get deb new
		serve
		same "$(stat -c %U /proc/$collector)" auditfleet
		found 2
		for host in web1 db1; do
			same "$(collector search -n $host -m ADD_USER --count 2>>/tmp/said)" 1
			collector coverage -n $host >/tmp/answer 2>>/tmp/said || same $? 3
			has /tmp/answer "^$host "
			collector hosts >/tmp/answer 2>>/tmp/said || same $? 1 # silent for long
			has /tmp/answer "^$host "
		done
		collector verify >>/tmp/said 2>&1
		end
		collector verify >>/tmp/said 2>&1
		lacks /var/lib/auditfleet/collector/VERSION "store $of\$"
	done
}

case $(uname -m) in aarch64) a=aarch64 ;; *) a=x86_64 ;; esac
case $what in
since-*) since "${what#since-}" ;;
*) "$what" ;;
esac
