package rules

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/elastic/go-libaudit/v2/rule"
	"github.com/elastic/go-libaudit/v2/rule/flags"
	"pgregory.net/rapid"
)

// secondOpinion is the rule go-libaudit makes of a line. It panics on some.
func secondOpinion(line string) (r *Rule, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	parsed, err := flags.Parse(line)
	if err != nil {
		return nil, err
	}
	b, err := rule.Build(parsed)
	if err != nil {
		return nil, err
	}
	return Unmarshal(b)
}

// otherwise are the recorded lines go-libaudit sends wrong, each with a word it
// is known by.
var otherwise = []struct{ substr, reason string }{
	{"-A ", "-A appends"},
	{"task", "a rule of the task list gets a mask"},
	{"=010", "the octal number is read as decimal"},
	{"/a b", "a value is cut at its space"},
	{"key=a", "two keys make two fields, and a key with a space is cut"},
	{"arch!=armeb", "another number for ARM"},
	{"-S all -S open", "a name after all takes the others away"},
	{"-w /", "the path is cleaned, and looked up on the machine that runs the test"},
}

// TestSecondOpinion compares with go-libaudit's rule package on the recorded
// lines and says how many both take the same. Where they differ the recording
// decides, in TestRecordedSent.
func TestSecondOpinion(t *testing.T) {
	same, other, refused := 0, 0, 0
	for _, r := range loadRecorded(t) {
		if r.Sent != 1011 {
			continue
		}
		c, err := ParseArgs(r.Args, Env{Arch: testEnv().Arch, Accounts: testEnv().Accounts})
		if err != nil {
			t.Fatal(err)
		}
		got, err := secondOpinion(r.Line)
		switch {
		case err != nil:
			refused++
		case got.Equal(c.Rule()) && got.Prepend == c.Rule().Prepend:
			same++
		default:
			other++
			if !slices.ContainsFunc(otherwise, func(o struct{ substr, reason string }) bool { return strings.Contains(r.Line, o.substr) }) {
				t.Errorf("%s\n go-libaudit %+v\n ours        %+v", r.Line, got, c.Rule())
			}
		}
	}
	t.Logf("same %d, otherwise %d, refused by go-libaudit %d", same, other, refused)
	if same < 560 {
		t.Errorf("only %d lines are taken the same", same)
	}
}

// TestSecondOpinionGenerated compares on rules made of what go-libaudit gets
// right.
func TestSecondOpinionGenerated(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		line := "-a " + rapid.SampledFrom([]string{"always,exit", "exit,always", "never,exit"}).Draw(t, "list") +
			" -F arch=" + rapid.SampledFrom([]string{"b64", "b32"}).Draw(t, "arch")
		for _, s := range rapid.SliceOfN(rapid.SampledFrom([]string{"open", "openat", "execve", "connect", "unlink", "chmod", "ptrace", "17"}), 1, 4).Draw(t, "calls") {
			line += " -S " + s
		}
		ops := []string{"=", "!=", "<", ">", "<=", ">=", "&", "&="}
		for _, f := range rapid.SliceOfN(rapid.SampledFrom([]string{"uid", "euid", "gid", "egid", "auid", "pid", "ppid", "a0", "a1", "a2", "a3", "devminor", "pers"}), 0, 5).Draw(t, "fields") {
			line += fmt.Sprintf(" -F %s%s%d", f, rapid.SampledFrom(ops).Draw(t, "op"), rapid.Uint16().Draw(t, "value"))
		}
		line += rapid.SampledFrom([]string{"", " -k one", " -k one -k two", " -F exit=-EACCES -k x", " -C uid!=euid", " -F exe=/bin/true"}).Draw(t, "end")
		want := mustParseRapid(t, line)
		got, err := secondOpinion(line)
		if err != nil {
			t.Fatalf("go-libaudit refuses %s: %v", line, err)
		}
		if !got.Equal(want) {
			t.Fatalf("%s\n ours  %+v\n other %+v", line, want.Fields, got.Fields)
		}
	})
}

func mustParseRapid(t *rapid.T, line string) *Rule {
	c, err := ParseArgs(Args(SplitLine(line)), testEnv())
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return c.Rule()
}
