package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/kerneltest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/rules"
)

// liveRule is a rule of the recorded file for the real kernel.
type liveRule struct {
	args   []string
	rule   *rules.Rule
	listed string // by auditctl 3.0.9 when it was recorded; "" when it was not
}

// newerRules returns the recorded lines that auditctl 3.0.9 refused and we, as
// audit 4.2, take.
func newerRules(t *testing.T) []liveRule {
	t.Helper()
	var all []liveRule
	for _, r := range recordedLines(t) {
		if r.Sent != 0 {
			continue
		}
		cmd, err := rules.ParseArgs(r.Args, rules.SystemEnv())
		if err != nil || cmd.Rule() == nil {
			continue
		}
		rule := cmd.Rule()
		if !slices.ContainsFunc(all, func(l liveRule) bool { return l.rule.Equal(rule) }) {
			all = append(all, liveRule{args: r.Args, rule: rule})
		}
	}
	return all
}

type recordedLine struct {
	Line, Listed string
	Args         []string
	Sent         int
}

func recordedLines(t *testing.T) []recordedLine {
	t.Helper()
	f, err := os.Open("../../../pkg/rules/testdata/auditctl-3.0.9.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []recordedLine
	for s := bufio.NewScanner(f); s.Scan(); {
		var r recordedLine
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// liveRules returns the recorded lines that add a rule, each rule once. Audit is
// off while they are loaded, so that none of them makes an event; left out is
// what would still be felt by other processes.
func liveRules(t *testing.T) []liveRule {
	t.Helper()
	var all []liveRule
	skipped := 0
	for _, r := range recordedLines(t) {
		if r.Sent != 1011 {
			continue
		}
		if why := feltByOthers(r.Line); why != "" {
			t.Logf("left out: %s: %s", r.Line, why)
			skipped++
			continue
		}
		cmd, err := rules.ParseArgs(r.Args, rules.SystemEnv())
		if err != nil {
			t.Fatalf("%s: %v", r.Line, err)
		}
		rule := cmd.Rule()
		if slices.ContainsFunc(all, func(l liveRule) bool { return l.rule.Equal(rule) }) {
			continue
		}
		all = append(all, liveRule{args: r.Args, rule: rule, listed: r.Listed})
	}
	if len(all) < 600 || skipped > 5 {
		t.Fatalf("%d rules, %d left out", len(all), skipped)
	}
	return all
}

func feltByOthers(line string) string {
	switch {
	case strings.HasPrefix(line, "-w / "):
		return "tags every directory of the machine"
	case strings.Contains(line, "dir=/home "):
		return "tags every home directory"
	}
	return ""
}

// liveKernel takes the kernel's lock, switches audit off and makes sure that no
// rule is there before and after.
func liveKernel(t *testing.T) *kernel.Conn {
	t.Helper()
	conn := kerneltest.Dial(t)
	list, err := conn.Rules()
	if err != nil {
		t.Fatal(err)
	}
	need.NoRules(t, len(list))
	if err := conn.Set(kernel.Status{Mask: kernel.MaskEnabled}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		list, err := conn.Rules()
		if err != nil {
			t.Error(err)
		}
		for _, b := range list {
			if err := conn.DeleteRule(b); err != nil {
				t.Error(err)
			}
		}
	})
	return conn
}

// stockctl runs the stock auditctl.
func stockctl(t *testing.T, args ...string) (out, errOut string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	cmd := exec.Command(need.Stock(t, "auditctl"), args...)
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// ourctl runs ours on the real kernel, in this process.
func ourctl(args ...string) (out, errOut string, code int) {
	var o, e bytes.Buffer
	c := newCtl(Stdio{Out: &o, Err: &e}, "v-test")
	code = c.run(args)
	c.close()
	return o.String(), e.String(), code
}

// deleting turns the words that add a rule into those that delete it.
func deleting(args []string) []string {
	out := slices.Clone(args)
	for i, a := range out {
		switch {
		case i == 0 && a == "-w":
			out[i] = "-W"
		case i == 0 && (a == "-a" || a == "-A"):
			out[i] = "-d"
		}
	}
	return out
}

func lines(s string) []string {
	list := strings.Split(strings.TrimRight(s, "\n"), "\n")
	slices.Sort(list)
	return list
}

func archs(l liveRule) int {
	if _, ok := l.rule.Field(rules.FieldArch); ok {
		return 1
	}
	return 0
}

// expected is what the kernel will say to a rule: its own objection, or that the
// path is not there.
func expected(r *rules.Rule) error {
	if r.Refusal() != "" {
		return unix.EINVAL
	}
	for _, f := range r.Fields {
		gone := func(path string) bool { _, err := os.Lstat(path); return err != nil }
		switch f.ID {
		case rules.FieldPath, rules.FieldExe:
			if gone(filepath.Dir(f.Str)) {
				return unix.ENOENT
			}
		case rules.FieldDir:
			if gone(f.Str) {
				return unix.ENOENT
			}
		}
	}
	return nil
}

// TestLiveOurs: every recorded form is added by us to the real kernel, listed by
// the stock auditctl as recorded, listed by us, and deleted by our listing.
func TestLiveOurs(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: real programs, one after the other, for some ten seconds")
	}
	conn := liveKernel(t)
	all := liveRules(t)
	// auditctl lists a rule without an architecture with the names of the one
	// listed before it: those go first, and alone.
	slices.SortStableFunc(all, func(a, b liveRule) int { return archs(a) - archs(b) })
	plain := slices.IndexFunc(all, func(l liveRule) bool { return archs(l) > 0 })
	batches := append([][]liveRule{all[:plain]}, slices.Collect(slices.Chunk(all[plain:], 60))...)
	added, refused := 0, 0
	for _, batch := range batches {
		var want []string
		recorded := 0
		for _, l := range batch {
			_, errOut, code := ourctl(l.args...)
			if err := expected(l.rule); err != nil {
				refused++
				if code != 255 || !strings.Contains(errOut, "("+errnoText(err)+")\n  ") {
					t.Errorf("%v: exit %d, %q, want %v and what to do", l.args, code, errOut, err)
				}
				continue
			}
			if code != 0 {
				t.Errorf("%v: exit %d, %s", l.args, code, errOut)
				continue
			}
			added++
			if l.listed != "" {
				want = append(want, l.listed)
				recorded++
			}
		}
		stock, errOut, code := stockctl(t, "-l")
		if code != 0 {
			t.Fatalf("auditctl -l: %d, %s", code, errOut)
		}
		has := lines(stock)
		for _, w := range want {
			i, found := slices.BinarySearch(has, w)
			if !found {
				t.Errorf("auditctl does not list %s", w)
				continue
			}
			has = slices.Delete(has, i, i+1)
		}
		ours, errOut, code := ourctl("-l")
		if code != 0 {
			t.Fatalf("-l: %d, %s", code, errOut)
		}
		for _, line := range lines(ours) {
			if _, errOut, code := ourctl(deleting(rules.Args(rules.SplitLine(line)))...); code != 0 {
				t.Errorf("listed as %s, but deleting it: exit %d, %s", line, code, errOut)
			}
		}
		if out, _, _ := ourctl("-l"); out != "No rules\n" {
			t.Fatalf("left after deleting all that is listed:\n%s", out)
		}
	}
	t.Logf("%d rules added, listed by both and deleted; %d refused by the kernel as foretold", added, refused)
	if list, err := conn.Rules(); err != nil || len(list) != 0 {
		t.Errorf("%d rules are left (%v)", len(list), err)
	}
}

// TestLiveNewer adds, lists and deletes what only audit 4.2 takes.
func TestLiveNewer(t *testing.T) {
	liveKernel(t)
	added := 0
	for _, l := range newerRules(t) {
		_, errOut, code := ourctl(l.args...)
		if err := expected(l.rule); err != nil {
			if code != 255 || !strings.Contains(errOut, "("+errnoText(err)+")\n  ") {
				t.Errorf("%v: exit %d, %q, want %v and what to do", l.args, code, errOut, err)
			}
			continue
		}
		if code != 0 {
			t.Errorf("%v: exit %d, %s", l.args, code, errOut)
			continue
		}
		added++
		ours, _, _ := ourctl("-l")
		if got := strings.TrimSpace(ours); got != l.rule.Text(rules.SystemEnv(), rules.TextOptions{}) {
			t.Errorf("%v: listed as %s", l.args, got)
		}
		if _, errOut, code := ourctl(deleting(rules.Args(rules.SplitLine(strings.TrimSpace(ours))))...); code != 0 {
			t.Errorf("%v: deleting %s: %d, %s", l.args, ours, code, errOut)
		}
	}
	if added < 30 {
		t.Errorf("%d rules were added", added)
	}
	t.Logf("%d rules added, listed and deleted", added)
}

// TestLiveStock: the stock auditctl adds the same lines from a file; we list the
// rules it was given, and delete them.
func TestLiveStock(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: real programs, one after the other, for some ten seconds")
	}
	conn := liveKernel(t)
	var text strings.Builder
	var want []*rules.Rule
	for _, l := range liveRules(t) {
		if expected(l.rule) != nil {
			continue
		}
		fmt.Fprintln(&text, rules.JoinLine(l.args))
		want = append(want, l.rule)
	}
	path := ruleFile(t, text.String())
	if out, errOut, code := stockctl(t, "-R", path); code != 0 {
		t.Fatalf("auditctl -R: %d, %s%s", code, out, errOut)
	}
	raw, err := conn.Rules()
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) != len(want) {
		t.Errorf("%d rules loaded, want %d", len(raw), len(want))
	}
	for _, b := range raw {
		r, err := rules.Unmarshal(b)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(want, func(w *rules.Rule) bool { return sameInKernel(w, r) })
		if i < 0 {
			t.Errorf("auditctl loaded what we would not: %s", r.Text(rules.SystemEnv(), rules.TextOptions{}))
			continue
		}
		want = slices.Delete(want, i, i+1)
	}
	for _, w := range want {
		t.Errorf("auditctl did not load %s", w.Text(rules.SystemEnv(), rules.TextOptions{}))
	}
	ours, _, _ := ourctl("-l")
	for _, line := range lines(ours) {
		if _, errOut, code := ourctl(deleting(rules.Args(rules.SplitLine(line)))...); code != 0 {
			t.Errorf("%s: %d, %s", line, code, errOut)
		}
	}
	if out, _, _ := ourctl("-D"); out != "No rules\n" {
		t.Errorf("-D: %s", out)
	}
}

