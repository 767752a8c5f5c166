package ruleset

import (
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/pkg/tables"
)

func lintAll(t testing.TB, text string, stat func(string) (fs.FileInfo, error)) string {
	t.Helper()
	target := Resolve(nil, parse(text))
	if len(target.Failures) > 0 {
		t.Fatal(target.Failures)
	}
	var b strings.Builder
	for _, w := range append(target.Warnings, Lint(target.Rules, LintEnv{Arch: tables.ArchX86_64, Stat: stat})...) {
		if w.Hint == "" && !strings.Contains(w.Msg, "duplicate") && !strings.Contains(w.Msg, "arch") {
			t.Logf("%s: no hint", w.Msg)
		}
		b.WriteString(strings.ReplaceAll(strings.SplitN(w.String(), "\n", 2)[0], "x.rules:", "") + "\n")
	}
	return b.String()
}

func TestLint(t *testing.T) {
	pair := "-a always,exit -F arch=b32 -S open -k x\n-a always,exit -F arch=b64 -S open -k x\n"
	for _, test := range []struct{ name, file, want string }{
		{"a pair", pair, ""},
		{"half a pair", "-a always,exit -F arch=b64 -S open,openat -F auid>=1000 -k x\n", "1: warning: there is no such rule with arch=b32: 32-bit programs get around it\n"},
		{"the other half", "-a always,exit -F arch=b32 -S open -k x\n", "1: warning: there is no such rule with arch=b64: 64-bit programs get around it\n"},
		{"conditions in another order", "-a always,exit -F arch=b64 -S open -F auid>=1000 -F auid!=-1 -k x\n-a always,exit -F arch=b32 -S open -F auid!=-1 -F auid>=1000 -k y\n", ""},
		{"no pair for other conditions", "-a always,exit -F arch=b64 -S open -F auid>=1000\n-a always,exit -F arch=b32 -S open -F auid>=500\n",
			"1: warning: there is no such rule with arch=b32: 32-bit programs get around it\n2: warning: there is no such rule with arch=b64: 64-bit programs get around it\n"},
		{"all 32-bit calls", "-a always,exit -F arch=b32 -S all -F key=32bit\n-a always,exit -F arch=b64 -S open\n", ""},
		{"no arch", "-a always,exit -S 2 -k x\n", "1: warning: system calls without arch: their numbers are this machine's 64-bit ones, and mean other calls in 32-bit programs\n"},
		{"another machine's", "-a always,exit -F arch=aarch64 -S openat -k x\n", "1: warning: arch=aarch64 is another machine's: the rule never matches here\n"},
		{"duplicate", pair + "-a always,exit -F arch=b64 -S open -k x\n", "3: warning: duplicate: the same rule is at 2; this one is left out\n"},
		{"after a wider never", "-a never,exit -F arch=b64 -S all -F auid=1000\n-a always,exit -F arch=b64 -S open -F auid=1000 -k x\n-a always,exit -F arch=b32 -S open -F auid=1000\n",
			"2: warning: unreachable: 1 says never and matches all that this one could\n"},
		{"before it", "-a always,exit -F arch=b64 -S open -F auid=1000 -k x\n-a always,exit -F arch=b32 -S open -F auid=1000\n-a never,exit -F arch=b64 -S all -F auid=1000\n", ""},
		{"after another list's never", "-a never,task\n" + pair, ""},
		{"after a wider always", "-w /etc.d/ -p wa -k etc\n-w /etc.d/passwd -p w -k passwd\n", "2: warning: unreachable: 1 matches all that this one could, and its key is used\n"},
		{"more permissions", "-w /etc.d/ -p wa -k etc\n-w /etc.d/passwd -p rw -k passwd\n", ""},
		{"a sibling tree", "-w /etc.d/ -p wa -k etc\n-w /etc.dx -p w -k passwd\n", ""},
		{"two nevers", "-a never,exit -F arch=b64 -S all -F uid=5\n-a never,exit -F arch=b64 -S open -F uid=5 -F gid=5\n", "2: warning: unreachable: 1 matches all that this one could\n"},
		{"everything", "-a always,exit -S all -k x\n", "1: warning: this fires on every system call: expect thousands of events a second\n"},
		{"everything of some", "-a always,exit -F arch=b64 -S all -F auid>=1000\n", "1: warning: this fires on every system call of the processes it names: expect thousands of events a second\n"},
		{"everything that succeeds", "-a always,exit -F arch=b64 -S all -F success=1\n", "1: warning: this fires on every system call that succeeds: expect thousands of events a second\n"},
		{"one error", "-a always,exit -F arch=b64 -S all -F exit=-EACCES\n", ""},
		{"everything of one program", "-a always,exit -F arch=b64 -S all -F exe=/bin/x\n-a always,exit -F arch=b64 -S all -F pid=1\n-w /x -p r\n", ""},
		{"every process", "-a always,task\n", "1: warning: this records every process that is started, whatever it does\n"},
		{"what the grammar warned of", "-a always,exit -F arch=b64 -S all -F pid=1e3\n", "1: warning: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := lintAll(t, test.file, nil)
			if test.name == "what the grammar warned of" {
				if !strings.HasPrefix(got, test.want) {
					t.Errorf("%q", got)
				}
				return
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLintPaths(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"there": ""})
	text := ""
	for _, l := range []string{"-w DIR/there -p w", "-w DIR/later -p w", "-w DIR/no/later -p w", "-a always,exit -F dir=DIR -F perm=r", "-a always,exit -F dir=DIR/no -F perm=w",
		"-a always,exit -F dir=DIR/there -F perm=x", "-a always,exit -F arch=b64 -S all -F exe=DIR/prog", "-a always,exit -F arch=b64 -S all -F exe!=DIR/prog -F pid=1"} {
		text += strings.ReplaceAll(l, "DIR", dir) + "\n"
	}
	got := strings.ReplaceAll(lintAll(t, text, os.Stat), dir, "DIR")
	want := `2: warning: DIR/later does not exist: it is watched from when it is created
3: warning: DIR/no does not exist: the kernel refuses to watch a file in it
5: warning: DIR/no does not exist: the kernel refuses to watch a tree that is not there
6: warning: DIR/there is no folder, so dir= watches that one file
7: warning: DIR/prog does not exist: no program can match
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestLintLoaded: rules the kernel holds already count as what comes before.
func TestLintLoaded(t *testing.T) {
	target := Resolve(ruleList(t, "-a never,exit -F arch=b64 -S all"), parse("-a always,exit -F arch=b64 -S all -F pid=3\n"))
	got := Lint(target.Rules, LintEnv{Arch: tables.ArchX86_64})
	if len(got) != 1 || !strings.HasPrefix(got[0].Msg, "unreachable: a rule that is loaded already says never") {
		t.Errorf("%v", got)
	}
}
