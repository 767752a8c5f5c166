package cli

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/boot"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/fakekernel"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/rules"
	"github.com/auditfleet/auditfleet/pkg/rules/ruleset"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// rulesBench is a folder of rule files, a kernel, and the applet on both.
type rulesBench struct {
	*ruleFiles
	k        *fakekernel.Kernel
	out, err *bytes.Buffer
	etc      string
}

func newRulesBench(t *testing.T, files map[string]string) *rulesBench {
	t.Helper()
	b := &rulesBench{k: fakekernel.New(), out: &bytes.Buffer{}, err: &bytes.Buffer{}, etc: t.TempDir()}
	dir := filepath.Join(b.etc, "rules.d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		writeFile(t, filepath.Join(dir, name), text)
	}
	c := &ctl{
		out: b.out, err: b.err, dial: fake(b.k), version: "v-test",
		env:     rules.Env{Arch: tables.ArchX86_64, IsDir: func(p string) bool { return p == "/etc" }},
		allowed: func() bool { return true },
	}
	t.Cleanup(c.close)
	b.ruleFiles = &ruleFiles{
		ctl: c, name: "augenrules", dir: dir, file: filepath.Join(b.etc, "audit.rules"),
		lint: ruleset.LintEnv{Arch: tables.ArchX86_64}, now: func() time.Time { return time.Unix(1_800_000_000, 0) },
	}
	return b
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

// said returns what was written since the last call, with the folder as ETC.
func (b *rulesBench) said() (out, err string) {
	out, err = strings.ReplaceAll(b.out.String(), b.etc, "ETC"), strings.ReplaceAll(b.err.String(), b.etc, "ETC")
	b.out.Reset()
	b.err.Reset()
	return out, err
}

func (b *rulesBench) listed(t *testing.T) string {
	t.Helper()
	var s strings.Builder
	for _, raw := range b.k.Rules() {
		r, err := rules.Unmarshal(raw)
		if err != nil {
			t.Fatal(err)
		}
		s.WriteString(r.Text(b.env, rules.TextOptions{}) + "\n")
	}
	return s.String()
}

func (b *rulesBench) want(t *testing.T, what string, code, wantCode int, wantOut, wantErr string) {
	t.Helper()
	out, errOut := b.said()
	if diff := cmp.Diff(wantErr, errOut); diff != "" {
		t.Errorf("%s: standard error: %s", what, diff)
	}
	if diff := cmp.Diff(wantOut, out); diff != "" {
		t.Errorf("%s: standard output: %s", what, diff)
	}
	if code != wantCode {
		t.Errorf("%s: exit code %d, want %d", what, code, wantCode)
	}
}

const (
	ruleA = "-a always,exit -F arch=b64 -S openat -F key=a\n-a always,exit -F arch=b32 -S openat -F key=a\n"
	ruleB = "-w /etc/passwd -p wa -k b\n"
	ruleC = "-a never,exit -F arch=b64 -S getpid -F uid=5\n"
)

func TestRulesLoad(t *testing.T) {
	b := newRulesBench(t, map[string]string{"10-a.rules": "-D\n-b 8192\n" + ruleA, "9-c.rules": ruleC, "90.rules": "-e 1\n"})
	b.want(t, "check", b.augenrules(true, false), 0, "augenrules: Rules have changed and should be updated\n", "")
	if _, err := os.Stat(b.file); !os.IsNotExist(err) {
		t.Error("check wrote the file")
	}
	b.want(t, "dry run", func() int { b.dryRun = true; defer func() { b.dryRun = false }(); return b.augenrules(false, true) }(), 0,
		"ETC/audit.rules would be written\n+ "+strings.ReplaceAll(strings.TrimSpace(ruleC+ruleA), "\n", "\n+ ")+"\n! backlog_limit 64 is to be 8192\n! enabled 0 is to be 1\n", "")
	if b.listed(t) != "" {
		t.Error("a dry run loaded rules")
	}
	status := strings.Replace(atRest, "backlog_limit 64", "backlog_limit 8192", 1)
	on := strings.Replace(status, "enabled 0", "enabled 1", 1)
	b.want(t, "load", b.augenrules(false, true), 0, status+on, "ETC/audit.rules: 3 rules in the kernel: 3 added, 0 deleted, 0 moved\n")
	if diff := cmp.Diff(ruleC+ruleA, b.listed(t)); diff != "" {
		t.Error(diff)
	}
	if info, err := os.Stat(b.file); err != nil || info.Mode() != 0o640 {
		t.Error(info, err)
	}
	b.want(t, "check again", b.augenrules(true, false), 0, "augenrules: No change\n", "")
	b.want(t, "diff", b.diff(nil), 0, "no difference: 3 rules\n", "")

	first, err := os.ReadFile(b.file)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(b.dir, "50.rules"), ruleB)
	if err := os.Remove(filepath.Join(b.dir, "9-c.rules")); err != nil {
		t.Fatal(err)
	}
	b.want(t, "diff", b.diff(nil), 1, "- "+ruleC+"+ "+ruleB, "")
	b.want(t, "load", b.augenrules(false, true), 0, on+on, "ETC/audit.rules: 3 rules in the kernel: 1 added, 1 deleted, 0 moved\n")
	if diff := cmp.Diff(ruleA+ruleB, b.listed(t)); diff != "" {
		t.Error(diff)
	}
	prev, err := os.ReadFile(b.file + ".prev")
	if err != nil || !bytes.Equal(prev, first) {
		t.Errorf("%s, %v", prev, err)
	}
	b.stock = true
	b.want(t, "load", b.augenrules(false, true), 0, "augenrules: No change\nNo rules\n"+on+on, "ETC/audit.rules: 3 rules in the kernel: 0 added, 0 deleted, 0 moved\n")
}

