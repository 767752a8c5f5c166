package render

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/report"
	"github.com/auditfleet/auditfleet/pkg/search"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// someEvents is a source of a few events, which finds them whatever is asked for.
type someEvents []*event.Event

func (someEvents) Coverage(context.Context, *fleet.CoverageRequest, func(*fleet.Coverage) error) error {
	return nil
}

func (s someEvents) Scan(_ context.Context, q *query.Query, fn func(*event.Event) error) error {
	fn = q.Limited(fn)
	for _, ev := range s {
		if err := fn(ev); errors.Is(err, query.ErrStop) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (s someEvents) Follow(ctx context.Context, q *query.Query, fn func(*event.Event) error, _ func(uint64) error) error {
	return s.Scan(ctx, q, fn)
}

func (s someEvents) Tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error) {
	sum := query.NewTally(fields, nil)
	if len(fields) == 0 {
		sum.Events = int64(len(s))
		return sum, nil
	}
	return sum, s.Scan(ctx, q, rest)
}

func (s someEvents) About(context.Context) (query.About, error) {
	return query.About{Indexed: true, Store: "s", Batch: 1}, nil
}

func (s someEvents) Hosts(context.Context) ([]*fleet.Host, error) {
	return []*fleet.Host{{Name: []byte("web1")}}, nil
}

func events(t *testing.T) (all someEvents) {
	t.Helper()
	for i, lines := range []string{
		"node=web1 type=SYSCALL msg=audit(1764338645.123:4): arch=c000003e syscall=59 success=yes exit=0 a0=1 items=1 ppid=1 pid=2 auid=1000 uid=0 gid=0 ses=1 comm=\"id\" exe=\"/usr/bin/id\" key=\"k\"\x1dAUID=\"alice\" UID=\"root\"\n" +
			"node=web1 type=EXECVE msg=audit(1764338645.123:4): argc=1 a0=\"id\"\n",
		"node=web1 type=USER_LOGIN msg=audit(1764338646.123:5): pid=3 uid=0 auid=1000 ses=1 msg='op=login acct=\"alice\" exe=\"/usr/sbin/sshd\" hostname=h addr=192.0.2.1 terminal=ssh res=success'\n",
		"node=web1 type=AVC msg=audit(1764338647.000:6): avc:  denied  { read } for  pid=4 comm=\"x\" name=\"f\" dev=\"sda\" ino=1 scontext=u:r:t:s0 tcontext=u:r:t:s0 tclass=file permissive=0\n",
	} {
		ev := &event.Event{Node: []byte("web1"), Ms: 1764338645123 + int64(i), Serial: uint64(4 + i)}
		for line := range strings.SplitSeq(strings.TrimSuffix(lines, "\n"), "\n") {
			var r record.Record
			if err := r.Parse([]byte(line)); err != nil {
				t.Fatal(err)
			}
			ev.Records = append(ev.Records, r)
		}
		all = append(all, ev)
	}
	return all
}

// A caller from elsewhere has no files here: an option with a file or a folder is
// refused, unless it is a condition on the files that records name.
func TestNoFilesFromElsewhere(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		table option.Table
		do    api.Command
		words []string
	}{
		"search": {append(search.OptionTable(), Options...), Text, []string{"-m", "ALL"}},
		"report": {append(report.OptionTable(), Options...), Summary, []string{"--summary", "-x"}},
	} {
		n := 0
		for _, o := range c.table {
			if !o.Words.Files && !o.Words.Folders || slices.Contains(o.Names, "-f") || slices.Contains(o.Names, "-x") {
				continue
			}
			n++
			for _, spelling := range o.Names {
				var out, errs strings.Builder
				_, err := c.do(t.Context(), events(t), nil, append(slices.Clone(c.words), spelling, dir+"/f"), &out, &errs)
				if !errors.Is(err, api.ErrQuery) {
					t.Errorf("%s %s FILE: %v, prints %.80q and %.80q", name, spelling, err, out.String(), errs.String())
				}
			}
		}
		if n < 3 {
			t.Errorf("%s has %d options with files", name, n)
		}
	}
	if made, err := os.ReadDir(dir); err != nil || len(made) > 0 {
		t.Errorf("%v is there now, %v", made, err)
	}
}

