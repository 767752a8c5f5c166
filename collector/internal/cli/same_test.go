package cli

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/render"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/report"
	"github.com/auditfleet/auditfleet/pkg/search"
	"github.com/auditfleet/auditfleet/pkg/search/madelog"
)

// What a search or a report prints of a log must not depend on where the log is: in a
// file, or in a collector's store. TestFileIsStore takes each log that the tests have,
// has it go the way of records into a store, and asks both the same questions.

// sameNames are the accounts that both sides know: a store answers with the names of the
// hosts themselves, so what this machine calls an id is left out.
type sameNames struct{}

func (sameNames) User(id uint32) (string, bool)    { return fmt.Sprint("user", id), id < 2000 }
func (sameNames) Group(id uint32) (string, bool)   { return fmt.Sprint("group", id), id < 1000 }
func (sameNames) Protocol(n uint16) (string, bool) { return "tcp", n == 6 }

var _ interpret.Names = sameNames{}

// answer is what a command printed, and its exit code.
type answer struct {
	out, errs string
	code      int
}

func (a answer) text() string { return fmt.Sprintf("%sexit %d\n%s", a.out, a.code, a.errs) }

// asked runs a question (the words of search or report, the command first) on a file, or
// on a source where src is not nil.
func asked(q []string, file string, src api.Source) (a answer) {
	var out, errs bytes.Buffer
	defer func() { a.out, a.errs = out.String(), strings.Join(sameSplit(errs.String()), "\n") }() // warnings of many cores come in any order
	words := q[1:]
	if src == nil {
		words = append(slices.Clone(words), "-if", file)
	}
	stdio := search.Stdio{Out: &out, Err: &errs}
	if q[0] == "report" {
		o, err := render.ParseReport(words, false)
		if err != nil {
			fmt.Fprintln(&errs, err)
			a.code = 1
			return a
		}
		o.Extra = noteOptions(o.Extra)
		o.Names, o.Fleet, o.ByValue = sameNames{}, true, true // a store's events have no order of appearance
		if src == nil {
			a.code = report.RunFiles(context.Background(), o, time.Local, "", stdio)
		} else {
			a.code = render.Report(context.Background(), o, src, &out, &errs)
		}
		return a
	}
	o, err := render.ParseSearch(words, false)
	if err != nil {
		fmt.Fprintln(&errs, err)
		a.code = 1
		return a
	}
	o.Names, o.Extra = sameNames{}, noteOptions(o.Extra)
	if src == nil {
		render.OfFleet(o, &errs)
		a.code = search.RunFiles(context.Background(), o, time.Local, "", stdio)
	} else {
		a.code = render.Search(context.Background(), o, src, &out, &errs)
	}
	return a
}

// sameSplit takes an answer apart where its order does not count: into its lines, without
// the numbers of a list.
func sameSplit(text string) []string {
	lines := strings.Split(listNumber.ReplaceAllString(text, ""), "\n")
	slices.Sort(lines)
	return lines
}

// ofStore is what only a store says of an event in JSON.
var ofStore = regexp.MustCompile(`,"host":"[^"]*","from":"[^"]*","received":"[^"]*"`)

// ofFile is what only a search of a file says: how much of it is no log.
var ofFile = regexp.MustCompile(`NOTE - of what was read \d+ lines? (is|are) no audit records?; --debug shows (it|them)\n?`)

// meant is what a note says was meant: of a file, names are read from its text without parsing
// records (search.LogNames), so it may offer others.
var meant = regexp.MustCompile(`: did you mean [^\n]*\?`)

// differs says how the answers of a file and of a store differ; "" when they are the same.
// inOrder says that the order of the events counts, too.
func differs(file, stored answer, inOrder bool) string {
	stored.out = ofStore.ReplaceAllString(stored.out, "")
	file.errs = strings.TrimSuffix(ofFile.ReplaceAllString(file.errs, ""), "\n")
	stored.errs = strings.TrimSuffix(stored.errs, "\n")
	file.errs, stored.errs = meant.ReplaceAllString(file.errs, ""), meant.ReplaceAllString(stored.errs, "")
	if file == stored {
		return ""
	}
	if !inOrder {
		return cmp.Diff(sameSplit(file.text()), sameSplit(stored.text()))
	}
	return cmp.Diff(strings.Split(file.text(), "\n"), strings.Split(stored.text(), "\n"))
}

