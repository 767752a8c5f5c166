package last

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/record"
)

func ourLogins(t *testing.T, stdin string, args ...string) (a answer) {
	t.Helper()
	var out, errs bytes.Buffer
	o, err := ParseLoginArgs(args, true, nil)
	if err != nil {
		return answer{Err: err.Error() + "\n", Code: 1}
	}
	in, err := os.Open(stdin)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	a.Code = RunLoginFiles(context.Background(), o, time.Local, "", Stdio{In: in, Out: &out, Err: &errs})
	a.Out, a.Err = out.String(), errs.String()
	return a
}

// apart puts something behind each USER_LOGIN: the stock tool does not see the event that
// comes behind one (DIFFERENCES.md).
func apart(log string) string {
	var lines []string
	for line := range strings.Lines(log) {
		lines = append(lines, line)
		if strings.HasPrefix(line, "type=USER_LOGIN") {
			lines = append(lines, strings.Replace(strings.Replace(line, "USER_LOGIN", "CRED_DISP", 1), "): ", "1): ", 1))
		}
	}
	return strings.Join(lines, "")
}

// TestStockLogins compares with aulastlog, on logs that are made.
func TestStockLogins(t *testing.T) {
	tool := need.Stock(t, "aulastlog")
	seed := need.Seed(t)
	file := filepath.Join(t.TempDir(), "log")
	for i := range need.Rounds(60, 10) {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		log := apart(madeLog(rng, 1+rng.IntN(60)))
		if err := os.WriteFile(file, []byte(log), 0o600); err != nil {
			t.Fatal(err)
		}
		args := [][]string{{"--stdin"}, {"--stdin", "-u", "bin"}, {"--stdin", "--user", "root"}}[i%3]
		if d := cmp.Diff(stockLast(t, tool, t.TempDir(), file, args...), ourLogins(t, file, args...)); d != "" {
			t.Fatalf("round %d %q: -stock +ours:\n%s\nlog:\n%s", i, args, d, log)
		}
	}
}

// TestFleetLogins has the accounts of each host apart, named as their own hosts name them.
func TestFleetLogins(t *testing.T) {
	o := &LoginOptions{Hosts: true, Names: interpret.NewFleet(nil, "")}
	l := NewLogins(o, nil)
	for i, line := range []string{
		"node=web1 type=USER_LOGIN msg=audit(1700000000.000:1): pid=1 uid=0 auid=1000 ses=1 msg='op=login id=1000 hostname=a addr=? terminal=ssh res=success'\x1dAUID=\"joe\"",
		"node=web2 type=USER_LOGIN msg=audit(1700000100.000:1): pid=1 uid=0 auid=1000 ses=1 msg='op=login id=1000 hostname=b addr=? terminal=ssh res=success'",
		"node=web1 type=USER_LOGIN msg=audit(1700000200.000:2): pid=1 uid=0 auid=1000 ses=1 msg='op=login id=1000 hostname=c addr=? terminal=ssh res=failed'",
		"node=web1 type=USER_LOGIN msg=audit(1700000300.000:2): pid=1 uid=0 auid=4294967295 ses=1 msg='op=login id=1000 hostname=c addr=? terminal=ssh res=success'",
	} {
		var r record.Record
		if err := r.Parse([]byte(line)); err != nil {
			t.Fatal(i, err)
		}
		if err := l.Record(r.Node, &r); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := l.Write(&out, time.UTC); err != nil {
		t.Fatal(err)
	}
	want := `Host             Username         Port         From                       Latest
web1             joe              ssh          a                          11/14/23 22:13:20
web2             1000             ssh          b                          11/14/23 22:15:00
`
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
}

// TestStockWords compares what both tools say of command lines.
func TestStockWords(t *testing.T) {
	last, lastlog := need.Stock(t, "aulast"), need.Stock(t, "aulastlog")
	dir := t.TempDir()
	file, empty := filepath.Join(dir, "log"), filepath.Join(dir, "empty")
	if err := os.WriteFile(file, []byte(madeLog(rand.New(rand.NewPCG(1, 2)), 50)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(dir, "none")
	for _, args := range [][]string{
		{"-f", none}, {"-f", file, "--stdin"}, {"--stdin", "-f", file}, {"-f", file, "-f", empty}, {"-f", empty, "-f", file}, {"-f", file, "more"}, {"--help"}, {"-h"}, {"--version"}, {""},
		{"-f", file, "--user"}, {"-f", file, "--tty"}, {"-f", file, "--user", "a", "--user", "b"}, {"-f", file, "--tty", "a", "--tty", "b"}, {"-f", file, "--tty", "a", "--tty"}, {"-f", file, "--user", "--bad"},
		{"-f", file, "--user", "a", "--user"}, {"-f", ""}, {"-f", "--bad"}, {"--stdin", "--stdin"}, {"-f", file, "--tty", "", "--tty", ""}, {"-f", file, "-f"}, {"-f=" + file}, {"--stdin", "-f"},
	} {
		stock, ours := stockLast(t, last, dir, "", args...), ourLast(t, args...)
		for _, a := range []*answer{&stock, &ours} {
			a.Out = nowDate.ReplaceAllString(a.Out, "${1}NOW")
		}
		if d := cmp.Diff(stock, ours); d != "" {
			t.Errorf("aulast %q: -stock +ours:\n%s", args, d)
		}
	}
	for _, args := range [][]string{
		{"--stdin"}, {"-u"}, {"--user"}, {"-u", "nobody-at-all"}, {"-u", "nobody-at-all", "--stdin"}, {"--stdin", "-u", "root", "-u", "bin"}, {"--stdin", "--stdin"}, {"-h"}, {"--help"},
		{"--stdin", "more"}, {"-u", "", "--stdin"}, {"-u", "0", "--stdin"}, {"--stdin", "-u"}, {"-f", file}, {"-u", "--stdin"}, {"nobody-at-all"},
	} {
		if d := cmp.Diff(stockLast(t, lastlog, dir, empty, args...), ourLogins(t, empty, args...)); d != "" {
			t.Errorf("aulastlog %q: -stock +ours:\n%s", args, d)
		}
	}
}
