package report

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/search"
	"github.com/auditfleet/auditfleet/pkg/search/madelog"
	"github.com/auditfleet/auditfleet/pkg/search/reallog"
)

// The truth about aureport is aureport: these tests run both on the same log with
// the same words and compare what comes out, byte for byte.

func TestMain(m *testing.M) {
	if reallog.Main() { // as the workload of a recording
		return
	}
	os.Exit(m.Run())
}

type ran struct {
	out, stderr string
	code        int
}

func runStock(t testing.TB, bin string, args ...string) ran {
	t.Helper()
	cmd := exec.Command(bin, args...)
	cmd.Env = []string{"TZ=UTC", "LC_ALL=C", "PATH=/usr/bin:/bin"}
	var out, errb bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errb
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	r := ran{out.String(), need.Unread(errb.String()), cmd.ProcessState.ExitCode()}
	if i := strings.Index(r.out, "usage: aureport"); i >= 0 { // behind each complaint
		r.out = r.out[:i]
	}
	return r
}

var utcEnv = search.Env{Location: time.UTC, Locale: "C"}

func runOurs(args ...string) ran {
	var out, errb bytes.Buffer
	o, err := ParseArgs(args, utcEnv)
	if err != nil {
		return ran{"", err.Error() + "\n", 1}
	}
	code := RunFiles(context.Background(), o, utcEnv.Location, "", search.Stdio{Out: &out, Err: &errb})
	return ran{out.String(), errb.String(), code}
}