// Words at random never end the collector, and leave nothing behind in the folder that
// it runs in.
func TestAnyWords(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	seed := need.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 12))
	values := []string{
		"", "-", "--", "0", "-1", "1000", "4294967296", "99999999999999999999", "root", "alice", "web1", "*", "[", "(", "k", "id", "~x", "\x00", "\xff\xfe", "now", "recent",
		"boot", "checkpoint", "10:00", "11/28/26", "2026-11-28", "-1h", "USER_LOGIN", "ALL", "json", "text", "csv", "raw", "table", "59", "execve", "success", "b64",
		"exe=/usr/bin/id", "uid>=0", "a=b=c", `\record_type == "AVC"`, `\timestamp > ts:1.0`, "1,2,,3", "=", strings.Repeat("x", 5000), strings.Repeat("(", 300), strings.Repeat(`! `, 2000), "192.0.2.0/24", "5", "auid", "comm,node",
	}
	all := events(t)
	ran := 0
	for range need.Rounds(20000, 2000) {
		do, table := api.Command(Text), append(search.OptionTable(), Options...)
		if rng.IntN(2) == 0 {
			do, table = Summary, append(report.OptionTable(), Options...)
		}
		var words []string
		for range rng.IntN(5) {
			o := table[rng.IntN(len(table))]
			words = append(words, o.Names[rng.IntN(len(o.Names))])
			if o.Value != "" && rng.IntN(10) > 0 || rng.IntN(20) == 0 {
				words = append(words, values[rng.IntN(len(values))])
			}
		}
		if code, err := try(t, do, all, words); err == nil && code == 0 {
			ran++
		}
	}
	t.Logf("%d command lines printed something", ran)
	if ran < 20 {
		t.Errorf("only %d command lines printed something: the words are too odd", ran)
	}
	if made, err := os.ReadDir(dir); err != nil || len(made) > 0 {
		t.Errorf("%v is there now, %v", made, err)
	}
}

// A report for a caller from elsewhere ends when it has no more memory for values.
func TestReportMemory(t *testing.T) {
	var all someEvents
	for i := range 2000 {
		var r record.Record
		if err := r.Parse(fmt.Appendf(nil, "type=SYSCALL msg=audit(1764338645.123:%d): arch=c000003e syscall=59 success=yes exit=0 pid=%d auid=1 uid=0 comm=\"c%d\" exe=\"/usr/bin/%d\" key=(null)", i, i, i, i)); err != nil {
			t.Fatal(err)
		}
		all = append(all, &event.Event{Ms: r.Ms(), Serial: r.Serial, Records: []record.Record{r}})
	}
	for _, words := range [][]string{{"--by", "comm"}, {"-x", "--summary"}, {"-x", "--summary", "-i"}, {"--summary"}, {"--by", "exe", "--every", "1d"}} {
		for bytes, want := range map[int64]string{100_000: "too many different values", 10_000_000: ""} {
			var out, errs strings.Builder
			code, err := Summary(t.Context(), all, query.NewMemory(bytes, nil), words, &out, &errs)
			if err != nil || (code == 0) != (want == "") || !strings.Contains(errs.String(), want) {
				t.Errorf("%q with %d bytes: %d %v %q", words, bytes, code, err, errs.String())
			}
		}
	}
}

// try runs a command and says by which words it panicked.
func try(t *testing.T, do api.Command, src api.Source, words []string) (code int, err error) {
	t.Helper()
	defer func() {
		if p := recover(); p != nil {
			t.Fatalf("%q: %v", words, p)
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	code, err = do(ctx, src, nil, words, io.Discard, io.Discard)
	if err != nil && !errors.Is(err, api.ErrQuery) {
		t.Errorf("%q: %v", words, err)
	}
	if code < 0 || code > 127 {
		err = errors.Join(err, fmt.Errorf("exit code %d", code))
		t.Errorf("%q: %v", words, err)
	}
	return code, err
}

// What a search keeps in memory to answer is bounded where a collector answers it: trees and surroundings.
func TestTextTakesMemory(t *testing.T) {
	all := events(t)
	for _, words := range [][]string{{"--tree"}, {"--around", "1s"}} {
		for memory, want := range map[*query.Memory]bool{query.NewMemory(10, nil): true, query.NewMemory(64<<20, nil): false} {
			var out, errs strings.Builder
			if _, err := Text(t.Context(), all, memory, words, &out, &errs); err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(errs.String(), "too many events"); got != want {
				t.Errorf("%q: %q, refused is to be %v", words, errs.String(), want)
			}
		}
	}
}

func (s someEvents) ScanText(ctx context.Context, q *query.Query, fn func(query.Texts) error) error {
	return s.Scan(ctx, q, func(ev *event.Event) error { return fn(oneText{ev}) })
}

// oneText is an event as query.Texts.
type oneText struct{ ev *event.Event }

func (oneText) Len() int { return 1 }

func (oneText) Open() error { return nil }

func (oneText) Done() {}

func (o oneText) Event(_ int, ev *event.Event) { *ev = *o.ev }

func (o oneText) AppendRaw(dst []byte, _ int) []byte {
	for i := range o.ev.Records {
		dst = append(append(dst, o.ev.Records[i].Raw...), '\n')
	}
	return dst
}
