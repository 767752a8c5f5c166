package search

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// storeModel is a collector's store as a search by checkpoint sees it: complete events
// in numbered batches, of which those up to last are stored and the others in memory.
type storeModel struct {
	query.Source // what a checkpoint does not ask for
	id           string
	last         uint64
	active       uint64 // the batch that an event goes to that is complete now
	events       []storedEvent
	open         []storedEvent // that were complete, and are open again after a crash
	broken       int           // events after which a scan fails; negative: it does not
}

type storedEvent struct {
	line string
	ev   event.Event
}

// storedOf is an event of one line. Its batch is not known yet.
func storedOf(line string, received int64) storedEvent {
	for _, ev := range eventtest.Parse([]byte(line)) {
		e := storedEvent{line, *ev}
		e.ev.Records[0].Received = received
		return e
	}
	panic("no event in " + line)
}

func newStoreModel() *storeModel { return &storeModel{id: "5107", active: 1, broken: -1} }

func (f *storeModel) About(context.Context) (query.About, error) {
	return query.About{Indexed: true, Store: f.id, Batch: f.last}, nil
}

var errModel = errors.New("the model's scan fails")

// Scan gives the events as a store does: by time, name and serial, and then by batch.
func (f *storeModel) Scan(_ context.Context, q *query.Query, fn func(*event.Event) error) error {
	m, given := query.NewMatcher(q), 0
	list := slices.Clone(f.events)
	slices.SortStableFunc(list, storedEvent.compare)
	for _, e := range list {
		ev := e.ev
		if ev.Batch <= q.AfterBatch || q.StartMs != 0 && ev.Ms < q.StartMs || !m.Match(&ev) {
			continue
		}
		if given++; f.broken >= 0 && given > f.broken {
			return errModel
		}
		if err := fn(&ev); err != nil {
			if errors.Is(err, query.ErrStop) {
				return nil
			}
			return err
		}
	}
	return nil
}

func (e storedEvent) compare(o storedEvent) int {
	return cmp.Or(cmp.Compare(e.ev.Ms, o.ev.Ms), bytes.Compare(e.ev.Node, o.ev.Node), cmp.Compare(e.ev.Serial, o.ev.Serial), cmp.Compare(e.ev.Batch, o.ev.Batch))
}

// add has an event be complete.
func (f *storeModel) add(node string, ms, received int64, serial int) string {
	line := fleetLine(node, ms, serial)
	e := storedOf(line, received)
	e.ev.Batch = f.active
	f.events = append(f.events, e)
	return line
}

// end has the events that are open again end.
func (f *storeModel) end() {
	for _, e := range f.open {
		e.ev.Batch = f.active
		f.events = append(f.events, e)
	}
	f.open = nil
}

// store stores what is in memory up to a batch.
func (f *storeModel) store(upTo uint64) {
	f.last = max(f.last, upTo)
	f.active = max(f.active, f.last+1)
}

// crash is one of the collector: what was not stored is replayed, into one batch; some
// of it is open again.
func (f *storeModel) crash(r *rand.Rand) {
	f.active = f.last + 1
	count := map[string]int{}
	for _, e := range f.events {
		count[e.line]++
	}
	f.events = slices.DeleteFunc(f.events, func(e storedEvent) bool {
		again := e.ev.Batch > f.last && count[e.line] == 1 && r.IntN(4) == 0
		if again {
			f.open = append(f.open, e)
		}
		return again
	})
	for i := range f.events {
		f.events[i].ev.Batch = min(f.events[i].ev.Batch, f.active)
	}
}

func fleetLine(node string, ms int64, serial int) string {
	if node != "" {
		node = "node=" + node + " "
	}
	return fmt.Sprintf("%stype=USER_AUTH msg=audit(%d.%03d:%d): pid=1 uid=0 auid=0 ses=1 msg='res=success'\n", node, ms/1000, ms%1000, serial)
}

// findNew runs a search and returns the lines that it wrote.
func findNew(t *testing.T, o *Options, f query.Source) ([]string, error) {
	t.Helper()
	o.Format = output.FormatRaw
	var out bytes.Buffer
	w := output.NewWriter(&out, &o.Config, time.UTC)
	n, err := FindNew(context.Background(), o, f, w)
	lines := slices.Collect(strings.Lines(out.String()))
	if int(n) != len(lines) {
		t.Errorf("%d found, %d printed", n, len(lines))
	}
	return lines, err
}

// story is what happens to one store and one checkpoint, and what a plain model of it
// says: the events there are and those that were printed.
type story struct {
	t      *testing.T
	r      *rand.Rand
	f      *storeModel
	ck     string
	now    int64 // the collector's clock, which may be set back
	serial int
	left   []string // not printed yet
	prints int
	faults int // runs that failed or were killed
}

const storyStart = 1_700_000_000_000

