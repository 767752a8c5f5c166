#!/bin/sh
# What only a kernel that has just booted can show, in a guest under emulation: auditing
# that was never on, records lost before anybody took them, audit=0. It changes nothing on
# this machine. Needs qemu-system-x86_64, a static busybox, cpio, Go, and a kernel:
# GUEST_KERNEL=/boot/vmlinuz-…, or apt-get, by which Debian's cloud kernel is had.
set -eu

skip() { echo "guest-test: skipped: $1"; exit 0; }
for tool in qemu-system-x86_64 busybox cpio gzip go; do
	command -v "$tool" >/dev/null || skip "$tool is not here (apt-get install qemu-system-x86 busybox-static cpio)"
done
[ "$(uname -m)" = x86_64 ] || skip "the guest is x86_64's"

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM HUP

kernel=${GUEST_KERNEL:-}
if [ -z "$kernel" ]; then
	command -v apt-get >/dev/null || skip "no GUEST_KERNEL, and no apt-get to have one by"
	package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[^ ]*\).*/\1/p' | head -n 1)
	[ -n "$package" ] || skip "apt-cache knows no linux-image-cloud-amd64 (apt-get update)"
	(cd "$dir" && apt-get download "$package" >/dev/null 2>&1 && dpkg-deb -x "$package"_*.deb kernel) || skip "$package can't be had"
	kernel=$(echo "$dir"/kernel/boot/vmlinuz-*)
fi

root=$dir/root
mkdir -p "$root/bin" "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/tmp" "$root/etc/audit/rules.d" "$root/var/log/audit" "$root/var/spool"
cp "$(command -v busybox)" "$root/bin/busybox"
CGO_ENABLED=0 go build -o "$root/bin/forwarder" ./forwarder
chmod 0700 "$root/var/log/audit"
printf 'log_format = RAW\nlog_file = /var/log/audit/audit.log\n' >"$root/etc/audit/auditd.conf"
chmod 0640 "$root/etc/audit/auditd.conf"
printf 'root:x:0:0:root:/:/bin/sh\n' >"$root/etc/passwd"
cat >"$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmpfs /run
log=/var/log/audit/audit.log
# start FLAGS: the forwarder, once it has registered
start() {
	forwarder --config /etc/audit/auditd.conf --log-file $log "$@" 2>/run/said & pid=$!
	for _ in $(seq 60); do grep -q DAEMON_START $log 2>/dev/null && break; sleep 1; done
}
stop() { kill $pid; wait $pid; }
# waited TEXT FILE: wait until it is there
waited() { for _ in $(seq 30); do grep -q "$1" "$2" && return 0; sleep 1; done; return 1; }
check() { if eval "$2" >/run/out 2>&1; then echo "GUEST ok: $1"; else echo "GUEST FAILED: $1"; cat /run/out /run/said $log 2>/dev/null | tail -n 30; fi; }
case $(cat /proc/cmdline) in
*guest=never*)
	check "doctor finds auditing off" '[ $(forwarder doctor --format json | grep -c "auditing is off") = 1 ]'
	check "trace --show shows a program on a kernel never audited" 'forwarder trace --show /bin/uname | grep -q "^type=SYSCALL.*uname"'
	start
	check "processes that are older are warned of" 'waited "processes are invisible" /run/said'
	check "a watch is loaded" 'mkdir /var/w; forwarder ctl -w /var/w -p wa -k seen'
	: >/var/w/by-the-first-process
	sh -c ': >/var/w/by-a-new-one'
	check "a new process is audited" 'waited by-a-new-one $log'
	check "one that is older is not" '! grep -q by-the-first-process $log'
	stop
	;;
*guest=lost*)
	lost=$(forwarder ctl -s | sed -n "s/^lost //p")
	check "the kernel lost records at the boot" '[ "$lost" -gt 0 ]'
	forwarder ctl -b 8192 >/run/said 2>&1
	start
	check "they are said, as many" 'waited "cause=before-start records=$lost " $log'
	stop; : >$log
	start; sleep 3; stop
	check "once" '! grep -q "cause=before-start records=$lost " $log'
	;;
*guest=off*)
	said="booted with audit=0"
	check "run says audit=0" '! forwarder --config /etc/audit/auditd.conf 2>/run/said && grep -q "$said" /run/said'
	check "multicast says it" '! forwarder --source multicast --log-file $log 2>/run/said && grep -q "$said" /run/said'
	check "ctl says it" 'forwarder ctl -s 2>&1 | grep -q "$said"'
	check "doctor says it" 'forwarder doctor | grep -q "^fail *audit: .*$said"'
	;;
esac
echo "GUEST ended"
poweroff -f
INIT
chmod 0755 "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$dir/initrd"

failed=0
for boot in "guest=never" "guest=lost audit=1 audit_backlog_limit=2" "guest=off audit=0"; do
	echo "== $boot"
	timeout 300 qemu-system-x86_64 -accel tcg -m 768 -nographic -no-reboot -nodefaults -serial stdio -kernel "$kernel" -initrd "$dir/initrd" \
		-append "console=ttyS0 quiet panic=-1 $boot" </dev/null 2>&1 | tr -d '\r' >"$dir/out" || true
	sed -n '/^GUEST /,$p' "$dir/out"
	grep -q '^GUEST ended' "$dir/out" || { echo "the guest did not come to its end:"; tail -n 20 "$dir/out"; failed=1; }
	! grep -q '^GUEST FAILED' "$dir/out" || failed=1
done
exit $failed