func one[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// kinds are the reports' options, in both spellings.
func kinds() [][]string {
	all := [][]string{nil}
	for k := range reports {
		for _, n := range reports[k].names {
			all = append(all, []string{n})
		}
	}
	return all
}

// command returns a random command line without its input.
func command(r *rand.Rand, secs []int64, nodes []string) []string {
	args := slices.Clone(one(r, kinds()...))
	add := func(chance int, more ...string) {
		if r.IntN(chance) == 0 {
			args = append(args, more...)
		}
	}
	if r.IntN(5) > 1 {
		add(2, "--summary")
	}
	add(2, one(r, "-i", "--interpret"))
	add(4, one(r, "--failed", "--success"))
	add(8, one(r, "--add", "--delete"))
	add(6, one(r, "-nc", "--no-config"))
	add(5, "--escape", one(r, "raw", "tty", "shell", "shell_quote"))
	add(8, "--node", one(r, nodes...))
	add(20, "--node", one(r, nodes...))
	add(30, "--eoe-timeout", one(r, "1", "2", "5"))
	at := time.Unix(secs[r.IntN(len(secs))]+int64(r.IntN(3)-1), 0).UTC()
	to := time.Unix(secs[r.IntN(len(secs))], 0).UTC()
	add(6, one(r, "-ts", "--start"), at.Format("01/02/06"), at.Format("15:04:05"))
	add(8, one(r, "-te", "--end"), to.Format("01/02/06"), to.Format("15:04:05"))
	return args
}

// testLog is a log and what is in it.
type testLog struct {
	path  string
	lines []string
	ids   []string // of the event of each line
	byID  map[string]*event.Event
	secs  []int64
	nodes []string
}

func readLog(t testing.TB, path string) *testLog {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	l := &testLog{path: path, byID: map[string]*event.Event{}, nodes: []string{"nowhere"}}
	for line := range strings.Lines(string(b)) {
		var r record.Record
		_ = r.Parse([]byte(line)) // damaged ones are part of it
		id := fmt.Sprintf("%s %d %d", r.Node, r.Ms(), r.Serial)
		ev := l.byID[id]
		if ev == nil {
			ev = &event.Event{Node: r.Node, Ms: r.Ms(), Serial: r.Serial}
			l.byID[id] = ev
			l.secs = append(l.secs, r.Sec)
			if !slices.Contains(l.nodes, string(r.Node)) && r.Node != nil {
				l.nodes = append(l.nodes, string(r.Node))
			}
		}
		ev.Records = append(ev.Records, r)
		l.lines, l.ids = append(l.lines, line), append(l.ids, id)
	}
	return l
}

// without writes the log without the events that known differences explain, and
// counts them by name; "" when there is none.
func (l *testLog) without(t testing.TB, o *Options, counts map[string]int) string {
	t.Helper()
	drop := map[string]bool{}
	for id, ev := range l.byID {
		for i := range knownDifferences {
			if d := &knownDifferences[i]; d.applies != nil && d.applies(o, ev) {
				counts[d.name]++
				drop[id] = true
				break
			}
		}
	}
	if len(drop) == 0 {
		return ""
	}
	var w strings.Builder
	for i, line := range l.lines {
		if !drop[l.ids[i]] {
			w.WriteString(line)
		}
	}
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(path, []byte(w.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// compare runs both and reports how they differ, "" when only in known ways.
func (l *testLog) compare(t testing.TB, bin string, args []string, counts map[string]int) string {
	t.Helper()
	both := func(path string) (stock, ours ran, words []string) {
		words = append([]string{"-if", path}, args...)
		return runStock(t, bin, words...), runOurs(words...), words
	}
	stock, ours, words := both(l.path)
	if stock.code < 0 {
		counts["stock died of a signal"]++
		return ""
	}
	if stock == ours {
		return ""
	}
	o, err := ParseArgs(words, utcEnv)
	if err != nil {
		return fmt.Sprintf("exit %d, want %d; stderr %q, want %q", ours.code, stock.code, ours.stderr, stock.stderr)
	}
	if path := l.without(t, o, counts); path != "" {
		stock, ours, _ = both(path)
	}
	for i := range knownDifferences {
		if d := &knownDifferences[i]; d.normal != nil {
			s, w := d.normal(o, stock.out), d.normal(o, ours.out)
			if s != stock.out || w != ours.out {
				counts[d.name]++
			}
			stock.out, ours.out = s, w
		}
	}
	stock.out = strings.ReplaceAll(stock.out, l.path, "LOG")
	ours.out = strings.ReplaceAll(ours.out, l.path, "LOG")
	if stock == ours || stock.code < 0 {
		return ""
	}
	s, w := strings.SplitAfter(stock.out, "\n"), strings.SplitAfter(ours.out, "\n")
	for i := range max(len(s), len(w)) {
		if i >= len(s) || i >= len(w) || s[i] != w[i] {
			return fmt.Sprintf("exit %d, want %d; stderr %q, want %q; from line %d on\nours:  %q\nstock: %q", ours.code, stock.code, ours.stderr,
				stock.stderr, i+1, w[min(i, len(w)):min(i+2, len(w))], s[min(i, len(s)):min(i+2, len(s))])
		}
	}
	return fmt.Sprintf("exit %d, want %d; stderr %q, want %q", ours.code, stock.code, ours.stderr, stock.stderr)
}

// sameAsStock compares random command lines, and every report plainly.
func sameAsStock(t *testing.T, seed uint64, logs []string, rounds int) {
	t.Helper()
	bin := need.Stock(t, "aureport")
	total, nonEmpty, failures := 0, 0, 0
	counts := map[string]int{}
	for i, path := range logs {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		l := readLog(t, path)
		for range rounds {
			args := command(r, l.secs, l.nodes)
			total++
			diff := l.compare(t, bin, args, counts)
			if diff == "" {
				if out := runOurs(append([]string{"-if", path}, args...)...).out; !strings.Contains(out, nothing) {
					nonEmpty++
				}
				continue
			}
			t.Errorf("aureport -if %s %q: %s", path, args, diff)
			if failures++; failures >= 8 {
				t.Fatal("too many differences")
			}
		}
	}
	t.Logf("compared %d invocations, %d with results; explained by known differences: %v", total, nonEmpty, counts)
	if nonEmpty < total/4 {
		t.Errorf("only %d of %d reports had anything: they show little", nonEmpty, total)
	}
}

// TestSameAsStock compares reports of recorded and hand-made logs.
func TestSameAsStock(t *testing.T) {
	var logs []string
	for _, name := range []string{"kernel-raw", "kernel-node", "types", "fleet"} {
		b, err := os.ReadFile(filepath.Join("../search/testdata", name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), name+".log")
		if err := os.WriteFile(path, eventtest.WithoutLogins(b), 0o600); err != nil {
			t.Fatal(err)
		}
		logs = append(logs, path)
	}
	sameAsStock(t, need.Seed(t), logs, need.Rounds(100, 12))
}

// TestSameAsStockGenerated compares reports of generated logs.
func TestSameAsStockGenerated(t *testing.T) {
	seed := need.Seed(t)
	dir := t.TempDir()
	var logs []string
	for i := range need.Rounds(30, 6) {
		r := rand.New(rand.NewPCG(seed, 1000+uint64(i)))
		path := filepath.Join(dir, fmt.Sprintf("generated-%d.log", i))
		if err := os.WriteFile(path, eventtest.WithoutLogins([]byte(madelog.Log(r, 20+r.IntN(200)))), 0o600); err != nil {
			t.Fatal(err)
		}
		logs = append(logs, path)
	}
	sameAsStock(t, seed, logs, need.Rounds(20, 8))
}

// TestSameAsStockNow compares them on what this machine's kernel, daemon and PAM
// write today.
func TestSameAsStockNow(t *testing.T) {
	if testing.Short() {
		t.Skip("records from the kernel")
	}
	seed := need.Seed(t)
	path := filepath.Join(t.TempDir(), "now.log")
	if err := os.WriteFile(path, eventtest.WithoutLogins(reallog.Record(t, reallog.Config{Enriched: true, Node: "now1"})), 0o600); err != nil {
		t.Fatal(err)
	}
	sameAsStock(t, seed, []string{path}, need.Rounds(100, 12))
}

// A uid that a record says is unset is not one that no record said: what a later
// record of the kernel's puts in the place of the second leaves the first.
func TestUnsetUserBeforeKernelRecord(t *testing.T) {
	bin := need.Stock(t, "aureport")
	path := filepath.Join(t.TempDir(), "audit.log")
	text := "node=n1 type=SYSCALL msg=audit(1681815206.746:44): arch=c000003e syscall=54 success=yes exit=0 a0=1 a1=0 a2=29 a3=1 items=0 ppid=1 pid=812 auid=1000 " +
		"uid=4294967295 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts0 ses=1 comm=\"nft\" exe=\"/usr/sbin/nft\" key=(null)\n" +
		"node=n1 type=NETFILTER_CFG msg=audit(1681815206.746:44): table=nat:3 family=2 entries=1 op=nft_register_chain pid=812 subj=u comm=\"nft\"\n"
	for _, log := range []string{text, strings.Replace(text, "4294967295", "33", 1)} {
		if err := os.WriteFile(path, []byte(log), 0o600); err != nil {
			t.Fatal(err)
		}
		if stock, ours := runStock(t, bin, "-if", path, "-u"), runOurs("-if", path, "-u"); stock != ours {
			t.Errorf("ours:  %+v\nstock: %+v", ours, stock)
		}
	}
}