// sameLogs are the logs to compare on, by name: those recorded and written by hand, made
// ones, and those in the folder that AUDITFLEET_LOGS names.
func sameLogs(t *testing.T, seed uint64) map[string]string {
	t.Helper()
	logs := map[string]string{}
	theirs := need.Logs(t)
	for name, path := range theirs {
		logs[name] = readFile(t, path)
	}
	if len(theirs) > 0 {
		return logs
	}
	for _, pattern := range []string{"pkg/*/testdata/*.log", "integration/harness/testdata/*.log"} {
		paths, err := filepath.Glob(need.Source(t, pattern))
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: no logs (%v)", pattern, err)
		}
		for _, path := range paths {
			logs[filepath.Base(filepath.Dir(filepath.Dir(path)))+"/"+filepath.Base(path)] = readFile(t, path)
		}
	}
	for i := range need.Rounds(12, 2) {
		logs[fmt.Sprint("made", i)] = madelog.InOrder(rand.New(rand.NewPCG(seed, uint64(i))), 150)
	}
	return logs
}

// TestFileIsStore asks the same of files and of stores that got their records.
func TestFileIsStore(t *testing.T) {
	t.Setenv("LC_ALL", "C")
	seed := need.Seed(t)
	logs := sameLogs(t, seed)
	names := slices.Sorted(maps.Keys(logs))
	c := &sameRun{t: t, known: map[string]int{}, told: map[string]bool{}}
	for i, name := range names {
		for j, way := range sameWays {
			if testing.Short() && i%len(sameWays) != j {
				continue
			}
			r := rand.New(rand.NewPCG(seed, uint64(1000*i+j)))
			c.log(fmt.Sprintf("%s, %s", name, way.name), way.make(r, logs[name], logs[names[r.IntN(len(names))]]).sprinkled(r), r)
		}
	}
	t.Logf("compared %d answers, %d with events; explained by faults that are to be put right: %v", c.asked, c.found, c.known)
	if c.found < c.asked/4 {
		t.Errorf("only %d of %d answers had anything: they show little", c.found, c.asked)
	}
}

// sameRun counts what was compared.
type sameRun struct {
	t            *testing.T
	asked, found int
	parts        int // so many times part has chosen
	known        map[string]int
	told         map[string]bool   // differences by the options that show them
	ofFile       map[string]answer // of the log's file, by question: both sources are compared with it
}

// log asks everything of one log.
func (c *sameRun) log(name string, l *sameLog, r *rand.Rand) {
	c.t.Helper()
	if len(l.sent) == 0 {
		return
	}
	questions := questionsOf(c.t, r, l)
	file := filepath.Join(c.t.TempDir(), "all.log")
	l.write(c.t, file)
	st := openSame(c.t, r.Uint64(), c.t.TempDir(), l.unnamed)
	st.feed(l.sent)
	c.ofFile = map[string]answer{}
	c.compare(name+", running", l, c.part(questions), file, st.live())
	st.close()
	c.compare(name+", ended", l, c.part(questions), file, st.ended())
	c.checkpoints(name, l, r)
}

// part returns the questions that are asked of one of a log's two sources: half of them, and under -short a
// sixteenth; the other source gets others, and the next log others again.
func (c *sameRun) part(questions []question) (part []question) {
	every := need.Size(2, 16)
	c.parts++
	for i := c.parts % every; i < len(questions); i += every {
		part = append(part, questions[i])
	}
	return part
}

