package cli

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/pkg/command"
)

// library is how cobra and pflag word what is wrong; none of it is ours.
var library = regexp.MustCompile(`unknown (flag|command|shorthand)|arg\(s\)|flag needs|invalid argument|parsing|cobra|Unknown help topic`)

// said runs the program and returns its exit code and what it said on both streams.
func said(t *testing.T, in *os.File, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = Run(t.Context(), "v-test", args, Stdio{In: in, Out: &o, Err: &e})
	return code, o.String(), e.String()
}

// Every command says what is wrong with its words in the same way, and that it is wrong.
func TestWrongUsage(t *testing.T) {
	root := (&program{}).root()
	var all []string
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if all = append(all, cmd.CommandPath()); !cmd.Hidden {
			for _, c := range cmd.Commands() {
				walk(c)
			}
		}
	}
	walk(root)
	if len(all) < 10 {
		t.Fatalf("commands: %q", all)
	}
	var lines []string
	for _, path := range append(all, "collector help") {
		lines = append(lines, path+" --no-such-flag")
	}
	for _, line := range append(lines,
		"collector srve", "collector help nothing", "collector serve x", "collector serve --store", "collector serve --max-days x", "collector serve --store a --store b",
		"collector verify x", "collector verify --store", "collector verify --store a --store b", "collector backup", "collector backup a b", "collector salvage", "collector salvage a b",
		"collector ca x", "collector ca init", "collector ca init x --dir a", "collector ca init --dir a --life 1h", "collector ca init --dir a --life soon", "collector ca issue --dir a --out b", "collector ca issue a",
		"collector ca issue a --dir a --out b --role root", "collector ca issue a b --dir c --out d", "collector ca revoke --dir a", "collector ca revoke a", "collector ca list", "collector ca list --dir a --format xml",
		"collector token", "collector token a b --dir c", "collector token a", "collector token a --list --dir a", "collector token --list --revoke a --dir b", "collector token a --dir b --ttl x",
		"collector version x", "collector completion", "collector completion csh", "collector completion bash nothing",
		"collector hosts --format xml", "collector hosts --silent-after soon", "collector hosts --silent maybe", "collector hosts --silent 1h --silent-after 2h", "collector hosts --reattribute x", "collector hosts --store a --store b",
		"collector search x", "collector search -k", "collector search -ts never", "collector search -ui 0junk", "collector search --store", "collector search --store a --store b",
		"collector search --store a --api b", "collector search -if a --store b", "collector search -if a -if b", "collector search --from x -k y", "collector search -i --format text",
		"collector search --format nice", "collector search -if a --from 192.0.2.1",
		"collector report x", "collector report -n web1", "collector report -f -k", "collector report -ts never", "collector report --top 0 -k", "collector report --by nothing",
		"collector alerts --format xml", "collector alerts --condition nothing", "collector alerts --store a --api b", "collector alerts test a b", "collector alerts conditions x", "collector alerts --server x",
		"collector coverage x", "collector coverage --format xml", "collector coverage -ts never", "collector coverage --store", "collector coverage --store a --store b", "collector coverage --from 192.0.2.1",
		"collector report --store a --store b", "collector report -if a --from 192.0.2.1",
	) {
		args := strings.Fields(line)
		code, out, errs := said(t, nil, args...)
		path := "collector"
		for words := 2; words <= min(3, len(args)); words++ {
			if p := strings.Join(args[:words], " "); slices.Contains(all, p) || p == "collector help" {
				path = p
			}
		}
		if code != command.ExitUsage || out != "" || !strings.HasSuffix(errs, "\nTry '"+path+" --help'.\n") || library.MatchString(errs) {
			t.Errorf("%s: exit %d, %q, %q", line, code, out, errs)
		}
	}
	// The stock tools' names keep their exit codes, and say no more.
	for _, line := range []string{"ausearch --no-such-flag", "ausearch x", "ausearch -if /nonexistent/x", "ausearch --store /nonexistent", "aureport --no-such-flag", "aureport -n web1", "aureport -if /nonexistent/x", "aureport --store /nonexistent"} {
		if code, _, errs := said(t, nil, strings.Fields(line)...); code != 1 || errs == "" || strings.Contains(errs, "Try") {
			t.Errorf("%s: exit %d, %q", line, code, errs)
		}
	}
}

// What cannot be searched is another thing than what has no events.
func TestNoCollectorIsNotNothing(t *testing.T) {
	dir := t.TempDir()
	for _, line := range []string{
		"search -k x --store " + dir + "/none", "search -k x --api " + dir + "/none", "search --checkpoint " + dir + "/ck --store " + dir + "/none", "search -k x -if " + dir + "/none", "search --count -if " + dir + "/none",
		"search --checkpoint " + dir + "/ck -if " + dir + "/none", "report --store " + dir + "/none", "report --api " + dir + "/none", "report -if " + dir + "/none", "hosts --store " + dir + "/none",
		"hosts --api " + dir + "/none", "hosts --forget x --api " + dir + "/none", "verify --store " + dir + "/none", "backup --store " + dir + "/none " + dir + "/b", "salvage --store " + dir + "/none " + dir + "/f",
	} {
		if code, out, errs := said(t, nil, append([]string{"collector"}, strings.Fields(line)...)...); code != map[bool]int{false: 2, true: exitNoCollector}[strings.HasPrefix(line, "hosts")] || strings.Contains(errs, "no matches") || errs == "" {
			t.Errorf("%s: exit %d, %q, %q", line, code, out, errs)
		}
	}
}

// A log in a pipe is read, as the stock tools do; a pipe in which nothing comes, as cron
// leaves it to its jobs, is not, but by their names.
func TestPipe(t *testing.T) {
	const record = "type=USER_LOGIN msg=audit(1700000000.001:1): pid=1 uid=0 res=success\n"
	dir := t.TempDir()
	pipe := func(text string) *os.File {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.WriteString(text); err != nil {
			t.Fatal(err)
		}
		w.Close()
		t.Cleanup(func() { r.Close() })
		return r
	}
	for _, c := range []struct {
		line, in string
		code     int
		out, err string // a part of it
	}{
		{"collector search -m USER_LOGIN -r", record, 0, record, ""},
		{"collector search -m USER_LOGIN -r --tree", record, 0, "COMMAND", ""},
		{"collector report -l", record, 0, "Login Report", ""},
		{"ausearch -m USER_LOGIN -r", record, 0, record, ""},
		{"ausearch -m USER_LOGIN", "", 1, "", "<no matches>"},
		{"aureport -l", record, 0, "Login Report", ""},
		{"collector search -m USER_LOGIN --store " + dir, record, 2, "", "nothing is stored there"},
		{"collector search -m USER_LOGIN --input-logs --api " + dir, record, 2, "", "no collector answers"},
		{"collector search -m USER_LOGIN", "", 2, "", "/var/lib/auditfleet/collector"},
		{"collector report -l", "", 2, "", "/var/lib/auditfleet/collector"},
		{"collector search -m USER_LOGIN -k x", "web1\nweb2\n", 1, "", "2 lines are no audit records"},
		{"collector search -m USER_LOGIN --from 192.0.2.1", record, 2, "", "--from: a log does not say"},
	} {
		if _, err := os.Stat("/var/lib/auditfleet/collector"); err == nil && strings.Contains(c.err, "/var/lib") {
			continue // this machine has a collector
		}
		code, out, errs := said(t, pipe(c.in), strings.Fields(c.line)...)
		if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.err) || c.out == "" && out != "" {
			t.Errorf("%s < %q: exit %d, %q, %q", c.line, c.in, code, out, errs)
		}
	}
}
