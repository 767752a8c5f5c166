package vmtest

import (
	"strings"
	"testing"
)

// people are who logs in.
const people = ready + `
useradd -m -s /bin/bash alice
useradd -m -s /bin/bash bob
echo alice:secret | chpasswd
echo "alice ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/alice
ssh-keygen -q -t ed25519 -N "" -f /root/.ssh/id_ed25519 || { mkdir -m 0700 /root/.ssh; ssh-keygen -q -t ed25519 -N "" -f /root/.ssh/id_ed25519; }
mkdir -m 0700 /home/bob/.ssh
cp /root/.ssh/id_ed25519.pub /home/bob/.ssh/authorized_keys
chown -R bob: /home/bob/.ssh
ssh-keygen -A
`

// typed waits for words on the console, and types a line.
func (h *host) typed(wait, line string) {
	h.Helper()
	if _, err := h.Console().Expect(ctx, wait); err != nil {
		h.Fatal(err)
	}
	if err := h.Console().Send(line + "\n"); err != nil {
		h.Fatal(err)
	}
}

// TestLogins has people log in as they do, and compares what both sides' tools say of it.
func TestLogins(t *testing.T) {
	row(t)
	h := auditing(t, people, "stock")
	h.typed("login: ", "alice")
	h.typed("Password: ", "wrong")
	h.typed("login: ", "alice")
	h.typed("Password: ", "secret")
	h.typed("$ ", "sudo touch /etc/vmtest/by-alice")
	h.typed("$ ", "su bob -c true")
	h.typed("Password: ", "no")
	h.typed("$ ", "sudo useradd carol && sudo userdel carol; echo all''done")
	h.typed("alldone", "exit")
	if _, err := h.Console().Expect(ctx, "login: "); err != nil {
		t.Fatal(err)
	}
	h.sh("ssh -o StrictHostKeyChecking=no -o BatchMode=yes -tt bob@127.0.0.1 true")
	h.try("ssh -o StrictHostKeyChecking=no -o BatchMode=yes alice@127.0.0.1 true")
	h.sh("su alice -c 'touch /tmp/x'")
	h.until("collector search -m USER_END -x /usr/sbin/sshd")
	h.until("collector search -m DEL_USER")
	said := h.sh("collector search -k vmtest -i")
	h.has(said, "auid=alice", "exe=/usr/bin/touch", "/etc/vmtest/by-alice")

	// Both ask a log that stands still, without the two records that ausearch and aureport hide or set apart
	// (apparmor-hidden, login-apart in DIFFERENCES.md).
	h.sh("cat /var/log/audit/audit.log >/tmp/full")
	h.sh("grep -av 'apparmor=\"STATUS\"\\|^node=guest type=LOGIN ' /tmp/full >/tmp/log")
	same := `check() { for try in 1 2 3; do checked "$@" >/tmp/said && return; done; cat /tmp/said; } # --proof has the minute in it
	checked() { name=$1; shift
		"$name" "$@" >/tmp/stock.out 2>/tmp/stock.err; a=$?; forwarder $ours "$@" >/tmp/ours.out 2>/tmp/ours.err; b=$?
		sed -i '/--end /s/:[0-9]*$//' /tmp/stock.out /tmp/ours.out
		[ $a = $b ] && cmp /tmp/stock.out /tmp/ours.out && cmp /tmp/stock.err /tmp/ours.err || { echo "differs: $name $* ($a, $b)"; diff /tmp/stock.out /tmp/ours.out | head -n 5; diff /tmp/stock.err /tmp/ours.err | head -n 5; false; }; }
	`
	for ours, questions := range map[string][]string{
		"search": {"ausearch -m USER_LOGIN -i", "ausearch -m USER_AUTH,USER_ACCT,USER_START,USER_END", "ausearch -m ADD_USER,DEL_USER,ADD_GROUP,DEL_GROUP -i", "ausearch -ua alice -i", "ausearch -k vmtest -i",
			"ausearch -m USER_CMD -i", "ausearch -sv no -i", "ausearch -hn 127.0.0.1", "ausearch -tm ttyS0", "ausearch --format text", "ausearch --format csv", "ausearch -i", "ausearch -r -m USER_LOGIN,SYSTEM_BOOT"},
		"report": {"aureport", "aureport -au -i", "aureport -l -i", "aureport -l --failed", "aureport -m -i", "aureport -x --summary", "aureport -tm", "aureport -h -i", "aureport -u --summary -i", "aureport -e", "aureport -c", "aureport -k"},
	} {
		for _, q := range questions {
			if out, _ := h.try(same + "ours=" + ours + "; check " + q + " -if /tmp/log"); out != "" {
				t.Error(out)
			}
		}
	}
	for ours, questions := range map[string][]string{
		"last":    {"aulast -f /tmp/full", "aulast --bad -f /tmp/full", "aulast --extract -f /tmp/full", "aulast --proof -f /tmp/full", "aulast -f /tmp/full --user bob", "aulast -f /tmp/full --tty ttyS0"},
		"lastlog": {"aulastlog --stdin </tmp/full", "aulastlog -u alice --stdin </tmp/full", "aulastlog -u bob --stdin </tmp/full"},
	} {
		for _, q := range questions {
			if out, _ := h.try(same + "ours=" + ours + "; " + twice(q)); out != "" {
				t.Error(out)
			}
		}
	}
	t.Log(h.sh("aulast -f /tmp/full; aulast --bad -f /tmp/full; aulastlog --stdin </tmp/full; aureport -l -i -if /tmp/log; wc -l /tmp/full"))
	h.off()
}

// twice is check with the input that a question has.
func twice(question string) string {
	if words, input, ok := strings.Cut(question, " <"); ok {
		name, rest, _ := strings.Cut(words, " ")
		return name + " " + rest + " <" + input + " >/tmp/a 2>&1; forwarder $ours " + rest + " <" + input + " >/tmp/b 2>&1; cmp /tmp/a /tmp/b || { echo 'differs: " + words + "'; diff /tmp/a /tmp/b | head; }"
	}
	return "check " + question
}
