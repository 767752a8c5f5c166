package search

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/search/reallog"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// The truth about ausearch's grammar is ausearch: these tests run both on the
// same log with the same words and compare what comes out.

type ran struct {
	out, stderr string
	code        int
}

func runStock(t *testing.T, bin string, env []string, args ...string) ran {
	t.Helper()
	cmd := exec.Command(bin, args...)
	cmd.Env = append([]string{"TZ=UTC", "LC_ALL=C", "PATH=/usr/bin:/bin"}, env...)
	var out, errb bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errb
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return ran{out.String(), need.Unread(errb.String()), cmd.ProcessState.ExitCode()}
}

func runOurs(env Env, args ...string) ran {
	var out, errb bytes.Buffer
	code := ours(context.Background(), args, env, "", Stdio{Out: &out, Err: &errb})
	return ran{out.String(), errb.String(), code}
}

// ours is what a command does: it parses args and searches the logs they name.
func ours(ctx context.Context, args []string, env Env, logFile string, stdio Stdio) int {
	o, err := ParseArgs(args, env)
	if err != nil {
		fmt.Fprintln(stdio.Err, err)
		return 1
	}
	return RunFiles(ctx, o, env.Location, logFile, stdio)
}

var utcEnv = Env{Location: time.UTC, Locale: "C"}

