package storetest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// Env opens stores for the contract's tests. Its functions end the test when they cannot.
type Env struct {
	// Open opens a new store, which the test need not close.
	Open func(t *testing.T) store.Store
	// Reopen closes s, if it is open, and opens again what it held.
	Reopen func(t *testing.T, s store.Store) store.Store
	// Moves says that events come into other parts by themselves: then no part is named.
	Moves bool
}

// Templates returns the log whose records NewGenerator's callers use as templates.
func Templates(t testing.TB) []byte {
	t.Helper()
	dir := need.Source(t, "pkg/record/testdata")
	var all []byte
	for _, name := range []string{"kernel-enriched.log", "samples.log"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	return all
}

// Start is the time at which generated logs begin.
var Start = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)

// Parse makes an event of the records raw, which came from host.
func Parse(host string, raw ...string) *event.Event {
	ev := &event.Event{}
	for _, r := range raw {
		ev.Records = append(ev.Records, record.Record{})
		store.ParseRecord(&ev.Records[len(ev.Records)-1], []byte(r), []byte(host))
	}
	ev.Node, ev.Ms, ev.Serial = ev.Records[0].Node, ev.Records[0].Ms(), ev.Records[0].Serial
	return ev
}

// Fill adds n generated events to a table.
func Fill(t *store.Table, g *Generator, n int) {
	for range n {
		host, recs := g.Event()
		ev := &event.Event{Records: make([]record.Record, len(recs))}
		for i, r := range recs {
			store.ParseRecord(&ev.Records[i], r, []byte(host))
		}
		ev.Node, ev.Ms, ev.Serial = ev.Records[0].Node, ev.Records[0].Ms(), ev.Records[0].Serial
		g.origin(ev)
		t.Add(host, ev)
	}
}

// Text returns an event's node, time, serial and records, as the tests compare them.
func Text(ev *event.Event) string {
	b := append(make([]byte, 0, 1024), ev.Node...)
	b = strconv.AppendInt(append(b, ' '), ev.Ms, 10)
	b = strconv.AppendUint(append(b, ' '), ev.Serial, 10)
	b = append(b, '\n')
	for i := range ev.Records {
		b = append(append(b, ev.Records[i].Raw...), '\n')
	}
	return string(b)
}

// origins returns an event's sender and the receipts of its records, as the tests compare
// them.
func origins(ev *event.Event) string {
	var b strings.Builder
	if s := ev.From; s != nil {
		fmt.Fprintf(&b, "from %q %v %v", s.Host, s.Addr, s.Transport)
	}
	for i := range ev.Records {
		fmt.Fprintf(&b, " %d", ev.Records[i].Received)
	}
	return b.String() + "\n"
}

// TextFor returns Text, with sender, receipts and batch where the query asks for these.
func TextFor(q *query.Query, ev *event.Event) string { return withOrigin(q, ev, Text(ev)) }

// withOrigin adds to an event's text what else the query asks for.
func withOrigin(q *query.Query, ev *event.Event, text string) string {
	if q.Origin || len(q.From) > 0 {
		text += origins(ev)
	}
	if q.Batches {
		text += fmt.Sprintf("batch %d\n", ev.Batch)
	}
	return text
}