// sameInKernel compares a rule with what the kernel made of it: class bits in
// the top word are replaced by the calls of the class.
func sameInKernel(sent, listed *rules.Rule) bool {
	if sent.Equal(listed) {
		return true
	}
	const classes = 0xffff0000
	if sent.Mask[63]&classes == 0 {
		return false
	}
	a, b := sent.Clone(), listed.Clone()
	a.Mask, b.Mask = rules.Mask{}, rules.Mask{}
	return a.Equal(b)
}

// moving are numbers of the status that may change between one program's question and the other's.
var moving = regexp.MustCompile(`(?m)^(lost|backlog|backlog_wait_time_actual) \d+$`)

// TestLiveSideBySide runs harmless command lines through both programs and
// compares output and exit codes byte for byte.
func TestLiveSideBySide(t *testing.T) {
	liveKernel(t)
	key := fmt.Sprintf("af-ctl-%d", os.Getpid())
	narrow := " -F pid=4194000 -k " + key
	for _, line := range []string{
		"-s", "-s -i", "-l", "-l -i", "-l -k " + key, "-D -k " + key,
		"-a always,exit -F arch=b64 -S getppid -F a2=255 -F auid=-1" + narrow,
		"-w /etc/hostname -p wa -k " + key,
		"-l", "-l -i", "-l -k " + key, "-l -k af-ctl", "-l -k nothing",
		"-d always,exit -F arch=b64 -S getppid -F a2=7" + narrow,
		"-w /etc/hostname -p wa -k " + key,
		"-W /etc/hostname -p wa -k other",
		"-a always,exit -F arch=b64 -S getppid -F uid=unset" + narrow,
		"-w /nonexistent/a/b -p wa",
		"-e 0", "-b 64 -f 1", "-r 0", "--backlog_wait_time 15000", "--backlog_wait_time 99999999", "--reset-lost", "-t",
		"-e 3", "-f x", "-r -1", "-b many", "-b 99999999999999999999", "--signal HUP", "--signal NO", "-q /tmp", "-m", "-m a b",
		"-x", "-a", "-xyz", "--bogus", "--reset", "--sig", "-R", "-R a b", "-i", "-c", "-l -x", "-l -k", "-l a b c d", "-s -l", "-s a b", "-D x", "-D -x y", "-D a b c",
		"-k x", "-p wa", "-S openat", "-F uid=0", "-C uid=euid", "-a always,exit -a always,exit", "-w /etc -w /etc", "-a task,always -S open",
		"-a user,always -S open", "-a exclude,always -S open", "-a filesystem,never -S open", "-S open -a task,always",
		"-w /etc -p q", "-w /etc -p rwxax", "-w etc", "-a always,exit -F foo", "-a always,exit -F =x", "-a always,exit -C uid=",
		"-a always,exit -C uid=nothing", "-a always,exit -F perm=q", "-a task,possible", "-a always,exit extra",
	} {
		args := rules.Args(rules.SplitLine(line))
		if line == "--reset-lost" {
			ourctl(line) // what was lost before this test is for neither to report
		}
		out, errOut, code := stockctl(t, args...)
		// What the stock one did, ours must meet the same state.
		if strings.HasPrefix(line, "-a") || strings.HasPrefix(line, "-w") || strings.HasPrefix(line, "-d") || strings.HasPrefix(line, "-W") {
			if code == 0 {
				if _, e, undo := stockctl(t, deleting(args)...); undo != 0 && !strings.HasPrefix(line, "-a task,possible") {
					t.Fatalf("%s: taking it back: %s", line, e)
				}
			}
		}
		ourOut, ourErr, ourCode := ourctl(args...)
		out, ourOut = moving.ReplaceAllString(out, "$1 N"), moving.ReplaceAllString(ourOut, "$1 N")
		if diff := cmp.Diff(out, ourOut); diff != "" || code != ourCode {
			t.Errorf("%s: exit %d, auditctl %d; output %s", line, ourCode, code, diff)
		}
		first, _, _ := strings.Cut(ourErr, "\n  ")
		if strings.TrimSpace(first) != strings.TrimSpace(errOut) && strings.TrimSpace(errOut) != "" && !differentlySaid[line] {
			t.Errorf("%s: says %q, auditctl %q", line, ourErr, errOut)
		}
	}
	if out, _, code := ourctl("-D", "-k", key); code != 0 || out != "No rules\n" {
		t.Errorf("-D -k: %d, %s", code, out)
	}
}

// differentlySaid are lines whose message is better than auditctl's.
var differentlySaid = map[string]bool{
	"-xyz":                         true, // auditctl names no option: "Option   is invalid"
	"--backlog_wait_time 99999999": true, // auditctl blames the backlog limit
	"-a always,exit -F =x":         true, // auditctl does not say where
}
