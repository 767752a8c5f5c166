package search

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
)

// newestDifference is a place where ausearch 4.2.2 prints something else than we do, and
// we keep to ours.
type newestDifference struct {
	name, what string
	args       []string
	record     []string
	stock      string // what is in its output, and not in ours
	ours       string // the other way round
	// normal makes the output of either what both print; where that can't be, the
	// records of the type drop are left out of the logs.
	normal func(out string) string
	drop   string
}

func replaced(pattern, with string) func(string) string {
	re := regexp.MustCompile(pattern)
	return func(out string) string { return re.ReplaceAllString(out, with) }
}

var newestDifferences = []newestDifference{
	{
		name:   "policy-kind",
		what:   "csv's OBJ_KIND of events about a policy is security-policy; mac-config is what 3.0.9 says, and scripts look for",
		args:   []string{"--format", "csv"},
		record: []string{stamped("MAC_STATUS", "enforcing=1 old_enforcing=0 auid=1000 ses=3 res=1")},
		stock:  ",security-policy,", ours: ",mac-config,",
		normal: replaced(`,security-policy,`, ",mac-config,"),
	},
	{
		name: "policy-module",
		what: "the object of a MAC_POLICY_LOAD with its system call is the security module; csv and text have none, as 3.0.9",
		args: []string{"--format", "csv"},
		record: []string{
			stamped("MAC_POLICY_LOAD", "auid=1000 ses=1 lsm=selinux res=1"), stamped("SYSCALL", exampleCall),
		},
		stock: ",selinux,", ours: "loaded-selinux-policy,failed,,",
		normal: func(out string) string {
			out = replaced(`(loaded-selinux-policy,\w*,)[^,\n]*,`, "$1,")(out)
			return replaced(`(loaded-selinux-policy) \S+ using`, "$1 using")(out)
		},
	},
	{
		name:   "chown-ids",
		what:   "the new owner and group of lchown, fchown and fchownat are numbers in hex, those of chown and chown32 names; here they are all names",
		args:   []string{"-i"},
		record: []string{stamped("SYSCALL", strings.NewReplacer("syscall=257 ", "syscall=94 ", "a1=2 ", "a1=0 ").Replace(exampleCall))},
		stock:  "a1=0x0 ", ours: "a1=root ",
		normal: func(out string) string {
			out = replaced(`(syscall=[lf]?chown(?:32|at)?\b.*) a1=\S* a2=\S* a3=\S*`, "$1")(out)
			out = replaced(`(changed-file-ownership-of \S+ to) \S+`, "$1")(out)
			return replaced(`(changed-file-ownership-of,.*,)[^,\n]*(,(?:file|directory|socket|symlink|fifo|character-device|block-device|unknown)?,[^,\n]*\n)`, "$1$2")(out)
		},
	},
	{
		name: "path-in-parts",
		what: "a path in csv and text is the folder and the name as they stand; here and in 3.0.9 it is the one they make",
		args: []string{"--format", "csv"},
		record: []string{
			stamped("SYSCALL", exampleCall), stamped("CWD", `cwd="/home/u"`),
			stamped("PATH", `item=0 name="./f" inode=1 dev=fd:00 mode=0100644 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL`),
		},
		stock: ",/home/u/./f,", ours: ",/home/u/f,",
		normal: func(out string) string {
			return replaced(`//+`, "/")(replaced(`/\.([, \n])`, "$1")(replaced(`/\./`, "/")(out)))
		},
	},
	{
		name: "link-object",
		what: "the object of an ANOM_LINK event is the file of its PATH record; csv and text have none, as 3.0.9",
		args: []string{"--format", "csv"},
		record: []string{
			stamped("ANOM_LINK", `op=linkat ppid=1 pid=2 auid=1000 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts0 ses=1 comm="ln" exe="/bin/ln" res=0`),
			stamped("PATH", `item=0 name="/etc/shadow" inode=16531 dev=08:01 mode=0100644 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL`), stamped("SYSCALL", exampleCall),
		},
		stock: "/etc/shadow", ours: "used-suspcious-link,failed,,",
		drop: "ANOM_LINK",
	},
	{
		name:   "io_uring-call",
		what:   "csv and text name an operation of io_uring by its kind; here as the system call that it stands for",
		args:   []string{"--format", "text"},
		record: []string{stamped("URINGOP", "uring_op=18 success=yes exit=0 items=0 ppid=1 pid=4302 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 key=(null)")},
		stock:  "io_uring-operation", ours: "opened-file",
		drop: "URINGOP",
	},
	{
		name:   "trusted-app",
		what:   "the fields of a TRUSTED_APP record have the meaning that they have in others; here and in 3.0.9 they are its program's own",
		args:   []string{"-i"},
		record: []string{stamped("TRUSTED_APP", "pid=1 uid=0 auid=0 ses=1 msg='res=success'")},
		stock:  "uid=root", ours: "uid=0",
		drop: "TRUSTED_APP",
	},
}

// withoutDropped takes the records out of a log that a known difference leaves out.
func withoutDropped(log string) string {
	var w strings.Builder
next:
	for line := range strings.Lines(log) {
		for _, d := range newestDifferences {
			if d.drop != "" && strings.Contains(line, "type="+d.drop+" ") {
				continue next
			}
		}
		w.WriteString(line)
	}
	return w.String()
}

// newestRan is what a command printed, without the known differences.
func newestRan(r ran) ran {
	for _, d := range newestDifferences {
		if d.normal != nil {
			r.out = d.normal(r.out)
		}
	}
	return r
}

// TestNewestDifferences shows each of them with the newest.
func TestNewestDifferences(t *testing.T) {
	bin := need.Newest(t, "ausearch")
	for _, d := range newestDifferences {
		t.Run(d.name, func(t *testing.T) {
			args := append([]string{"-if", writeLog(t, strings.Join(d.record, "\n")+"\n")}, d.args...)
			stock, ours := runStock(t, bin, nil, args...), runOurs(utcEnv, args...)
			if !strings.Contains(stock.out, d.stock) || strings.Contains(ours.out, d.stock) {
				t.Errorf("only stock should print %q:\nstock: %q\n ours: %q", d.stock, stock.out, ours.out)
			}
			if !strings.Contains(ours.out, d.ours) || strings.Contains(stock.out, d.ours) {
				t.Errorf("only ours should print %q:\nstock: %q\n ours: %q", d.ours, stock.out, ours.out)
			}
		})
	}
}

// TestNewestDifferencesAreListed keeps DIFFERENCES.md whole.
func TestNewestDifferencesAreListed(t *testing.T) {
	b, err := os.ReadFile("DIFFERENCES.md")
	if err != nil {
		t.Fatal(err)
	}
	_, b, ok := bytes.Cut(b, []byte("\n## And 4.2.2\n"))
	if !ok {
		t.Fatal("DIFFERENCES.md has no part about 4.2.2")
	}
	b, _, _ = bytes.Cut(b, []byte("\n## "))
	for _, d := range newestDifferences {
		if !bytes.Contains(b, []byte("\n| "+d.name+" | ")) {
			t.Errorf("DIFFERENCES.md does not list %s (%s)", d.name, d.what)
		}
	}
	if rows := bytes.Count(b, []byte("\n| ")) - 1; rows != len(newestDifferences) {
		t.Errorf("DIFFERENCES.md has %d rows for %d differences", rows, len(newestDifferences))
	}
}
