package search

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
	"github.com/auditfleet/auditfleet/pkg/search/reallog"
)

// toldFormats are the formats that tell what happened, with their options.
var toldFormats = [][]string{
	{"--format", "csv"},
	{"--format", "text"},
	{"--format", "csv", "--extra-keys", "--extra-labels", "--extra-obj2", "--extra-time"},
	{"--format", "csv", "--extra-labels", "--escape", "raw"},
	{"--format", "csv", "--extra-obj2", "--extra-keys", "--escape", "shell"},
	{"--format", "text", "--escape", "shell_quote"},
}

// writeLog puts a log into a file of its own.
func writeLog(t testing.TB, log string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(path, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// shown keeps of a log what both find in it: the records of the events that
// ausearch does not hide for reasons of its own.
func shown(t *testing.T, bin, log string) string {
	t.Helper()
	for range 3 {
		path := writeLog(t, log)
		stock, ours := normalRaw(runStock(t, bin, nil, "-if", path, "-r").out), runOurs(utcEnv, "-if", path, "-r").out
		if stock == ours {
			return stock
		}
		sb, ob := blocks(stock), blocks(ours)
		both := slices.DeleteFunc(sb, func(b block) bool { return !slices.Contains(ob, b) })
		log = ""
		for _, b := range both {
			log += b.text
		}
	}
	t.Fatal("the two do not agree on which events there are")
	return ""
}

// toldDiff compares what the two print of a log, line by line, and returns the
// first difference that is not a known one.
func toldDiff(args []string, stock, ours ran, counts map[string]int) string {
	sl, ol := strings.Split(stock.out, "\n"), strings.Split(ours.out, "\n")
	if len(sl) != len(ol) {
		for i := range min(len(sl), len(ol)) {
			if sl[i] != ol[i] && len(sl[i])*2 < len(ol[i]) {
				return fmt.Sprintf("%d lines, want %d\nstock: %q\n ours: %q", len(ol), len(sl), sl[i], ol[i])
			}
		}
		return fmt.Sprintf("%d lines, want %d", len(ol), len(sl))
	}
next:
	for i := range sl {
		if sl[i] == ol[i] {
			continue
		}
		for _, d := range toldDifferences {
			if d.same != nil && d.same(args, sl[i], ol[i]) {
				counts[d.name]++
				continue next
			}
		}
		return fmt.Sprintf("line %d\nstock: %q\n ours: %q", i, sl[i], ol[i])
	}
	if stock.code != ours.code || sortedLines(stock.stderr) != sortedLines(ours.stderr) {
		return fmt.Sprintf("exit %d, want %d; stderr %.200q, want %.200q", ours.code, stock.code, ours.stderr, stock.stderr)
	}
	return ""
}

// sortedLines are text's lines in an order of their own: warnings of workers come in
// any.
func sortedLines(text string) string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// toldRun counts what was compared.
type toldRun struct {
	bin                string
	counts             map[string]int
	invocations, lines int
}

// all compares every format on all of a log.
func (c *toldRun) all(t *testing.T, name, path string, formats [][]string) {
	t.Helper()
	for _, f := range formats {
		args := append([]string{"-if", path}, f...)
		stock, ours := runStock(t, c.bin, nil, args...), runOurs(utcEnv, args...)
		c.invocations++
		c.lines += strings.Count(stock.out, "\n")
		if stock.code < 0 {
			t.Errorf("%s: ausearch %q died of a signal", name, args)
			continue
		}
		if diff := toldDiff(args, stock, ours, c.counts); diff != "" {
			t.Errorf("%s: ausearch %q: %s", name, args, diff)
		}
	}
}

func (c *toldRun) report(t *testing.T) {
	t.Logf("compared %d invocations, %d lines; lines explained by known differences: %v", c.invocations, c.lines, c.counts)
}

// TestToldSameAsStock compares the csv and text of every log, whole and searched.
func TestToldSameAsStock(t *testing.T) {
	t.Parallel()
	c := &toldRun{bin: need.Stock(t, "ausearch"), counts: map[string]int{}}
	logs := diffLogs(t)
	rounds := 40
	if testing.Short() {
		rounds = 2
	} else {
		logs["now"] = writeLog(t, eventtest.WithoutLogins(string(reallog.Record(t, reallog.Config{Enriched: true, Node: "now1"}))))
	}
	seed := need.Seed(t)
	names := make([]string, 0, len(logs))
	for name := range logs {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		log, err := os.ReadFile(logs[name])
		if err != nil {
			t.Fatal(err)
		}
		path := writeLog(t, shown(t, c.bin, string(log)))
		c.all(t, name, path, toldFormats)
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		p := poolOf(eventtest.Read(t, path))
		for range rounds {
			query := p.interpreted(r)
			query = slices.DeleteFunc(query, func(a string) bool { return a == "-i" || a == "--just-one" })
			if i := slices.Index(query, "--format"); i >= 0 {
				query = slices.Delete(query, i, i+2)
			}
			if i := slices.Index(query, "--escape"); i >= 0 {
				query = slices.Delete(query, i, i+2)
			}
			raw := append([]string{"-if", path, "-r"}, query...)
			if byName(query) || normalRaw(runStock(t, c.bin, nil, raw...).out) != runOurs(utcEnv, raw...).out {
				c.counts["another search result"]++ // diff_test.go is about that
				continue
			}
			c.all(t, name, path, [][]string{append(query, toldFormats[r.IntN(len(toldFormats))]...)})
		}
	}
	c.report(t)
}

// TestToldGenerated compares them on generated events.
func TestToldGenerated(t *testing.T) {
	t.Parallel()
	c := &toldRun{bin: need.Stock(t, "ausearch"), counts: map[string]int{}}
	rounds := need.Rounds(30, 1)
	seed := need.Seed(t)
	for i := range rounds {
		g := &toldGen{r: rand.New(rand.NewPCG(seed, uint64(i)))}
		path := writeLog(t, shown(t, c.bin, g.log(need.Size(400, 250))))
		c.all(t, fmt.Sprintf("round %d", i), path, toldFormats)
		if t.Failed() {
			break
		}
	}
	c.report(t)
}

// toldDifference is a place where what csv and text say differs.
type toldDifference struct {
	name, what string
	args       []string
	record     []string
	zone       string // "" is UTC
	stock      string // what is in stock's output, and not in ours
	ours       string // the other way round
	// same says whether two lines that differ are a case of it; nil when generated
	// events avoid it.
	same func(args []string, stock, ours string) bool
}

var toldDifferences = []toldDifference{
	{
		name:   "seccomp-call",
		what:   "a SECCOMP record without subj=, as a kernel without security module writes it, names no system call",
		args:   []string{"--format", "csv"},
		record: []string{stamped("SECCOMP", `auid=1000 uid=0 gid=0 ses=4 pid=7 comm="c" exe="/c" sig=31 arch=c000003e syscall=2 compat=0 ip=0x7f code=0x0`)},
		stock:  "unknown-syscall(-1)", ours: ",open,",
		same: func(_ []string, stock, ours string) bool {
			return (strings.Contains(stock, ",SECCOMP,") || strings.Contains(stock, "seccomp-controlled")) &&
				(oneApart(stock, ours, ",") || oneApart(stock, ours, " "))
		},
	},
	{
		name:   "no-id",
		what:   "an id that is no number (auid=? of a daemon that does not know) is root",
		args:   []string{"--format", "text"},
		record: []string{stamped("DAEMON_CONFIG", "op=reconfigure state=no-change auid=? pid=? subj=? res=failed")},
		stock:  "root unsuccessfully", ours: "? unsuccessfully",
		same: func(_ []string, stock, ours string) bool {
			if id := oddID.FindString(ours + stock); id != "" && acting.ReplaceAllString(ours, "") == acting.ReplaceAllString(stock, "") {
				return true
			}
			return strings.Contains(ours, "?") && strings.ReplaceAll(strings.ReplaceAll(ours, `\?`, "?"), "?", "root") ==
				strings.ReplaceAll(strings.ReplaceAll(stock, `\?`, "?"), "?", "root")
		},
	},
	{
		name: "chown-ids",
		what: "the new owner of lchown, fchown and fchownat is a number in hex; that of chown is a name",
		args: []string{"--format", "text"},
		record: []string{
			stamped("SYSCALL", strings.NewReplacer("syscall=257 ", "syscall=94 ", "a1=2 ", "a1=0 ").Replace(exampleCall)),
			stamped("PATH", `item=0 name="/f" inode=1 dev=fd:00 mode=0100644 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL`),
		},
		stock: "/f to 0x0 using", ours: "/f to root using",
		same: func(_ []string, stock, ours string) bool {
			return strings.Contains(ours, "changed-file-ownership-of") && (oneApart(stock, ours, ",") || oneApart(stock, ours, " "))
		},
	},
	{
		name:   "large-id",
		what:   "ids from 2^31 up are negative",
		args:   []string{"--format", "csv"},
		record: []string{stamped("USER_AUTH", "pid=1 uid=4294967294 auid=3000000000 ses=1 msg='res=success'")},
		stock:  "unknown(-1294967296),unknown(-2),service-acct", ours: "unknown(3000000000),unknown(4294967294),unknown-acct",
		same: func(_ []string, stock, ours string) bool {
			return strings.ReplaceAll(unsignedIDs(stock), ",service-acct", ",unknown-acct") == strings.ReplaceAll(ours, ",service-acct", ",unknown-acct")
		},
	},
	{
		name:   "newer-records",
		what:   "what URINGOP, DM_CTRL, DM_EVENT, LANDLOCK_* and IPE_* records are about is not known",
		args:   []string{"--format", "text"},
		record: []string{stamped("URINGOP", `uring_op=18 success=yes exit=5 items=0 ppid=1 pid=2 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 key="ring"`)},
		stock:  " did-unknown ", ours: "root successfully opened-file using io_uring",
		same: func(_ []string, stock, ours string) bool {
			return strings.Contains(stock, "did-unknown") && !strings.Contains(ours, "did-unknown") || strings.Contains(ours, ",URINGOP,")
		},
	},
	{
		name: "newer-calls",
		what: "what system calls of the last years do is not known, only which rule wanted them",
		args: []string{"--format", "text"},
		record: []string{
			stamped("SYSCALL", strings.Replace(exampleCall, "syscall=257", "syscall=452", 1)), stamped("CWD", `cwd="/tmp"`),
			stamped("PATH", `item=0 name="f" inode=1 dev=fd:00 mode=0100644 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL`),
		},
		stock: "triggered-audit-rule k using", ours: "changed-file-permissions-of /tmp/f to 0000 using",
		same: func(_ []string, stock, ours string) bool {
			return strings.Contains(stock, "triggered-") && !strings.Contains(ours, "triggered-") ||
				strings.Contains(stock, ",admin-defined-rule,") && !strings.Contains(ours, ",admin-defined-rule,") ||
				withoutAccessed(stock) == withoutAccessed(ours)
		},
	},
	{
		name: "killed-pid",
		what: "a signal to one process goes to a list of them, and no process is named",
		args: []string{"--format", "text"},
		record: []string{
			stamped("SYSCALL", strings.Replace(exampleCall, "syscall=257", "syscall=62", 1)), stamped("OBJ_PID", `opid=1234 oauid=1000 ouid=0 oses=3 ocomm="sleep"`),
			stamped("PROCTITLE", "proctitle=61"),
		},
		stock: "killed-list-of-pids using", ours: "killed-pid (1234) using",
		same: func(_ []string, stock, ours string) bool {
			return strings.Contains(ours, "killed-") && withoutKilled(ours) == withoutKilled(stock)
		},
	},
	{
		name: "renamed-to",
		what: "the new name of what was renamed is looked for in a record that is seldom there",
		args: []string{"--format", "text"},
		record: []string{
			stamped("SYSCALL", strings.Replace(exampleCall, "syscall=257", "syscall=82", 1)), stamped("CWD", `cwd="/tmp"`),
			stamped("PATH", "item=0 name=\"/tmp\" inode=1 nametype=PARENT"), stamped("PATH", "item=1 name=\"/tmp\" inode=1 nametype=PARENT"),
			stamped("PATH", `item=2 name="a" inode=2 nametype=DELETE`), stamped("PATH", `item=3 name="b" inode=2 nametype=CREATE`),
		},
		stock: "renamed /tmp/a using", ours: "renamed /tmp/a to /tmp/b using",
		same: func(_ []string, stock, ours string) bool {
			what := strings.Contains(ours, "renamed") || strings.Contains(ours, "accessed-mac-policy-controlled-object") // by an AVC beside it
			return what && (hasMore(stock, ours) || oneApart(stock, ours, ","))
		},
	},
	{
		name:   "unnamed-socket",
		what:   "a local socket without a name is an address too short",
		args:   []string{"--format", "csv"},
		record: []string{stamped("SYSCALL", strings.Replace(exampleCall, "syscall=257", "syscall=42", 1)), stamped("SOCKADDR", "saddr=0100")},
		stock:  "saddr_fam=local sockaddr len too short", ours: "saddr_fam=local unnamed socket",
		same: func(_ []string, stock, ours string) bool {
			return strings.ReplaceAll(ours, "unnamed socket", "sockaddr len too short") == stock
		},
	},
	{
		name:   "newer-type",
		what:   "the type of a record that is newer than it has no name",
		args:   []string{"--format", "csv"},
		record: []string{stamped("DM_CTRL", "module=crypt op=ctr ppid=1 pid=2 auid=0 uid=0 res=1")},
		stock:  "\n,,11/14/23", ours: "\n,DM_CTRL,11/14/23",
		same: func(_ []string, stock, ours string) bool {
			s, o := strings.Split(stock, ","), strings.Split(ours, ",")
			return len(s) > 2 && len(o) == len(s) && s[1] == "" && o[1] != "" && slices.Equal(s[2:], o[2:])
		},
	},
	{
		name:   "rule-list",
		what:   "an audit rule without a key that was added or removed has no object, and where no system call did it no result; 4.2.2 has both",
		args:   []string{"--format", "csv"},
		record: []string{stamped("CONFIG_CHANGE", "auid=1000 ses=1 op=remove_rule key=(null) list=4 res=1")},
		stock:  "deleted-audit-rule,,,", ours: "deleted-audit-rule,success,exit,",
		same: func(_ []string, stock, ours string) bool {
			return ruleList(ours) != ours && ruleList(stock) == ruleList(ours)
		},
	},
	{
		name:   "gmt-minutes",
		what:   "--extra-time knows no minutes of a zone's distance",
		args:   []string{"--format", "csv", "--extra-time"},
		record: []string{stamped("USER_AUTH", "pid=1 uid=0 auid=0 ses=1 msg='res=success'")},
		zone:   "Asia/Kolkata",
		stock:  "+05:00", ours: "+05:30",
	},
	{
		name: "last-dotdot",
		what: "a .. at the end of a path is not taken into account; where nothing is left, the path of an earlier event is printed",
		args: []string{"--format", "text"},
		record: []string{
			stamped("SYSCALL", exampleCall), stamped("CWD", `cwd="/home/u"`),
			stamped("PATH", `item=0 name="sub/.." inode=1 dev=fd:00 mode=040755 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL`),
		},
		stock: "opened-file /home/u/sub using", ours: "opened-file /home/u using",
		same: func(_ []string, stock, ours string) bool { // nothing is left
			for _, root := range []string{",/,", " / "} {
				before, after, ok := strings.Cut(ours, root)
				if ok && strings.HasPrefix(stock, before+root[:1]) && strings.HasSuffix(stock, root[2:]+after) {
					return true
				}
			}
			return false
		},
	},
}

// withoutAccessed is a line about a decision without what it was about and by what: that of
// a newer call is its file, to stock the rule.
func withoutAccessed(line string) string {
	for _, action := range [...]string{"accessed-policy-controlled-file", "accessed-mac-policy-controlled-object"} {
		if before, _, ok := strings.Cut(line, action); ok {
			return before
		}
	}
	return line
}

// oddID is what stands where the stock tool looks for an id by its place, acting what is
// said of a second one.
var (
	oddID  = regexp.MustCompile(`(/\d\d|acting as) ((0x|unknown-rlimit|E[A-Z]+\()[^ ]*|\d)`)
	acting = regexp.MustCompile(`, acting as [^,]*,`)
)

// withoutKilled is a line without what it says of whom was sent a signal.
func withoutKilled(line string) string {
	before, after, _ := strings.Cut(line, "killed-")
	for _, by := range [...]string{" using ", ",failed,", ",success,"} {
		if i := strings.Index(after, by); i >= 0 {
			if by != " using " {
				i = strings.LastIndexByte(after, ',')
			}
			return before + after[i:]
		}
	}
	return before
}

// hasMore says whether b is a with something more at one place.
func hasMore(a, b string) bool {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return len(b) > len(a) && strings.HasSuffix(b, a[n:])
}

var ruleChanged = regexp.MustCompile(`(,configuration,.*,(?:added-audit-rule|deleted-audit-rule|changed-audit-configuration|[a-z_]+_rules?)),(?:success|failed|),([a-z]*|[0-9]+|unknown[^,]*),`)

var ruleChangedText = regexp.MustCompile(`(?:un)?(?:successfully )?(added-audit-rule|deleted-audit-rule|changed-audit-configuration|[a-z_]+_rules?) (?:(?:user|task|entry|watch|exit|exclude|filesystem|io_uring|[0-9]+|unknown\S+) )?`)

// ruleList is a line about a change of rules without its result and object.
func ruleList(line string) string {
	return ruleChangedText.ReplaceAllString(ruleChanged.ReplaceAllString(line, "$1,,,"), "$1 ")
}

// oneApart says whether one of the words of a and b differs.
func oneApart(a, b, sep string) bool {
	x, y := strings.Split(a, sep), strings.Split(b, sep)
	if len(x) != len(y) {
		return false
	}
	n := 0
	for i := range x {
		if x[i] != y[i] {
			n++
		}
	}
	return n == 1
}

// TestToldDifferences shows each of them with the stock tool.
func TestToldDifferences(t *testing.T) {
	bin := need.Stock(t, "ausearch")
	for _, d := range toldDifferences {
		t.Run(d.name, func(t *testing.T) {
			zone := "UTC"
			if d.zone != "" {
				zone = d.zone
			}
			loc, err := time.LoadLocation(zone)
			if err != nil {
				need.Missing(t, err.Error())
			}
			args := append([]string{"-if", writeLog(t, strings.Join(d.record, "\n")+"\n")}, d.args...)
			stock := runStock(t, bin, []string{"TZ=" + zone}, args...)
			ours := runOurs(Env{Location: loc, Locale: "C"}, args...)
			if !strings.Contains(stock.out, d.stock) || strings.Contains(ours.out, d.stock) {
				t.Errorf("only stock should print %q:\nstock: %q\n ours: %q", d.stock, stock.out, ours.out)
			}
			if !strings.Contains(ours.out, d.ours) || strings.Contains(stock.out, d.ours) {
				t.Errorf("only ours should print %q:\nstock: %q\n ours: %q", d.ours, stock.out, ours.out)
			}
		})
	}
}

// TestToldDifferencesAreListed keeps DIFFERENCES.md whole.
func TestToldDifferencesAreListed(t *testing.T) {
	b, err := os.ReadFile("DIFFERENCES.md")
	if err != nil {
		t.Fatal(err)
	}
	_, told, ok := strings.Cut(string(b), "\n## What csv and text say\n")
	told, _, _ = strings.Cut(told, "\n## ")
	if !ok {
		t.Fatal("DIFFERENCES.md has no part about csv and text")
	}
	for _, d := range toldDifferences {
		if !strings.Contains(told, "\n| "+d.name+" | ") {
			t.Errorf("DIFFERENCES.md does not list %s (%s)", d.name, d.what)
		}
	}
	if rows := strings.Count(told, "\n| ") - 1; rows != len(toldDifferences) {
		t.Errorf("DIFFERENCES.md has %d rows for %d differences", rows, len(toldDifferences))
	}
}