// TestRulesLoadOrder: between two files there is never a moment with neither's
// rules: requests to add come before those to delete.
func TestRulesLoadOrder(t *testing.T) {
	b := newRulesBench(t, map[string]string{"a.rules": "-D\n" + ruleA})
	b.augenrules(false, true)
	before := len(b.k.Requests())
	writeFile(t, filepath.Join(b.dir, "a.rules"), "-D\n"+ruleB+ruleC)
	b.augenrules(false, true)
	var changes []uint16
	for _, typ := range b.k.Requests()[before:] {
		if typ == kernel.MsgAddRule || typ == kernel.MsgDelRule {
			changes = append(changes, typ)
		}
	}
	if diff := cmp.Diff([]uint16{kernel.MsgAddRule, kernel.MsgAddRule, kernel.MsgDelRule, kernel.MsgDelRule}, changes); diff != "" {
		t.Error(diff)
	}
}

// TestRulesLoadFails: whatever the kernel refuses, it has its rules and settings
// from before in the end, and the line is named.
func TestRulesLoadFails(t *testing.T) {
	for _, test := range []struct {
		name string
		file string
		fail []error // of add requests
		set  []error
		code int
		err  string
		want string // the rules then; "": those from before
	}{
		{name: "a bad line", file: "-D\n" + ruleB + "-a always,exit -S nosuch\n", code: 1, err: `ETC/rules.d/a.rules:3:19: Syscall name unknown: nosuch
  -a always,exit -S nosuch
                    ^^^^^^
  names are those of x86_64; ausyscall --dump lists them
ETC/audit.rules: 1 line can't be loaded: nothing was changed in the kernel
  mend the lines above; or write -c before them, which loads all others and exits with 1
`},
		{name: "half way", file: "-D\n-f 0\n" + ruleB + ruleC, fail: []error{nil, unix.EPERM}, code: 1, err: `ETC/rules.d/a.rules:4: the kernel refused a rule to be added (Operation not permitted)
  -a never,exit -F arch=b64 -S getpid -F uid=5
  this needs CAP_AUDIT_CONTROL in the first user namespace: run it as root on the host, not in a container
ETC/audit.rules: not loaded: the kernel has the rules and settings from before
`},
		{name: "somebody was faster", file: "-D\n" + ruleB, fail: []error{unix.EEXIST}, code: 1, err: `ETC/rules.d/a.rules:2: the kernel refused a rule to be added (File exists)
  -w /etc/passwd -p wa -k b
  the same rule is loaded already: -l lists the rules, -d with the same words deletes it
ETC/audit.rules: not loaded: the kernel has the rules and settings from before
`},
		{name: "a setting", file: "-D\n" + ruleB + "-f 0\n-r 7\n", set: []error{nil, unix.EPERM}, code: 1, err: `Error sending rate limit request (Operation not permitted)
  this needs CAP_AUDIT_CONTROL in the first user namespace: run it as root on the host, not in a container
There was an error in line 4 of ETC/rules.d/a.rules
ETC/audit.rules: not loaded: the kernel has the rules and settings from before
`},
		{name: "-c", file: "-c\n-D\n-a always,exit -S nosuch\n" + ruleB + ruleC, fail: []error{unix.EINVAL}, code: 1, err: `ETC/rules.d/a.rules:3:19: Syscall name unknown: nosuch
  -a always,exit -S nosuch
                    ^^^^^^
  names are those of x86_64; ausyscall --dump lists them
ETC/rules.d/a.rules:4: the kernel refused a rule to be added (Invalid argument)
  -w /etc/passwd -p wa -k b
  this kernel lacks a field or an operator of this rule: take conditions out one by one to find it
ETC/audit.rules: 1 rule in the kernel: 1 added, 2 deleted, 0 moved; 2 lines failed, 0 skipped
`, want: ruleC},
		{name: "-i", file: "-i\n-D\n" + ruleB + ruleB + "-S nosuch\n", code: 0, err: `ETC/rules.d/a.rules:5:4: Syscall name unknown: nosuch
  -S nosuch
     ^^^^^^
  names are those of x86_64; ausyscall --dump lists them
ETC/rules.d/a.rules:4: warning: duplicate: the same rule is at ETC/rules.d/a.rules:3; this one is left out
  auditctl -R ends with an error here and leaves out what follows: delete the line
ETC/audit.rules: 1 rule in the kernel: 1 added, 2 deleted, 0 moved; 1 line failed, 1 skipped
`, want: ruleB},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newRulesBench(t, map[string]string{"a.rules": "-D\n" + ruleA})
			b.augenrules(false, true)
			before, was := b.listed(t), b.k.Status()
			b.said()
			writeFile(t, filepath.Join(b.dir, "a.rules"), test.file)
			for _, err := range test.fail {
				b.k.Fail(kernel.MsgAddRule, err)
			}
			for _, err := range test.set {
				b.k.Fail(kernel.MsgSet, err)
			}
			code := b.augenrules(false, true)
			_, errOut := b.said()
			// The file's -f moved to the front: the lines keep their place.
			if diff := cmp.Diff(test.err, errOut); diff != "" {
				t.Error(diff)
			}
			if code != test.code {
				t.Errorf("exit code %d", code)
			}
			if test.want == "" {
				test.want = before
			}
			if diff := cmp.Diff(test.want, b.listed(t)); diff != "" {
				t.Error(diff)
			}
			if now := b.k.Status(); now != was {
				t.Errorf("%+v, was %+v", now, was)
			}
		})
	}
}