// TestCheckpointOfStoreModel has hosts of any name send events with any times, in any
// order, and searches again and again, with runs that fail, are killed, or print one
// event only, and collectors that crash. Each event is printed once.
func TestCheckpointOfStoreModel(t *testing.T) {
	t.Parallel()
	seed, rounds := need.Seed(t), need.Rounds(100, 25)
	prints, faults := 0, 0
	for round := range rounds {
		s := &story{t: t, r: rand.New(rand.NewPCG(seed, uint64(round))), f: newStoreModel(), now: storyStart, ck: filepath.Join(t.TempDir(), "ck")}
		for range 5 + s.r.IntN(30) {
			s.step()
		}
		s.f.broken = -1
		s.f.end()
		s.run(false, true)
		if len(s.left) > 0 {
			t.Errorf("%d events were never printed: %q", len(s.left), s.left)
		}
		if t.Failed() {
			t.Fatalf("round %d (AUDITFLEET_SEED=%d)", round, seed)
		}
		prints, faults = prints+s.prints, faults+s.faults
	}
	t.Logf("%d stores, %d events printed, %d runs failed or killed", rounds, prints, faults)
}

// step is something that happens.
func (s *story) step() {
	r := s.r
	switch r.IntN(10) {
	default:
		for range r.IntN(8) {
			s.send()
		}
	case 4:
		if s.f.active > s.f.last+2 {
			s.f.store(s.f.last + 1)
		}
		s.f.active++
	case 5:
		s.f.store(s.f.active)
	case 6:
		s.f.crash(r)
	case 7:
		s.run(true, true)
	case 8:
		s.f.broken = r.IntN(10)
		s.run(r.IntN(3) == 0, false)
		s.f.broken = -1
	case 9:
		s.run(false, true)
	}
	if r.IntN(5) == 0 {
		s.f.end()
	}
	s.now += int64(r.IntN(4000))
	if r.IntN(20) == 0 {
		s.now -= int64(r.IntN(3_600_000))
	}
}

// send has an event be complete: of this time, of long ago, or of the far future; at
// times one that is there already in every byte.
func (s *story) send() {
	r := s.r
	node := oneOf(r, "web1", "web2", "db", "", "beyond1", "beyond2", fmt.Sprintf("new%d", r.IntN(100)))
	ms := s.now - int64(r.IntN(3000))
	switch r.IntN(8) {
	case 0:
		ms -= int64(r.IntN(1_000_000_000))
	case 1:
		ms += int64(r.IntN(2_000_000_000))
	case 2:
		ms += 100 * 365 * 86_400_000
	case 3:
		ms = storyStart + int64(r.IntN(3)) // many of one time
	}
	s.serial += r.IntN(3)
	line := s.f.add(node, ms, s.now-int64(r.IntN(2)*r.IntN(100_000)), s.serial)
	s.left = append(s.left, line)
	if r.IntN(12) == 0 && len(s.f.open) == 0 {
		e := s.f.events[r.IntN(len(s.f.events))]
		e.ev.Batch = s.f.active
		if r.IntN(2) == 0 {
			e.ev.From = &event.Sender{Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(3))})}
		}
		s.f.events = append(s.f.events, e)
		s.left = append(s.left, e.line)
	}
}

// run searches. Of a run that is killed before it has replaced the file, the output is
// as if it had not been, for the next one repeats it. whole says that the scan does not
// fail: then all there is is printed, or the first with --just-one.
func (s *story) run(justOne, whole bool) {
	before, err := os.ReadFile(s.ck)
	fresh := err != nil
	lines, err := findNew(s.t, &Options{Checkpoint: s.ck, JustOne: justOne}, s.f)
	if err != nil && !errors.Is(err, errModel) || err != nil && whole {
		s.t.Errorf("search: %v", err)
	}
	want := len(s.left)
	for _, e := range s.f.open {
		if slices.Contains(s.left, e.line) {
			want--
		}
	}
	if justOne {
		want = min(want, 1)
	}
	if len(lines) > want || whole && len(lines) != want {
		s.t.Errorf("--just-one=%v: %d events printed, want %d", justOne, len(lines), want)
	}
	if s.faults += min(len(lines), 1); err == nil {
		s.faults -= min(len(lines), 1)
	}
	if !whole || s.r.IntN(4) > 0 {
		s.print(lines)
		return
	}
	s.faults++
	if fresh {
		err = os.Remove(s.ck)
	} else {
		err = os.WriteFile(s.ck, before, 0o600)
	}
	if err != nil {
		s.t.Error(err)
	}
	lines, err = findNew(s.t, &Options{Checkpoint: s.ck, JustOne: justOne}, s.f)
	if err != nil || len(lines) != want {
		s.t.Errorf("after a run that was killed: %d events printed, want %d; %v", len(lines), want, err)
	}
	s.print(lines)
}

func (s *story) print(lines []string) {
	s.prints += len(lines)
	for _, l := range lines {
		i := slices.Index(s.left, l)
		if i < 0 {
			s.t.Errorf("printed twice, or never sent: %s", l)
			continue
		}
		s.left = slices.Delete(s.left, i, i+1)
	}
}
