package bolt

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
)

// passing is a store whose events another engine has, and that passes on the account of many hosts.
type passing struct {
	*testing.T
	dir   string
	hosts int
	s     *Store
	id    uint64
}

func newPassing(t *testing.T, hosts int) *passing {
	p := &passing{T: t, dir: t.TempDir(), hosts: hosts}
	p.again()
	return p
}

// again opens the store, as after a crash: all that a transaction has is on the disk, and nothing is in memory only.
func (p *passing) again() {
	if p.s != nil {
		must(p.T, p.s.Close())
	}
	p.s = open(p.T, Options{Dir: p.dir})
	p.s.elsewhere.Store(true)
}

func (p *passing) name(i int) string { return fmt.Sprintf("host%d", i) }

// batch stores a batch that came on a day, with n records of each of some hosts that happened on it and as many on the day before.
func (p *passing) batch(day, from, to int, n uint64) {
	p.Helper()
	p.id++
	b := &store.Batch{ID: p.id, Day: store.DayOf(goneDay(day)), LSN: p.id}
	for i := from; i < to; i++ {
		l := store.HostLedger{Host: p.name(i), Tracker: []byte("{}")}
		for d := day - 1; d <= day; d++ {
			l.Rows = append(l.Rows, &ledger.Row{Start: goneDay(d).UnixMilli(), Length: ledger.Day, Counts: []ledger.Count{{Slot: 7, Records: n, Events: 1}}})
		}
		b.Ledger = append(b.Ledger, l)
	}
	must(p.T, p.s.Append(p.Context(), b))
}

// records is how many records the account has of hosts, by day, with those that were dropped.
func (p *passing) records(ctx context.Context, days int, hosts ...string) (map[string][]uint64, error) {
	out := map[string][]uint64{}
	for _, h := range hosts {
		out[h] = make([]uint64, days)
	}
	_, err := p.s.Ledger(ctx, hosts, math.MinInt64, math.MaxInt64, func(host string, r *ledger.Row) {
		day := int((r.Start - goneDay(0).UnixMilli()) / ledger.Day)
		for _, c := range r.Counts {
			out[host][day] += c.Records
		}
		for _, e := range r.Entries {
			if e.Cause == ledger.Retention {
				out[host][day] += e.N
			}
		}
	})
	return out, err
}

// The account of many hosts goes from file to file in pieces. Whoever reads it meanwhile, or after a crash between two pieces, finds each host's as it was, while batches come
// for other files and the clock goes back to the day of the file that is being dropped.
func TestPassOnInPieces(t *testing.T) {
	t.Parallel()
	hosts := 20000
	if testing.Short() {
		hosts = 3*pieceHosts + 10
	}
	p := newPassing(t, hosts)
	const days = 8
	p.batch(1, 0, hosts, 5)
	p.batch(2, 0, hosts, 7) // the file of day 1 is inherited by that of day 2
	rng := rand.New(rand.NewPCG(1, uint64(hosts)))
	ask := []string{p.name(0), p.name(9), p.name(10), p.name(hosts - 1)}
	for range 12 {
		ask = append(ask, p.name(rng.IntN(hosts)))
	}
	want := []uint64{5, 12, 7, 0, 0, 0, 0, 0}
	check := func() {
		got, err := p.records(context.Background(), days, ask...)
		if err != nil {
			t.Error(err)
		}
		for _, h := range ask {
			if diff := cmp.Diff(want, got[h]); diff != "" {
				t.Errorf("%s (-want +got):\n%s", h, diff)
			}
		}
	}
	pieces := 0
	for more := true; more && !t.Failed(); {
		var stop atomic.Bool
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for !stop.Load() && !t.Failed() {
					check()
				}
			})
		}
		for range 1 + rng.IntN(3) {
			var err error
			if more, err = p.s.dropSome(math.MaxUint64); err != nil {
				t.Fatal(err)
			}
			if pieces++; !more {
				break
			}
		}
		stop.Store(true)
		wg.Wait()
		p.again()
		check()
		switch pieces {
		case 2, 3: // the heir is no longer the one that is written
			p.batch(4, hosts, hosts+1, 1)
		case 4, 5, 6: // nor is the file written that is being dropped
			p.batch(1, hosts, hosts+1, 1)
			p.batch(5, hosts, hosts+1, 1)
		}
	}
	if len(p.s.parts) != 1 || pieces < 2*hosts/pieceHosts {
		t.Errorf("%d files after %d pieces", len(p.s.parts), pieces)
	}
	var n int
	must(t, p.s.LedgerHosts(t.Context(), func([]byte) { n++ }))
	if n != hosts+1 {
		t.Errorf("%d hosts", n)
	}
}