func TestRulesLocked(t *testing.T) {
	b := newRulesBench(t, map[string]string{"a.rules": "-D\n" + ruleA + "-e 2\n"})
	if code := b.augenrules(false, true); code != 0 || b.k.Status().Enabled != 2 {
		t.Fatal(code, b.k.Status())
	}
	b.said()
	b.want(t, "again", b.augenrules(false, true), 0, "augenrules: No change\n", "ETC/audit.rules: the kernel is locked (-e 2) and holds these 2 rules\n")
	writeFile(t, filepath.Join(b.dir, "b.rules"), ruleB)
	b.want(t, "more", b.augenrules(false, true), 1, "", `The audit system is in immutable mode, no rule changes allowed
  the rules were locked with -e 2 and stay so until this machine boots again: change the rule files and reboot
`)
}

func TestRulesNoFolder(t *testing.T) {
	need.Root(t) // a file of rules has to be root's
	b := newRulesBench(t, nil)
	b.want(t, "empty", b.augenrules(false, false), 0, "", "")
	if data, err := os.ReadFile(b.file); err != nil || string(data) != "## This file is automatically generated from "+b.dir+"\n\n\n\n\n" {
		t.Errorf("%q, %v", data, err)
	}
	if err := os.Remove(b.dir); err != nil {
		t.Fatal(err)
	}
	writeFile(t, b.file, ruleB)
	b.want(t, "no folder", b.augenrules(false, true), 1, "augenrules: No rules directory - ETC/rules.d\n", "ETC/audit.rules: 1 rule in the kernel: 1 added, 0 deleted, 0 moved\n")
	b.dial = func() (*kernel.Conn, error) { return nil, unix.EPROTONOSUPPORT }
	b.close()
	b.conn = nil
	b.want(t, "no kernel", b.loadFile(b.file), 1, "", "Cannot open netlink audit socket\n  "+boot.NoAudit("")+"\n")
	b.allowed = func() bool { return false }
	if code := b.loadFile(b.file); code != 1 {
		t.Error(code)
	}
}

