package report

import (
	"bytes"
	cmp2 "cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/search"
	"github.com/auditfleet/auditfleet/pkg/search/madelog"
)

// eventsOf puts the records of a log together by their stamps.
func eventsOf(text string) (all []*event.Event) {
	place := map[string]*event.Event{}
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		var r record.Record
		_ = r.Parse([]byte(line)) // what cannot be parsed is an event, too
		key := fmt.Sprint(string(r.Node), r.Ms(), r.Serial)
		ev := place[key]
		if ev == nil || r.Err != nil {
			ev = &event.Event{Node: r.Node, Ms: r.Ms(), Serial: r.Serial}
			place[key] = ev
			all = append(all, ev)
		}
		ev.Records = append(ev.Records, r)
	}
	return all
}

// spoil makes records of a log odd: fields twice, in hex, with other numbers,
// empty, under other types, in other events.
func spoil(r *rand.Rand, text string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i, line := range lines {
		for range r.IntN(3) {
			words := strings.Split(line, " ")
			at := 2 + r.IntN(max(1, len(words)-2))
			if at >= len(words) {
				break
			}
			name, _, _ := strings.Cut(words[at], "=")
			switch r.IntN(9) {
			case 0:
				words = append(words, words[at])
			case 1:
				words[at] = name + "=" + one(r, "0", "-1", "-2", "4294967294", "4294967295", "4294967296", "99999999999", "?", "", "(null)", "1", "2")
			case 2:
				words[at] = name + "=" + one(r, "00", "0041", "00zz", "610062", "6101620063", "61016101", `"a`+"\x01"+`b"`, "2E2F78", `"../x"`, `"./x"`)
			case 3:
				other := strings.Split(lines[r.IntN(len(lines))], " ")
				words = append(words, other[min(len(other)-1, 2+r.IntN(20))])
			case 4:
				words = append(words, one(r, `apparmor="DENIED"`, "loginuid=7", "res=failed", "result=success", "res=3", "key=\"k\"", "cwd=\"/w\"",
					"cwd=2F0061", "exe=\"/e\"", "comm=\"c\"", "tty=pts9", "terminal=t", "hostname=h", "hostname=?", "hostname=", "addr=1.2.3.4", "syscall=-1",
					"syscall=4294967295", "syscall=59", "pid=-1", "auid=-2", "saddr=0200003511223344", "saddr=01006100", "path=\"/p\"", "name=\"/n\"", "success=no"))
			case 5:
				other := strings.Split(lines[r.IntN(len(lines))], " ")
				for k, w := range words { // the type of another record
					if strings.HasPrefix(w, "type=") {
						for _, o := range other {
							if strings.HasPrefix(o, "type=") {
								words[k] = o
							}
						}
					}
				}
			case 6:
				if i > 0 && len(words) > 2 { // into the event before
					before := strings.Split(lines[i-1], " ")
					for k, w := range words {
						if k < len(before) && strings.HasPrefix(w, "msg=audit(") && strings.HasPrefix(before[k], "msg=audit(") {
							words[k] = before[k]
						}
					}
				}
			case 7:
				words = append(words[:at], words[at+1:]...)
			}
			line = strings.Join(words, " ")
		}
		lines[i] = line
	}
	return strings.Join(lines, "\n") + "\n"
}

// talliedOptions are reports that are counted, or are not.
func talliedOptions(t *testing.T) (all []*Options) {
	for _, kind := range kinds() {
		for _, more := range [][]string{nil, {"-i"}, {"--failed"}, {"--success"}, {"-nc"}, {"--node", "web1"}, {"--delete"}} {
			args := append(append([]string{"--summary"}, kind...), more...)
			o, err := ParseArgs(args, search.Env{Names: nss.New(nss.Config{})})
			if err != nil {
				continue // not every report takes all
			}
			o.ByValue = true
			all = append(all, o)
		}
	}
	for _, by := range fieldNames() {
		variants := [][]string{nil}
		if f, _ := byName(by); !f.Node && (namedFields.Has(f.Field) || f.Field.IsList()) {
			variants = append(variants, []string{"-i"})
		}
		if by == "auid" || by == "type" || by == nodeField {
			variants = append(variants, []string{"--top", "2"}, []string{"--failed"}, []string{"--node", "web1", "-i", "--format", "json"})
		}
		variants = append(variants, []string{"--every", "1h"}, []string{"--every", "5m", "-i"}, []string{"--every", "1d", "--by", by + ",node"}, []string{"--by", "key," + by + ",success"}, []string{"-i", "--by", "auid," + by + ",type"})
		for _, more := range variants {
			o, err := ParseArgs(append([]string{"--by", by}, more...), search.Env{Names: nss.New(nss.Config{})})
			if err != nil {
				t.Fatal(err)
			}
			o.ByValue = true
			all = append(all, o)
		}
	}
	for _, every := range []string{"1m", "90s", "1h", "1d", "1w"} {
		o, err := ParseArgs([]string{"--every", every}, search.Env{Names: nss.New(nss.Config{})})
		if err != nil {
			t.Fatal(err)
		}
		o.ByValue = true
		all = append(all, o)
	}
	if len(all) < 100 {
		t.Fatalf("only %d reports", len(all))
	}
	return all
}