// No batch goes to a file that has passed on some of what it knows, also where the clock is back in its day: it would be another one than the mark says.
func TestPassOnIsNotWritten(t *testing.T) {
	t.Parallel()
	p := newPassing(t, pieceHosts+1)
	p.batch(1, 0, p.hosts, 5)
	p.batch(2, 0, 1, 1)
	first := p.s.parts[0]
	if more, err := p.s.dropSome(math.MaxUint64); err != nil || !more {
		t.Fatalf("%v, %v", more, err)
	}
	p.batch(1, 0, p.hosts, 5)
	if p.s.cur.part != (store.Part{Day: store.DayOf(goneDay(1)), N: 2}) {
		t.Fatalf("batches go to %s", p.s.cur.part)
	}
	second := p.s.parts[slices.IndexFunc(p.s.parts, func(x *partition) bool { return x.part.Day == store.DayOf(goneDay(2)) })]
	// The second has a mark of the first, which is not delivered again yet: it stays.
	first.entries = []entry{{id: 7}}
	must(t, p.s.dropHandedOver(t.Context(), 6))
	if !slices.Contains(p.s.parts, second) {
		t.Fatal("the file that has a part of another one's account is dropped before that")
	}
	first.entries = nil
	must(t, p.s.dropHandedOver(t.Context(), 7))
	if len(p.s.parts) != 1 {
		t.Fatalf("%d files", len(p.s.parts))
	}
	got, err := p.records(t.Context(), 3, p.name(0), p.name(p.hosts-1))
	must(t, err)
	if diff := cmp.Diff(map[string][]uint64{p.name(0): {10, 11, 1}, p.name(p.hosts - 1): {10, 10, 0}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What is known of a day that is dropped is aged, also of hosts whose account goes meanwhile to a file that was looked through before.
func TestAgeBetweenPieces(t *testing.T) {
	t.Parallel()
	p := newPassing(t, pieceHosts+1)
	p.batch(3, 0, p.hosts, 5)
	p.batch(1, p.hosts, p.hosts+1, 1) // the clock went back: the file that is written comes first
	calls := 0
	p.s.opts.now = func() time.Time { // appendMu is held, by who ages
		if calls++; calls == 2 { // the first file was looked through
			if more, err := p.s.passSome(p.s.parts[1]); err != nil || !more {
				t.Errorf("%v, %v", more, err)
			}
		}
		return goneDay(9)
	}
	must(t, p.s.age(gones{days: map[store.Day]int64{store.DayOf(goneDay(1)): goneDay(9).UnixMilli(), store.DayOf(goneDay(3)): goneDay(9).UnixMilli()}}))
	must(t, p.s.dropHandedOver(t.Context(), math.MaxUint64))
	for _, host := range []string{p.name(0), p.name(p.hosts - 1)} {
		for d := 2; d <= 3; d++ {
			if diff := cmp.Diff([]string{"0 records", "retention: 5 dropped, was unknown"}, judged(t, p.s, host, d)); diff != "" {
				t.Errorf("%s on day %d (-want +got):\n%s", host, d, diff)
			}
		}
	}
}

// What came on a day goes with it, also of a host of which nothing else is known.
func TestAgeOfReceiptAlone(t *testing.T) {
	t.Parallel()
	p := newPassing(t, 2)
	p.batch(1, 0, 2, 5)
	must(t, p.s.cur.update(func(tx *bbolt.Tx) error {
		bkt := tx.Bucket(layout.BucketLedger)
		return errors.Join(bkt.Delete(layout.RowKey(p.name(0), ledger.Day, goneDay(0).UnixMilli())), bkt.Delete(layout.RowKey(p.name(0), ledger.Day, goneDay(1).UnixMilli())))
	}))
	must(t, p.s.age(gones{days: map[store.Day]int64{store.DayOf(goneDay(1)): goneDay(9).UnixMilli()}}))
	must(t, p.s.cur.view(func(tx *bbolt.Tx) error {
		if days := daysReceived(tx); len(days) > 0 {
			t.Errorf("what came on days %v is there", days)
		}
		return nil
	}))
}

// An account that is larger than a file of what waits is to be has no batch begin another file: each would pass on all of the account.
func TestAccountBeginsNoFile(t *testing.T) {
	t.Parallel()
	local, m := open(t, Options{Dir: t.TempDir()}), storetest.NewMemory()
	down := outage(m)
	down.Store(true)
	o := quickOf(local, m, 64<<10)
	defer func() { must(t, o.Close()) }()
	b := &store.Batch{ID: 1, Day: store.DayOf(goneDay(1)), LSN: 1}
	for i := range 2000 {
		b.Ledger = append(b.Ledger, store.HostLedger{Host: fmt.Sprintf("host%d", i), Tracker: make([]byte, 200)})
	}
	must(t, o.Append(t.Context(), b))
	for id := uint64(2); id < 5; id++ {
		must(t, o.Append(t.Context(), goneBatch(t, id, 1)))
	}
	if st, err := local.Stats(t.Context()); err != nil || len(st.Parts) != 1 || st.DiskBytes < uint64(2*o.times.file) {
		t.Errorf("%d files, %d bytes: %v", len(st.Parts), st.DiskBytes, err)
	}
	down.Store(false)
	empty(t, o)
}

// outage has an engine take nothing for as long as what it returns is true.
func outage(m *storetest.Memory) *atomic.Bool {
	down := &atomic.Bool{}
	m.Fault = func(bool) error {
		if down.Load() {
			return errBusyEngine
		}
		return nil
	}
	return down
}

// What had waited for the engine gives its room on the disk back once it is delivered, also of the file that is written; an account that is large has no other file begun.
func TestDeliveredGivesRoom(t *testing.T) {
	t.Parallel()
	clock := goneDay(1)
	local, m := open(t, Options{Dir: t.TempDir(), now: func() time.Time { return clock }}), storetest.NewMemory()
	down := outage(m)
	o := quickOf(local, m, 8<<20)
	defer func() { must(t, o.Close()) }()
	id := uint64(0)
	add := func(b *store.Batch) {
		t.Helper()
		id++
		b.ID, b.LSN = id, id
		must(t, o.Append(t.Context(), b))
	}
	account := &store.Batch{Day: store.DayOf(goneDay(1))}
	for i := range 2000 {
		r := &ledger.Row{Start: goneDay(1).UnixMilli(), Length: ledger.Day, Counts: []ledger.Count{{Slot: 7, Records: 5, Events: 1}}}
		account.Ledger = append(account.Ledger, store.HostLedger{Host: fmt.Sprintf("host%d", i), Tracker: make([]byte, 100), Rows: []*ledger.Row{r}})
	}
	add(account)
	add(goneBatch(t, 1, 2)) // the next day's file has the account
	empty(t, o)
	size := func() (files int, bytes uint64) {
		st, err := local.Stats(t.Context())
		must(t, err)
		return len(st.Parts), st.DiskBytes
	}
	name := func() store.Part {
		local.appendMu.Lock()
		defer local.appendMu.Unlock()
		return local.cur.part
	}
	for until := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if n, _ := size(); n == 1 || time.Now().After(until) {
			break
		}
	}
	_, before := size()
	if name() != (store.Part{Day: store.DayOf(goneDay(2)), N: 1}) || before < 512<<10 {
		t.Fatalf("the account, %d bytes, is in %s", before, name())
	}
	down.Store(true)
	for range 40 {
		b := goneBatch(t, id+1, 2)
		storetest.Fill(b.Events, storetest.NewGenerator(id+100, storetest.Templates(t), 3, goneDay(2)), 3000)
		add(b)
	}
	if n, full := size(); n != 1 || full < before+uint64(o.times.file)/2 {
		t.Fatalf("%d files, %d bytes wait", n, full-before)
	}
	local.appendMu.Lock()
	clock = clock.Add(time.Hour)
	local.appendMu.Unlock()
	down.Store(false)
	empty(t, o)
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(time.Millisecond) {
		if n, now := size(); n == 1 && now < before+uint64(o.times.file/4) {
			break
		}
	}
	if n, now := size(); n != 1 || now > before+uint64(o.times.file/4) {
		t.Errorf("%d files of %d bytes, %d before", n, now, before)
	}
	is := name()
	local.appendMu.Lock()
	clock = clock.Add(time.Hour)
	local.appendMu.Unlock()
	add(goneBatch(t, id+1, 2))
	empty(t, o)
	if name() != is {
		t.Errorf("%s was begun after %s for nothing", name(), is)
	}
	if got := judged(t, o, "host1999", 1); !slices.Equal(got, []string{"5 records"}) {
		t.Errorf("%q", got)
	}
}

// Of a full disk what was delivered gives its room back, however little it is.
func TestFullDiskGetsRoom(t *testing.T) {
	t.Parallel()
	clock := goneDay(1)
	local, m := open(t, Options{Dir: t.TempDir(), now: func() time.Time { return clock }}), storetest.NewMemory()
	o := quick(local, m)
	defer func() { must(t, o.Close()) }()
	b := goneBatch(t, 1, 1)
	storetest.Fill(b.Events, storetest.NewGenerator(1, storetest.Templates(t), 3, goneDay(1)), 20000)
	must(t, o.Append(t.Context(), b))
	empty(t, o)
	size := func() uint64 {
		st, err := local.Stats(t.Context())
		must(t, err)
		return st.DiskBytes
	}
	full := size()
	local.appendMu.Lock()
	clock = clock.Add(time.Hour)
	local.appendMu.Unlock()
	if o.GiveRoom(); full < 512<<10 {
		t.Fatalf("a batch takes %d bytes", full)
	}
	for until := time.Now().Add(time.Minute); size() > full/2 && time.Now().Before(until); time.Sleep(time.Millisecond) {
	}
	if now := size(); now > full/2 {
		t.Errorf("%d bytes of %d are left", now, full)
	}
}