// diffLogs returns the logs to compare on, by name.
func diffLogs(t testing.TB) map[string]string {
	t.Helper()
	logs := map[string]string{}
	dir := t.TempDir()
	write := func(name string, b []byte) {
		logs[name] = filepath.Join(dir, name+".log")
		if err := os.WriteFile(logs[name], b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"kernel-raw", "kernel-node", "types", "fleet"} {
		b, err := os.ReadFile(filepath.Join("testdata", name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		b = eventtest.WithoutLogins(b)
		write(name, b)
		if name == "kernel-node" { // and as the log of the host itself
			write("kernel-enriched", bytes.ReplaceAll(b, []byte("node=web1 "), nil))
		}
	}
	var logins []byte // each alone, so that 3.0.9 is right about them
	for i := range 8 {
		logins = fmt.Appendf(logins, "type=LOGIN msg=audit(%d.%03d:%d): pid=%d uid=%d subj=u:r:sshd_t:s0 old-auid=4294967295 auid=%d tty=%s old-ses=4294967295 ses=%d res=%d\n",
			1700000000+10*i, 7*i, 100+i, 500+i%3, i%2, 1000+i%3, []string{"(none)", "pts0"}[i%2], i, i%2)
	}
	write("logins", logins)
	return logs
}

// pool is the values that a log's events can be searched by.
type pool struct {
	values [query.NumFields][]string
	nodes  []string
	ids    []string
	secs   []int64
}

func poolOf(events []*event.Event) *pool {
	p := &pool{}
	seen := map[string]bool{}
	once := func(list *[]string, kind int, v string) {
		if key := strconv.Itoa(kind) + " " + v; !seen[key] {
			seen[key] = true
			*list = append(*list, v)
		}
	}
	var x query.Extractor
	for _, ev := range events {
		x.Extract(ev, func(f query.Field, v []byte) { once(&p.values[f], int(f), string(v)) })
		if ev.Node != nil {
			once(&p.nodes, -1, string(ev.Node))
		}
		once(&p.ids, -2, strconv.FormatUint(ev.Serial, 10))
		p.secs = append(p.secs, ev.Ms/1000)
	}
	return p
}

func pick[T any](r *rand.Rand, list []T, other T) T {
	if len(list) == 0 || r.IntN(20) == 0 {
		return other
	}
	return list[r.IntN(len(list))]
}

// text is a value that an argument can be: whole, or a part of it.
func (p *pool) text(r *rand.Rand, f query.Field) string {
	v := pick(r, p.values[f], "nowhere")
	if r.IntN(2) == 0 && len(v) > 2 {
		from := r.IntN(len(v) - 1)
		v = v[from : from+1+r.IntN(len(v)-from)]
	}
	if v == "" || v[0] == '-' || strings.ContainsRune(v, 0) {
		return "x"
	}
	return v
}

func (p *pool) user(r *rand.Rand, f query.Field) string {
	if r.IntN(3) == 0 {
		return []string{"root", "daemon", "nobody", "bin"}[r.IntN(4)]
	}
	return pick(r, p.values[f], "12345")
}

// option returns one random condition.
func (p *pool) option(r *rand.Rand) []string {
	str := func(opt string, f query.Field) []string { return []string{opt, p.text(r, f)} }
	num := func(opt string, f query.Field) []string { return []string{opt, pick(r, p.values[f], "77")} }
	switch r.IntN(29) {
	case 0:
		return []string{"-a", pick(r, p.ids, "1")}
	case 1:
		return str("-c", query.FieldComm)
	case 2:
		return num("-e", query.FieldExit)
	case 3:
		return str("-f", query.FieldFile)
	case 4:
		return num("-ga", query.FieldGID)
	case 5:
		return num("-ge", query.FieldEGID)
	case 6:
		return []string{"-gi", pick(r, append(p.values[query.FieldGID], "root", "nogroup"), "3")}
	case 7:
		return str("-hn", query.FieldHost)
	case 8:
		return str("-k", query.FieldKey)
	case 9, 10:
		types := []string{p.typ(r)}
		for r.IntN(2) == 0 {
			types = append(types, p.typ(r))
		}
		return []string{"-m", strings.Join(types, ",")}
	case 11:
		return []string{"-n", pick(r, p.nodes, "web9")}
	case 12:
		return str("-o", query.FieldObject)
	case 13:
		return num("-p", query.FieldPID)
	case 14:
		return num("-pp", query.FieldPPID)
	case 15:
		return p.syscall(r)
	case 16:
		return str("-se", query.FieldSubject)
	case 17:
		return num("--session", query.FieldSession)
	case 18:
		return str("-su", query.FieldSubject)
	case 19:
		return []string{"-sv", []string{"yes", "no"}[r.IntN(2)]}
	case 20:
		return str("-tm", query.FieldTerminal)
	case 21:
		return []string{"-ua", p.user(r, query.FieldAUID)}
	case 22:
		return []string{"-ue", p.user(r, query.FieldEUID)}
	case 23:
		return []string{"-ui", p.user(r, query.FieldUID)}
	case 24:
		return []string{"-ul", p.user(r, query.FieldAUID)}
	case 25:
		return str([]string{"-uu", "--uuid"}[r.IntN(2)], query.FieldUUID)
	case 26:
		return str("-vm", query.FieldVM)
	case 27:
		return str("-x", query.FieldExe)
	default:
		return p.times(r)
	}
}

func (p *pool) typ(r *rand.Rand) string {
	n, err := strconv.Atoi(pick(r, p.values[query.FieldType], "1300"))
	newer := n > int(tables.Openat2) && n < int(tables.AVC) // named after 3.0.9
	if err != nil || newer || r.IntN(4) == 0 {
		return strconv.Itoa(n)
	}
	return tables.TypeName(uint16(n))
}

func (p *pool) syscall(r *rand.Rand) []string {
	nr := pick(r, p.values[query.FieldSyscall], "2")
	switch r.IntN(4) {
	case 0:
		return []string{"--arch", []string{"b64", "b32", "x86_64", "i686", "i386"}[r.IntN(5)], "-sc", nr}
	case 1:
		return []string{"-sc", []string{"openat", "open", "connect", "execve", "kill", "unlinkat"}[r.IntN(6)]}
	case 2:
		return []string{"--arch", []string{"b64", "b32", "aarch64", "i386"}[r.IntN(4)]}
	}
	return []string{"-sc", nr}
}

func (p *pool) times(r *rand.Rand) []string {
	at := time.Unix(pick(r, p.secs, 1700000000)+int64(r.IntN(3)-1), 0).UTC()
	to := at.Add(time.Duration(r.IntN(20)) * time.Second)
	args := []string{"-ts", at.Format("01/02/06"), at.Format("15:04:05")}
	end := []string{"-te", to.Format("01/02/06"), to.Format("15:04:05")}
	switch r.IntN(4) {
	case 0:
		return end
	case 1:
		return append(args, end...)
	case 2:
		return []string{"-ts", at.Format("15:04:05"), at.Format("01/02/06")}
	}
	return args
}

// exclusive is the options that stock gets wrong together, see knownDifferences.
var exclusive = [][]string{{"-ui", "-ue", "-ul", "-ua"}, {"-gi", "-ge", "-ga"}, {"-su", "-o", "-se"}, {"--arch", "-sc"}}

// query returns a random command line without its input.
func (p *pool) query(r *rand.Rand) []string {
	args := p.option(r)
	for r.IntN(5) < 2 {
		more := p.option(r)
		if !slices.ContainsFunc(exclusive, func(group []string) bool {
			_, a := given(args, group...)
			_, b := given(more, group...)
			return a && b
		}) {
			args = append(args, more...)
		}
	}
	if r.IntN(4) == 0 {
		args = append(args, "-w")
	}
	if r.IntN(12) == 0 {
		args = append(args, "--just-one")
	}
	switch r.IntN(3) {
	case 0:
		args = append(args, "-r")
	case 1:
		args = append(args, "--format", "raw")
	}
	return args
}

// block is one event of an output.
type block struct{ id, text string }

// blocks takes an output apart into events.
func blocks(out string) []block {
	var all []block
	if strings.HasPrefix(out, "----\n") {
		for text := range strings.SplitSeq(strings.TrimSuffix(out[len("----\n"):], "\n"), "\n----\n") {
			all = append(all, block{recordID(text), text})
		}
		return all
	}
	for line := range strings.Lines(out) {
		id := recordID(line)
		if n := len(all); n > 0 && all[n-1].id == id {
			all[n-1].text += line
		} else {
			all = append(all, block{id, line})
		}
	}
	return all
}

// recordID is the node, time and serial of the first record in text.
func recordID(text string) string {
	_, stamp, _ := strings.Cut(text, "msg=audit(")
	stamp, _, _ = strings.Cut(stamp, ")")
	if i := strings.Index(text, "node="); i >= 0 && (i == 0 || text[i-1] == '\n') {
		node, _, _ := strings.Cut(text[i:], " ")
		return node + " " + stamp
	}
	return stamp
}

// explained removes the events that only one side has and that a known
// difference accounts for, counting by its name.
func explained(args []string, a, b []block, counts map[string]int) []block {
	return slices.DeleteFunc(slices.Clone(a), func(x block) bool {
		if slices.Contains(b, x) {
			return false
		}
		if known(args, x.text, counts) {
			return true
		}
		// In raw, two events of the same id may stand one behind the other and look
		// like one; then only one of them is the difference.
		for _, y := range b {
			if rest, ok := cutText(y.text, x.text); ok && y.id == x.id && known(args, rest, counts) {
				return true
			}
		}
		return false
	})
}

// known says whether a known difference accounts for an event, and counts it.
func known(args []string, text string, counts map[string]int) bool {
	for _, d := range knownDifferences {
		if d.applies != nil && d.applies(args, text) {
			counts[d.name]++
			return true
		}
	}
	return false
}

// cutText takes a part off a text.
func cutText(text, part string) (rest string, ok bool) {
	before, after, ok := strings.Cut(text, part)
	return before + after, ok
}

// alike makes an event what we print of it where a known difference explains what
// the stock tool does.
func alike(args []string, stock *block, ours []block, counts map[string]int) {
	for _, b := range ours {
		if b.id != stock.id || b.text == stock.text {
			continue
		}
		for _, d := range knownDifferences {
			if d.same != nil && d.same(args, stock.text, b.text) {
				stock.text = b.text
				counts[d.name]++
				return
			}
		}
	}
}

// normalRaw takes off the 0x1d that the stock tool appends to records that have
// no enriched tail when another of their event has one.
func normalRaw(out string) string { return strings.ReplaceAll(out, "\x1d\n", "\n") }

// compare reports how the two differ, "" when only in known ways.
func compare(args []string, stock, ours ran, counts map[string]int) string {
	stock.out = normalRaw(stock.out)
	if stock.code < 0 {
		counts["stock died of a signal"]++
		return ""
	}
	if stock.out == ours.out && stock.code == ours.code && stock.stderr == ours.stderr {
		return ""
	}
	sb, ob := blocks(stock.out), blocks(ours.out)
	for i := range sb {
		alike(args, &sb[i], ob, counts)
	}
	if slices.Contains(args, "--just-one") && len(sb)+len(ob) > 0 {
		// A hidden or additional event changes which is the first.
		for _, b := range slices.Concat(sb, ob) {
			for _, d := range knownDifferences {
				if d.applies != nil && d.applies(args, b.text) {
					counts[d.name]++
					return ""
				}
			}
		}
	}
	s, o := explained(args, sb, ob, counts), explained(args, ob, sb, counts)
	if slices.Equal(s, o) && (len(s) > 0) == (len(o) > 0) {
		if len(sb) == len(s) && len(ob) == len(o) && (stock.code != ours.code || stock.stderr != ours.stderr) {
			return fmt.Sprintf("exit %d, want %d; stderr %q, want %q", ours.code, stock.code, ours.stderr, stock.stderr)
		}
		return ""
	}
	var w strings.Builder
	for i := range max(len(s), len(o)) {
		if i >= len(s) || i >= len(o) || s[i] != o[i] {
			if i < len(s) {
				fmt.Fprintf(&w, "stock has at %d: %s\n", i, s[i].text)
			}
			if i < len(o) {
				fmt.Fprintf(&w, "ours has at %d: %s\n", i, o[i].text)
			}
			break
		}
	}
	return fmt.Sprintf("%d events, want %d\n%s", len(ob), len(sb), w.String())
}

func TestMain(m *testing.M) {
	if reallog.Main() { // as the workload of a recording
		return
	}
	if args := os.Getenv(measured); args != "" {
		os.Exit(measuredSearch(args))
	}
	os.Exit(m.Run())
}

// TestSameAsStock compares generated searches of the logs in testdata.
func TestSameAsStock(t *testing.T) { sameAsStock(t, diffLogs(t)) }

// TestSameAsStockNow compares them on what this machine's kernel, daemon and PAM
// write today.
func TestSameAsStockNow(t *testing.T) {
	if testing.Short() {
		t.Skip("records from the kernel")
	}
	path := filepath.Join(t.TempDir(), "now.log")
	if err := os.WriteFile(path, eventtest.WithoutLogins(reallog.Record(t, reallog.Config{Enriched: true, Node: "now1"})), 0o600); err != nil {
		t.Fatal(err)
	}
	sameAsStock(t, map[string]string{"now": path})
}

func sameAsStock(t *testing.T, logs map[string]string) {
	t.Helper()
	bin := need.Stock(t, "ausearch")
	rounds := need.Rounds(80, 15)
	seed := need.Seed(t)
	total, nonEmpty, failures := 0, 0, 0
	counts := map[string]int{}
	names := make([]string, 0, len(logs))
	for name := range logs {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		p := poolOf(eventtest.Read(t, logs[name]))
		for range rounds {
			args := append([]string{"-if", logs[name]}, p.query(r)...)
			stock, ours := runStock(t, bin, nil, args...), runOurs(utcEnv, args...)
			total++
			if stock.out != "" {
				nonEmpty++
			}
			if diff := compare(args, stock, ours, counts); diff != "" {
				t.Errorf("ausearch %q: %s", args, diff)
				if failures++; failures >= 12 {
					t.Fatal("too many differences")
				}
			}
		}
	}
	t.Logf("compared %d invocations, %d with results; events explained by known differences: %v", total, nonEmpty, counts)
	if nonEmpty < total/10 {
		t.Errorf("only %d of %d searches found anything: they show little", nonEmpty, total)
	}
}

// TestKnownDifferences shows each of them with the stock tool.
func TestKnownDifferences(t *testing.T) {
	bin := need.Stock(t, "ausearch")
	for _, d := range knownDifferences {
		t.Run(d.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "audit.log")
			log := strings.Join(d.record, "\n") + "\n"
			if err := os.WriteFile(path, []byte(log), 0o600); err != nil {
				t.Fatal(err)
			}
			args := append([]string{"-if", path}, d.args...)
			stock, ours := runStock(t, bin, nil, args...), runOurs(utcEnv, args...)
			if d.name == "separator-added" {
				if want := log[:len(log)-1] + "\x1d\n"; stock.out != want || ours.out != log {
					t.Errorf("stock: %q\nours: %q", stock.out, ours.out)
				}
				return
			}
			if d.same != nil {
				if !strings.Contains(stock.out, d.stock) || strings.Contains(stock.out, d.ours) || !strings.Contains(ours.out, d.ours) {
					t.Errorf("stock should print %q, ours %q:\nstock: %q\n ours: %q", d.stock, d.ours, stock.out, ours.out)
				}
				if diff := compare(args, stock, ours, map[string]int{}); diff != "" {
					t.Errorf("it does not explain its own example: %s", diff)
				}
				return
			}
			if found := stock.code == 0; found != d.finds {
				t.Errorf("stock finds it: %v, want %v (%s)", found, d.finds, stock.stderr)
			}
			if found := ours.code == 0; found == d.finds {
				t.Errorf("ours finds it: %v, want %v (%s)", found, !d.finds, ours.stderr)
			}
		})
	}
}

// TestDifferencesAreListed keeps DIFFERENCES.md whole.
func TestDifferencesAreListed(t *testing.T) {
	b, err := os.ReadFile("DIFFERENCES.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range knownDifferences {
		if !bytes.Contains(b, []byte("\n| "+d.name+" | ")) {
			t.Errorf("DIFFERENCES.md does not list %s (%s)", d.name, d.what)
		}
	}
	b, _, _ = bytes.Cut(b, []byte("\n## ")) // what follows is of other tests
	if rows := bytes.Count(b, []byte("\n| ")) - 1; rows != len(knownDifferences) {
		t.Errorf("DIFFERENCES.md has %d rows for %d known differences", rows, len(knownDifferences))
	}
}