// TestTallied compares reports that are counted by an index's fields with the
// same of reading every event.
func TestTallied(t *testing.T) {
	seed := need.Seed(t)
	r := rand.New(rand.NewPCG(seed, 77))
	logs := map[string]string{}
	for _, path := range []string{
		"../search/testdata/types.log", "../search/testdata/kernel-node.log", "../record/testdata/samples.log",
		"../../integration/harness/testdata/real-RAW.log", "../../integration/harness/testdata/real-ENRICHED.log",
	} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		logs[filepath.Base(path)] = string(b)
	}
	for i := range need.Rounds(16, 1) {
		logs["made "+string(rune('A'+i))] = madelog.Log(r, 150)
	}
	counted, read := 0, 0
	options := need.Some(talliedOptions(t), 60)
	for name, text := range logs {
		for _, spoilt := range []bool{false, true, true} {
			if spoilt {
				text = spoil(r, logs[name])
			}
			events := eventsOf(text)
			for _, o := range options {
				n, d := tallyOrRead(t, o, events)
				counted += n
				read += len(events) - n
				if d != "" {
					t.Fatalf("seed %d: %s: report %v summary %+v (-read +counted):\n%s", seed, name, o.Kind, o.Result, d)
				}
			}
		}
	}
	t.Logf("%d times an event was counted without being read, %d times not", counted, read)
	if counted < read/10 {
		t.Errorf("%d events counted, %d read: that is hardly a test", counted, read)
	}
}

// tallyOrRead returns how many events were counted, and how the two reports differ.
func tallyOrRead(t *testing.T, o *Options, events []*event.Event) (counted int, diff string) {
	scan := func(_ context.Context, q *query.Query, fn func(*event.Event) error) error {
		m := query.NewMatcher(q)
		for _, ev := range events {
			if !m.Match(ev) {
				continue
			}
			if err := fn(ev); err != nil {
				return err
			}
		}
		return nil
	}
	tally := func(_ context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error) {
		sum := query.NewTally(fields, nil)
		m := query.NewMatcher(q)
		for _, ev := range events {
			if !m.Match(ev) {
				continue
			}
			if !sum.Placeable(string(ev.Node), ev.Ms, ev.Ms) || !sum.AddEvent(ev) {
				if err := rest(ev); err != nil {
					return nil, err
				}
				continue
			}
			counted++
		}
		return sum, nil
	}
	var want, got bytes.Buffer
	src := Source{Tally: tally, Scan: sorted(scan)}
	wantCode, wantErr := run(context.Background(), o, time.UTC, src, &want)
	src.Texts = asTexts{scan: src.Scan}
	gotCode, gotErr := run(context.Background(), o, time.UTC, src, &got)
	if d := cmp.Diff(want.String(), got.String()); d != "" || wantCode != gotCode || fmt.Sprint(wantErr) != fmt.Sprint(gotErr) {
		return 0, fmt.Sprintf("read as text: exit %d (%v) or %d (%v)%s", wantCode, wantErr, gotCode, gotErr, d)
	}
	got.Reset()
	gotCode, gotErr = RunTally(context.Background(), o, time.UTC, src, &got)
	if wantCode != gotCode || fmt.Sprint(wantErr) != fmt.Sprint(gotErr) {
		return counted, fmt.Sprintf("exit %d (%v) or %d (%v)", wantCode, wantErr, gotCode, gotErr)
	}
	return counted, cmp.Diff(want.String(), got.String())
}

// asTexts is a scan whose events come as texts, three at a time.
type asTexts struct {
	query.Source
	scan Scan
}

func (a asTexts) ScanText(ctx context.Context, q *query.Query, fn func(query.Texts) error) error {
	var some someTexts
	err := a.scan(ctx, q, func(ev *event.Event) error {
		if some = append(some, ev); len(some) < 3 {
			return nil
		}
		give := some
		some = nil
		return fn(give)
	})
	if err == nil && len(some) > 0 {
		err = fn(some)
	}
	return err
}

type someTexts []*event.Event

func (s someTexts) Len() int { return len(s) }

func (s someTexts) Event(i int, ev *event.Event) { *ev = *s[i] }

func (someTexts) Open() error { return nil }

func (someTexts) Done() {}

func (someTexts) AppendRaw(dst []byte, _ int) []byte { return dst } // no report asks

// sorted is a scan in order of time, as a store's is.
func sorted(scan Scan) Scan {
	return func(ctx context.Context, q *query.Query, fn func(*event.Event) error) error {
		var all []*event.Event
		if err := scan(ctx, q, func(ev *event.Event) error { all = append(all, ev); return nil }); err != nil {
			return err
		}
		slices.SortStableFunc(all, func(a, b *event.Event) int { return cmp2.Compare(a.Ms, b.Ms) })
		for _, ev := range all {
			if err := fn(ev); err != nil {
				return err
			}
		}
		return nil
	}
}
