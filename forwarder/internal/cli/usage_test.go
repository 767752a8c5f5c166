package cli

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

// library is how cobra and pflag word what is wrong; none of it is ours.
var library = regexp.MustCompile(`unknown (flag|command|shorthand)|arg\(s\)|flag needs|invalid argument|parsing|cobra|Unknown help topic`)

// Every command says what is wrong with its words in the same way, and that it is wrong.
func TestWrongUsage(t *testing.T) {
	for _, c := range []struct{ path, rest string }{
		{"forwarder", "--no-such-flag"}, {"forwarder", "serch"}, {"forwarder", "--source"}, {"forwarder", "--source a --source b"}, {"forwarder", "--window x"},
		{"forwarder run", "--no-such-flag"}, {"forwarder run", "x"}, {"forwarder run", "--source a --source b"}, {"forwarder run", "--node a --node b"},
		{"forwarder rules", ""}, {"forwarder rules", "lnt"}, {"forwarder rules", "--no-such-flag"}, {"forwarder rules check", "x"}, {"forwarder rules check", "--no-such-flag"},
		{"forwarder rules load", "a b"}, {"forwarder rules load", "--no-such-flag"}, {"forwarder rules load", "--dry-run=maybe"}, {"forwarder rules diff", "a b"}, {"forwarder rules diff", "--no-such-flag"},
		{"forwarder rules lint", "--no-such-flag"}, {"forwarder rules stats", "x"}, {"forwarder rules stats", "--no-such-flag"}, {"forwarder rules stats", "--format xml"},
		{"forwarder rules stats", "--since soon"}, {"forwarder rules stats", "--top many"}, {"forwarder trace", ""}, {"forwarder trace", "--shw true"},
		{"forwarder doctor", "--no-such-flag"}, {"forwarder doctor", "x"}, {"forwarder doctor", "--format xml"}, {"forwarder version", "x"}, {"forwarder witness", "--no-such-flag"}, {"forwarder witness", "x"}, {"forwarder witness", "--format xml"},
		{"forwarder witness export", "a b"}, {"forwarder witness export", "--given"}, {"forwarder witness export", "--day soon"}, {"forwarder witness export", "--finding a --day 2026-11-29"},
		{"forwarder witness accept", ""}, {"forwarder witness accept", "--all a"}, {"forwarder enroll", ""}, {"forwarder enroll", "--no-such-flag"}, {"forwarder enroll", "--server a:1 --out b"}, {"forwarder enroll", "--server a --token b --out c"},
		{"forwarder enroll", "--server a:1 --token b --token-file c --out d"}, {"forwarder enroll", "--server a:1 --token b"}, {"forwarder enroll", "x"}, {"forwarder version", "--no-such-flag"},
		{"forwarder completion", ""}, {"forwarder completion", "csh"}, {"forwarder completion", "--no-such-flag"}, {"forwarder help", "nothing"}, {"forwarder help", "--no-such-flag"},
		{"forwarder search", "--no-such-flag"}, {"forwarder search", "x"}, {"forwarder search", "-ui 0junk"}, {"forwarder search", "--config a --config b -k x"}, {"forwarder search", "-if a -if b"},
		{"forwarder report", "--no-such-flag"}, {"forwarder report", "-n web1"}, {"forwarder report", "--auditd-conf a --auditd-conf b"},
		{"forwarder last", "--no-such-flag"}, {"forwarder last", "--tty"}, {"forwarder last", "-f a --stdin"}, {"forwarder last", "--config a --config b"}, {"forwarder lastlog", "x"}, {"forwarder lastlog", "-u"},
		{"forwarder lastlog", "-f a --stdin"}, {"forwarder syscall", ""}, {"forwarder syscall", "open close"}, {"forwarder syscall", "b32 b64"}, {"forwarder syscall", "b32"},
	} {
		var out, errs bytes.Buffer
		line := c.path + " " + c.rest
		code := Run(t.Context(), strings.Fields(line), Stdio{Out: &out, Err: &errs}, "v-test")
		if code != exitUsage || out.Len() > 0 || !strings.HasSuffix(errs.String(), "\nTry '"+c.path+" --help'.\n") || library.MatchString(errs.String()) {
			t.Errorf("%s: exit %d, %q, %q", line, code, &out, &errs)
		}
	}
	// ctl is auditctl, whose exit code its users' scripts know.
	var out, errs bytes.Buffer
	if code := Run(t.Context(), []string{"forwarder", "ctl", "--no-such-flag"}, Stdio{Out: &out, Err: &errs}, "v-test"); code == 0 || !strings.Contains(errs.String(), "Try 'forwarder ctl --help'.") && code != ctlNotRoot {
		t.Errorf("ctl: exit %d, %q, %q", code, &out, &errs)
	}
	for line, want := range map[string]int{
		"ausearch --no-such-flag": 1, "ausearch -if /nonexistent/x": 1, "aureport -n web1": 1, "aureport -if /nonexistent/x": 1, "forwarder search -if /nonexistent/x": 2, "forwarder report -if /nonexistent/x": 2,
		"aulast x": 1, "aulast -f /nonexistent/x": 1, "forwarder last -f /nonexistent/x": 2, "ausyscall": 1, "ausyscall no-such-call": 1, "forwarder syscall no-such-call": 1,
	} {
		var out, errs bytes.Buffer
		if code := Run(t.Context(), strings.Fields(line), Stdio{Out: &out, Err: &errs}, "v-test"); code != want || errs.Len() == 0 || strings.Contains(errs.String(), "Try") {
			t.Errorf("%s: exit %d, %q", line, code, &errs)
		}
	}
}