// compare asks a log's questions of its file and of a source.
func (c *sameRun) compare(name string, l *sameLog, questions []question, file string, src api.Source) {
	c.t.Helper()
	named := file
	if l.unnamed != "" {
		named = filepath.Join(filepath.Dir(file), "named.log")
		l.named().write(c.t, named)
	}
	for _, q := range questions {
		if !l.inOrder && q.ordered {
			continue
		}
		path := file
		if q.hosts {
			path = named
		}
		key := path + "\x00" + strings.Join(q.words(), "\x00")
		want, ok := c.ofFile[key]
		if !ok {
			want = asked(q.words(), path, nil)
			c.ofFile[key] = want
		}
		got := asked(q.words(), "", src)
		if path == named && named != file { // JSON has node only where the record has
			want.out = strings.ReplaceAll(want.out, `,"node":"`+l.unnamed+`"`, "")
		}
		c.asked++
		if want.code == 0 && want.out != "" {
			c.found++
		}
		diff := differs(want, got, l.inOrder)
		if diff == "" {
			continue
		}
		if why := knownUnlike(q, l); why != "" {
			c.known[why]++
			continue
		}
		if kind := q.kind(); !c.told[kind] {
			c.told[kind] = true
			c.t.Errorf("%s: %q (-file +store):\n%.1500s\n%s", name, q.words(), diff, c.shrink(l, q))
		}
		if len(c.told) > 12 {
			c.t.Fatal("too many differences")
		}
	}
}

// checkpoints asks with --checkpoint before and after the second half of a log, once
// nothing more comes for a while: then all there is is printed.
func (c *sameRun) checkpoints(name string, l *sameLog, r *rand.Rand) {
	c.t.Helper()
	if !l.inOrder || c.t.Failed() {
		return
	}
	dir := c.t.TempDir()
	file := filepath.Join(dir, "audit.log")
	st := openSame(c.t, r.Uint64(), filepath.Join(dir, "store"), l.unnamed)
	half := betweenEvents(l.sent)
	for i, part := range [][]sentLine{l.sent[:half], nil, l.sent[half:]} {
		(&sameLog{sent: l.sent[:min(len(l.sent), half+i/2*len(l.sent))]}).write(c.t, file)
		if err := os.Chtimes(file, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			c.t.Fatal(err)
		}
		st.feed(part)
		st.quiet()
		want := asked([]string{"search", "-r", "--checkpoint", filepath.Join(dir, "of-file")}, file, nil)
		got := askedNew(c.t, []string{"-r", "--checkpoint", filepath.Join(dir, "of-store")}, st.live())
		c.asked++
		if diff := differs(want, got, true); diff != "" {
			c.t.Errorf("%s: --checkpoint, part %d (-file +store):\n%.1500s", name, i, diff)
		}
	}
	st.close()
}

// shrink finds a small log that shows a difference: an event of its own, or what is left
// when as many events as possible are taken away.
func (c *sameRun) shrink(l *sameLog, q question) string {
	tries := 0
	shows := func(l *sameLog) bool {
		tries++
		dir, err := os.MkdirTemp(c.t.TempDir(), "small")
		if err != nil {
			c.t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		file, asFile := filepath.Join(dir, "all.log"), l
		if q.hosts && l.unnamed != "" {
			asFile = l.named()
		}
		asFile.write(c.t, file)
		st := openSame(c.t, 1, filepath.Join(dir, "store"), l.unnamed)
		st.feed(l.sent)
		st.close()
		return differs(asked(q.words(), file, nil), asked(q.words(), "", st.ended()), l.inOrder) != ""
	}
	events := l.events()
	for size := max(1, len(events)/2); size > 0 && tries < 150; {
		smaller := false
		for from := 0; from < len(events) && tries < 150; {
			rest := slices.Concat(events[:from], events[min(from+size, len(events)):])
			if len(rest) > 0 && shows(l.of(rest)) {
				events, smaller = rest, true
				continue
			}
			from += size
		}
		if !smaller || size > len(events) {
			size /= 2
		}
	}
	for i := 0; i < len(q.parts); i++ {
		less := q
		less.parts = slices.Delete(slices.Clone(q.parts), i, i+1)
		if len(less.parts) > 0 && tries < 200 {
			old := q
			if q = less; shows(l.of(events)) {
				i--
				continue
			}
			q = old
		}
	}
	var w strings.Builder
	fmt.Fprintf(&w, "smallest seen: %q of\n", q.words())
	for _, s := range l.of(events).sent {
		fmt.Fprintf(&w, "  host %d: %s\n", s.host, s.line)
	}
	return fmt.Sprintf("%.3000s", w.String())
}
