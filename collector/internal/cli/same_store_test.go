package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/render"
	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/engine"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/search"
	"github.com/auditfleet/auditfleet/pkg/seglog"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// sameStore is a store that gets a log as a collector does: by the journal, in batches of
// odd sizes, into tables that are stored while others are filled, over two days of
// receipt and several partitions of one of them.
type sameStore struct {
	t       *testing.T
	dir     string
	r       *rand.Rand
	unnamed string // what the senders of records without node= go by
	now     atomic.Int64
	st      store.Store
	j       *journal.Journal
	h       *head.Head
	files   *server.ReadOnly
}

// sameReceived is when the first records are received: later than all of them.
var sameReceived = time.Date(2027, 3, 1, 22, 0, 0, 0, time.UTC)

// openSame opens a store in dir, which the test closes at its end.
func openSame(t *testing.T, seed uint64, dir, unnamed string) *sameStore {
	t.Helper()
	s := &sameStore{t: t, dir: dir, r: rand.New(rand.NewPCG(seed, 5)), unnamed: unnamed}
	s.now.Store(sameReceived.UnixMilli())
	s.open()
	t.Cleanup(s.close)
	return s
}

func (s *sameStore) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *sameStore) time() time.Time { return time.UnixMilli(s.now.Load()).UTC() }

func (s *sameStore) open() {
	s.t.Helper()
	var err error
	s.st, err = engine.Open(engine.Options{Dir: s.dir})
	s.must(err)
	s.j, _, err = journal.Open(journal.Options{
		Dir: filepath.Join(s.dir, "journal"), Flush: journal.FlushNone, Now: s.time, ID: s.st.ID(), Known: s.st.Journal(),
		Changed: func(k seglog.Known, _ []seglog.Damage) error { return s.st.KeepJournal(k, nil) },
	})
	s.must(err)
	s.h, err = head.Open(head.Options{Journal: s.j, Place: s.st, Events: s.st, Now: s.time, TableBytes: int64(20+s.r.IntN(400)) << 10})
	s.must(err)
}

// feed hands lines to the journal, each host's on a connection of its own.
func (s *sameStore) feed(lines []sentLine) {
	s.t.Helper()
	pending := map[int]*journal.Batch{}
	var done sync.WaitGroup
	submit := func(host int) {
		b := pending[host]
		if b == nil {
			return
		}
		delete(pending, host)
		done.Add(1)
		s.must(s.j.Submit(context.Background(), b, func(err error) {
			defer done.Done()
			if err != nil {
				s.t.Error(err)
			}
		}))
	}
	midnight := betweenEvents(lines)
	for i, l := range lines {
		if i == midnight { // who sends later than a minute has his events ended
			submit(0)
			submit(1)
			done.Wait()
			s.must(s.h.Flush(context.Background()))
			s.now.Add((24 * time.Hour).Milliseconds())
		}
		if pending[l.host] == nil {
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + l.host)}), 60)
			pending[l.host] = &journal.Batch{Conn: uint64(1 + l.host), Sender: journal.Sender{Addr: addr, Node: s.unnamed, Transport: event.TransportTCP}, Received: s.time()}
		}
		b := pending[l.host]
		b.Records = append(b.Records, journal.Record{Raw: []byte(l.line)})
		if s.r.IntN([]int{1, 3, 7, 40}[s.r.IntN(4)]) == 0 {
			submit(l.host)
		}
		switch {
		case i == len(lines)/4:
			submit(0)
			submit(1)
			done.Wait()
			s.must(s.h.Flush(context.Background()))
			s.must(s.st.Rotate(context.Background()))
		case i == len(lines)*2/3:
			submit(0)
			submit(1)
			done.Wait()
			s.close()
			s.open()
		}
	}
	submit(0)
	submit(1)
	done.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s.must(s.h.Scan(ctx, &query.Query{Limit: 1}, func(*event.Event) error { return nil })) // waits for what is acknowledged
}

// quiet lets the time go by in which an open event ends. Lines that are no records are
// what the head looks at the clock for.
func (s *sameStore) quiet() {
	s.t.Helper()
	s.now.Add((5 * time.Second).Milliseconds())
	for range 2 { // the clock is looked at behind the first
		done := make(chan error, 1)
		b := &journal.Batch{Conn: 9, Sender: journal.Sender{Addr: netip.MustParseAddrPort("10.0.0.9:60"), Transport: event.TransportTCP}, Received: s.time(), Records: []journal.Record{{Raw: []byte("----")}}}
		s.must(s.j.Submit(context.Background(), b, func(err error) { done <- err }))
		s.must(<-done)
		s.must(s.h.Scan(s.t.Context(), &query.Query{Limit: 1}, func(*event.Event) error { return nil }))
	}
}

// betweenEvents is the first place from the middle of lines on where no event has lines
// on both sides; 0 where there is none.
func betweenEvents(lines []sentLine) int {
	last := map[int]int{}
	for i, l := range lines {
		last[l.event] = i
	}
	end := 0
	for i, l := range lines {
		if i >= len(lines)/2 && end < i {
			return i
		}
		end = max(end, last[l.event])
	}
	return 0
}

// close ends the collector's parts; the files stay.
func (s *sameStore) close() {
	s.t.Helper()
	if s.files != nil {
		s.must(s.files.Close())
		s.files = nil
	}
	if s.h == nil {
		return
	}
	s.must(errors.Join(s.h.Close(), s.j.Close(), s.st.Close()))
	s.h = nil
}

// live is the store as a running collector answers from it.
func (s *sameStore) live() api.Source { return sameLive{s.h, s.st} }

// ended is the store as it is read when no collector has it.
func (s *sameStore) ended() api.Source {
	s.t.Helper()
	var err error
	s.files, err = server.OpenReadOnly(s.dir, hclog.NewNullLogger())
	s.must(err)
	return s.files
}

type sameLive struct {
	*head.Head
	st store.Place
}

func (l sameLive) About(context.Context) (query.About, error) {
	return query.About{Indexed: true, Store: l.st.ID().String(), Batch: l.Stats().StoredID}, nil
}

func (l sameLive) Hosts(context.Context) (out []*fleet.Host, err error) {
	for _, x := range l.Head.Hosts() {
		out = append(out, api.FromHost(&x))
	}
	return out, nil
}

func (l sameLive) Coverage(context.Context, *fleet.CoverageRequest, func(*fleet.Coverage) error) error {
	return nil
}

// askedNew is a search with --checkpoint of a source.
func askedNew(t *testing.T, words []string, src api.Source) (a answer) {
	t.Helper()
	o, err := render.ParseSearch(words, false)
	if err != nil {
		t.Fatal(err)
	}
	o.Names = sameNames{}
	var out, errs bytes.Buffer
	w := output.NewWriter(&out, &o.Config, time.Local)
	found, err := search.FindNew(context.Background(), o, src, w)
	if bad := (*search.CheckpointError)(nil); errors.As(err, &bad) {
		fmt.Fprintln(&errs, bad.Text)
		return answer{out.String(), errs.String(), bad.Code}
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	code := o.Exit(int(found), &errs)
	return answer{out.String(), errs.String(), code}
}