// Collect returns the whole answer to a query, each event as TextFor has it. The answer as text must
// be the same.
func Collect(t testing.TB, s store.Events, q *query.Query) []string {
	t.Helper()
	snap, err := s.Snapshot(context.Background())
	if err != nil {
		t.Fatalf("scan: %v", err)
	}
	defer func() {
		if err := snap.Close(); err != nil {
			t.Errorf("close a snapshot: %v", err)
		}
	}()
	var out, texts []string
	err = snap.Scan(context.Background(), q, func(ev *event.Event) error {
		out = append(out, TextFor(q, ev))
		return nil
	})
	if err != nil {
		t.Fatalf("scan: %v", err)
	}
	var ev event.Event
	var raw []byte
	err = store.ScanText(context.Background(), snap, q, func(f *store.Found) error {
		all := store.Texts{List: []store.Found{*f}}
		all.Event(0, &ev)
		text := Text(&ev)
		if raw = all.AppendRaw(append(raw[:0], '\n'), 0); !strings.HasSuffix(text, string(raw)) {
			t.Errorf("records as text: %q, and as an event %q", clip(string(raw)), clip(text))
		}
		if query.KeyOf(&ev) == f.Key {
			texts = append(texts, withOrigin(q, &ev, text))
		} else {
			texts = append(texts, fmt.Sprintf("%+v of %+v", f.Key, query.KeyOf(&ev)))
		}
		return nil
	})
	if err != nil {
		t.Fatalf("scan for text: %v", err)
	}
	if !slices.Equal(out, texts) {
		i := 0
		for i < min(len(out), len(texts)) && out[i] == texts[i] {
			i++
		}
		t.Errorf("%+v: %d events, %d as text, and they differ from %d on:\n%s\n%s", q, len(out), len(texts), i,
			clip(strings.Join(out[i:min(i+1, len(out))], "")), clip(strings.Join(texts[i:min(i+1, len(texts))], "")))
	}
	if Also != nil {
		Also(t, snap, q, out)
	}
	return out
}

// Also is given each answer of Collect and the snapshot that it is of, for what else must give the same; nil: nothing. It is set before the first test.
var Also func(t testing.TB, snap store.Snapshot, q *query.Query, answer []string)

// Place runs the tests of everything that store.Place promises.
func Place(t *testing.T, env Env) {
	run(t, env, map[string]func(*testing.T, Env){
		"stores a batch once":       testOnce,
		"keeps state over a reopen": testState,
		"adds up the ledger":        testLedger,
		"knows the journal":         testJournal,
		"is closed once":            testClosed,
		"keeps imports apart":       testImports,
	})
}

// Events runs the tests of everything that store.Events promises, through the place that
// hands the engine its batches.
func Events(t *testing.T, env Env) {
	if !env.Moves {
		run(t, env, map[string]func(*testing.T, Env){
			"moves to the next day":      testDays,
			"has several parts of a day": testRotate,
			"says what its parts have":   testParts,
			"keeps classes apart":        testClasses,
		})
	}
	run(t, env, map[string]func(*testing.T, Env){
		"answers as the reference does": testAnswers,
		"odd records come back as sent": testOdd,
		"stops early, errors, contexts": testStops,
		"snapshots stay as they are":    testSnapshot,
		"ties in order of storing":      testTies,
		"counts what it would give":     testTally,
	})
}

func run(t *testing.T, env Env, tests map[string]func(*testing.T, Env)) {
	for name, fn := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fn(t, env)
		})
	}
}

// mustAppend appends, and wants the batch left as it was: others read it meanwhile.
func mustAppend(t *testing.T, s store.Store, b *store.Batch) {
	t.Helper()
	hosts := hostsOf(b.Ledger)
	if err := s.Append(context.Background(), b); err != nil {
		t.Fatalf("append batch %d: %v", b.ID, err)
	}
	if now := hostsOf(b.Ledger); !slices.Equal(now, hosts) {
		t.Errorf("batch %d: the ledger's hosts were %q, and are %q once it is stored", b.ID, hosts, now)
	}
}

func hostsOf(list []store.HostLedger) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = list[i].Host
	}
	return out
}

// clip cuts a text that is too long for a test's message.
func clip(s string) string {
	if len(s) > 3000 {
		return s[:3000] + "…"
	}
	return s
}

// oneEvent makes an event of one record.
func oneEvent(host string, ms int64, serial uint64) *event.Event {
	return Parse(host, fmt.Sprintf("node=%s type=KERNEL msg=audit(%d.%03d:%d): text", host, ms/1000, ms%1000, serial))
}

// tableOf makes a table of events, each under its node.
func tableOf(evs ...*event.Event) *store.Table {
	t := store.NewTable()
	for _, ev := range evs {
		t.Add(string(ev.Node), ev)
	}
	return t
}