// TestAugenrulesSideBySide runs the stock script and ours, by its name, on the
// same folders, each in a mount namespace where /etc/audit is its own, and
// compares what they print, leave and return. --load is left out: it would load
// the rules into the machine's kernel.
func TestAugenrulesSideBySide(t *testing.T) {
	need.Root(t)
	script, unshare := need.Stock(t, "augenrules"), need.Stock(t, "unshare")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ours := filepath.Join(t.TempDir(), "augenrules")
	if err := os.Symlink(self, ours); err != nil {
		t.Fatal(err)
	}
	type step struct {
		args  []string
		write map[string]string
	}
	sets := []step{
		{args: nil},
		{args: []string{"--check"}},
		{args: []string{"--check"}, write: map[string]string{"20.rules": ruleB}},
		{args: []string{"--bad"}},
		{args: []string{"--check", "--bad"}},
		{args: nil},
		{args: nil},
		{args: []string{"--check"}, write: map[string]string{"20.rules": "# only a comment\n" + ruleB}},
		{args: nil, write: map[string]string{"100.rules": "-b 1\n", "9.rules": "-D\n-f 1\n-e 1\n", "note.txt": "x"}},
		{args: []string{"--check", "--check"}},
	}
	type result struct {
		Out   string
		Code  int
		Files map[string]string
	}
	run := func(bin, etc string, args []string) result {
		cmd := exec.Command(unshare, append([]string{"-m", "sh", "-c", `mount --bind "$0" /etc/audit && exec "$@"`, etc, bin}, args...)...)
		var out bytes.Buffer
		cmd.Stdout = &out
		r := result{Files: map[string]string{}}
		if err := cmd.Run(); err != nil {
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				t.Fatal(err)
			}
			r.Code = exit.ExitCode()
		}
		r.Out = regexp.MustCompile(`\S*/augenrules`).ReplaceAllString(out.String(), "$$0")
		entries, err := os.ReadDir(etc)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() {
				continue
			}
			data, err := os.ReadFile(filepath.Join(etc, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			r.Files[e.Name()] = info.Mode().String() + "\n" + string(data)
		}
		return r
	}
	etcs := [2]string{t.TempDir(), t.TempDir()}
	for i, s := range append([]step{{args: []string{"--check"}, write: map[string]string{}}}, sets...) {
		var got [2]result
		for j, bin := range []string{script, ours} {
			if s.write != nil {
				if err := os.MkdirAll(filepath.Join(etcs[j], "rules.d"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			for name, text := range s.write {
				writeFile(t, filepath.Join(etcs[j], "rules.d", name), text)
			}
			got[j] = run(bin, etcs[j], s.args)
		}
		if diff := cmp.Diff(got[0], got[1]); diff != "" {
			t.Errorf("step %d, %v: %s", i, s.args, diff)
		}
	}
	for j, bin := range []string{script, ours} {
		if err := os.RemoveAll(filepath.Join(etcs[j], "rules.d")); err != nil {
			t.Fatal(err)
		}
		if r := run(bin, etcs[j], nil); r.Code != 1 || r.Out != "$0: No rules directory - /etc/audit/rules.d\n" {
			t.Errorf("%s without a folder: %+v", bin, r)
		}
	}
}

func TestRuleStats(t *testing.T) {
	b := newRulesBench(t, nil)
	writeFile(t, b.file, "-D\n-w /etc/passwd -p wa -k passwd\n-a always,exit -F arch=b64 -S openat -k files\n-a always,exit -F arch=b32 -S openat -k files\n")
	log := filepath.Join(b.etc, "audit.log")
	serial := 0
	event := func(ago time.Duration, syscall, exe, key string) string {
		serial++
		at := b.now().Add(-ago)
		id := "audit(" + itoa(at.Unix()) + ".000:" + itoa(int64(serial)) + "): "
		return "type=SYSCALL msg=" + id + "arch=c000003e syscall=" + syscall + " success=yes exit=3 ppid=1 pid=2 auid=0 uid=0 exe=\"" + exe + "\" key=" + key + "\n" +
			"type=PROCTITLE msg=" + id + "proctitle=\"x\"\n"
	}
	old := event(48*time.Hour, "257", "/bin/old", `"files"`)
	text := ""
	for range 3 {
		text += event(2*time.Hour, "257", "/bin/cat", `"files"`)
	}
	text += event(time.Hour, "2", "/bin/sed", `"files"`)
	files := len(text)
	text += event(time.Hour, "90", "/usr/bin/chmod", "706173737764017065726D73") // passwd, perms
	text += event(time.Hour, "59", "/bin/ls", "(null)")
	text += "type=USER_LOGIN msg=audit(" + itoa(b.now().Unix()) + ".000:99): pid=1 uid=0 msg='op=login res=success'\n"
	writeFile(t, log+".1", old)
	if at := b.now().Add(-48 * time.Hour); os.Chtimes(log+".1", at, at) != nil {
		t.Fatal("can't set the time of a file")
	}
	writeFile(t, log, text)
	s := &ruleStats{ruleFiles: b.ruleFiles, log: log, since: 24 * time.Hour, top: 20, format: "text"}
	code := s.run(t.Context())
	out, errOut := b.said()
	out = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`).ReplaceAllString(out, "DATE")
	want := `  events  share  per hour  bytes  last    key
       4  57.1%       0.2    ` + strconv.Itoa(files) + `  DATE    files
       1  14.3%       0.0    220  DATE    passwd
       1  14.3%       0.0    220  DATE    perms
       1  14.3%       0.0    195  DATE    (no key)

most: files (75% openat, 75% by /bin/cat)
  ETC/audit.rules:3
  ETC/audit.rules:4
`
	norm := func(s string) string {
		var lines []string
		for l := range strings.SplitSeq(s, "\n") {
			lines = append(lines, strings.Join(strings.Fields(l), " "))
		}
		return strings.Join(lines, "\n")
	}
	if diff := cmp.Diff(norm(want), norm(out)); diff != "" || code != 0 || errOut != "" {
		t.Error(diff, code, errOut)
	}
	s.since, s.format, s.top = 72*time.Hour, "json", 1
	if code := s.run(t.Context()); code != 0 {
		t.Error(code)
	}
	if out, _ := b.said(); !strings.Contains(out, `"key":"files","events":5,`) || strings.Count(out, "\n") != 1 {
		t.Error(out)
	}
	s.log = filepath.Join(b.etc, "absent")
	if code := s.run(t.Context()); code != 1 {
		t.Error(code)
	}
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// lint refuses a number that wraps, and load says what is loaded in its place, as
// auditctl loads it.
func TestLintRefusesWrappingNumbers(t *testing.T) {
	b := newRulesBench(t, map[string]string{"a.rules": "-D\n-b 99999999999\n" + ruleB})
	place := filepath.Join("ETC", "rules.d", "a.rules") + ":2: "
	const what = "Warning - \"99999999999\" does not fit 32 bits: 1215752191 is taken, as auditctl does\n  the kernel's numbers have 32 bits: at most 4294967295\n"
	b.want(t, "lint", b.lintFiles(nil), 1, "3 lines, 1 error, 0 warnings\n", place+what)
	f, _, err := b.readAny(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	b.review(f)
	b.want(t, "check", 0, 0, "", place+"warning: "+what)
}
