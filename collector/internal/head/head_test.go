package head

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

func mustRig(t testing.TB, dir string, change func(*journal.Options, *Options)) *rig {
	t.Helper()
	r, err := openRig(dir, change)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.close() })
	return r
}

// small makes tables small, so that many are stored.
func small(_ *journal.Options, o *Options) { o.TableBytes = 200 << 10 }

func (r *rig) put(t testing.TB, list ...*journal.Batch) {
	t.Helper()
	var wg sync.WaitGroup
	for _, b := range list {
		wg.Add(1)
		err := r.j.Submit(context.Background(), b, func(err error) {
			if err != nil {
				t.Error(err)
			}
			wg.Done()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
}

// nothingOpen says that all events are complete; Stats knows that since the last tick only.
func (r *rig) nothingOpen() bool {
	r.h.mu.RLock()
	defer r.h.mu.RUnlock()
	return r.h.opened == 0
}

// settle waits until the head has taken everything that was acknowledged.
func (r *rig) settle(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := r.h.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

type scanner interface {
	Scan(context.Context, *query.Query, func(*event.Event) error) error
}

func texts(t testing.TB, s scanner, q *query.Query) (out []string) {
	t.Helper()
	if err := s.Scan(context.Background(), q, func(ev *event.Event) error {
		out = append(out, storetest.Text(ev))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func line(node string, sec, serial int, typ, rest string) string {
	return fmt.Sprintf("node=%s type=%s msg=audit(%d.000:%d): %s", node, typ, 1795334400+sec, serial, rest)
}

func plain(conn uint64, raw ...string) *journal.Batch {
	b := &journal.Batch{Conn: conn, Sender: from(peer(int(conn))), Received: storetest.Start}
	for _, r := range raw {
		b.Records = append(b.Records, journal.Record{Raw: []byte(r)})
	}
	return b
}

// rawOf are all records of batches, sorted.
func rawOf(list []*journal.Batch) (out []string) {
	for _, b := range list {
		for _, r := range b.Records {
			out = append(out, string(r.Raw))
		}
	}
	slices.Sort(out)
	return out
}

func rawFound(t testing.TB, s scanner) (out []string) {
	t.Helper()
	var last query.Key
	if err := s.Scan(context.Background(), &query.Query{}, func(ev *event.Event) error {
		if k := query.KeyOf(ev); k.Compare(last) < 0 {
			t.Errorf("%v after %v", k, last)
		} else {
			last = k
		}
		for i := range ev.Records {
			out = append(out, string(ev.Records[i].Raw))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

func same(t testing.TB, why string, want, got []string) {
	t.Helper()
	if !slices.Equal(want, got) {
		t.Errorf("%s: %d records, want %d: (-want +got)\n%.2000s", why, len(got), len(want), cmp.Diff(want, got))
	}
}

// waitFor waits until events that do not end by themselves are late.
func waitFor(t testing.TB, why string, want []string, s scanner) {
	t.Helper()
	for until := time.Now().Add(time.Minute); len(rawFound(t, s)) < len(want) && time.Now().Before(until); {
		time.Sleep(20 * time.Millisecond)
	}
	same(t, why, want, rawFound(t, s))
}

func TestPipeline(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	records := need.Size(20_000, 5_000)
	list, _ := batches(t, 5, 20, records, 32)
	want := rawOf(list)
	// What does not end by itself is late only after a while; here it is at once.
	eager := func(jo *journal.Options, o *Options) {
		o.TableBytes, o.EventTimeout, jo.SegmentBytes = 200<<10, time.Millisecond, 256<<10
	}
	r := mustRig(t, dir, eager)
	for part := range slices.Chunk(list, 50) { // so that the journal's writes are small
		r.put(t, part...)
	}
	waitFor(t, "in memory and store", want, r.h)
	answers := map[string][]string{}
	for name, q := range storetest.Queries() {
		answers[name] = texts(t, r.h, q)
	}
	if st := r.h.Stats(); st.StoredID < uint64(records/2_000) {
		t.Errorf("only %d tables were stored", st.StoredID)
	}
	need.Wait(t, "no event is open, so hosts have the times of all", r.nothingOpen)
	hosts := r.h.Hosts()
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	r = mustRig(t, dir, eager)
	waitFor(t, "after a restart", want, r.h)
	for name, q := range storetest.Queries() {
		if d := cmp.Diff(answers[name], texts(t, r.h, q)); d != "" {
			t.Errorf("%s: another answer after the restart:\n%.1000s", name, d)
		}
	}
	need.Wait(t, "no event is open after the restart", r.nothingOpen)
	if d := cmp.Diff(hosts, r.h.Hosts(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(time.Time.Equal)); d != "" {
		t.Errorf("hosts after the restart:\n%s", d)
	}
	n := uint64(0)
	for _, h := range hosts {
		n += h.Records
	}
	if n != uint64(len(want)) {
		t.Errorf("hosts have %d records, want %d", n, len(want))
	}
	r.settle(t)
	if got := r.j.Stats(); got.DiskBytes > 512<<10 {
		t.Errorf("everything is stored and the journal holds %d bytes", got.DiskBytes)
	}
}

// TestScanWhileStoring searches while tables are filled, handed over and stored:
// of each host always the events up to some serial, each once.
func TestScanWhileStoring(t *testing.T) {
	t.Parallel()
	r := mustRig(t, t.TempDir(), func(_ *journal.Options, o *Options) { o.TableBytes = 30 << 10 })
	n := need.Size(6_000, 2_000)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			last := 0
			for {
				seen := map[string]uint64{}
				all := 0
				err := r.h.Scan(context.Background(), &query.Query{}, func(ev *event.Event) error {
					all++
					if node := string(ev.Node); ev.Serial != seen[node]+1 {
						return fmt.Errorf("host %s: event %d after %d", node, ev.Serial, seen[node])
					}
					seen[string(ev.Node)]++
					return nil
				})
				if err != nil || all < last {
					t.Errorf("%v; %d events, %d before", err, all, last)
					return
				}
				last = all
				select {
				case <-stop:
					if all == n {
						return
					}
				default:
				}
			}
		}()
	}
	for i := range n / 10 {
		var recs []string
		for k := range 10 {
			recs = append(recs, line(fmt.Sprintf("h%d", k%2), i, i*5+k/2+1, "USER_LOGIN", "pid=1 uid=0"))
		}
		r.put(t, plain(1, recs...))
	}
	r.settle(t)
	close(stop)
	wg.Wait()
	if id := r.h.Stats().StoredID; id < uint64(n/300) {
		t.Errorf("only %d tables were stored meanwhile", id)
	}
}

func TestOpenEventsSurviveRestarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	patient := func(_ *journal.Options, o *Options) { o.EventTimeout = time.Hour }
	r := mustRig(t, dir, patient)
	r.put(t, plain(1, line("a", 1, 1, "SYSCALL", "first"), line("b", 1, 7, "USER_LOGIN", "whole")))
	for i := range 3 { // each restart leaves it open, and stores what is complete
		if err := r.close(); err != nil {
			t.Fatal(err)
		}
		r = mustRig(t, dir, patient)
		r.put(t, plain(1, line("a", 1, 1, "PATH", fmt.Sprint("item=", i)), line("b", 2+i, 8+i, "USER_LOGIN", "whole")))
	}
	r.settle(t)
	if got := texts(t, r.h, &query.Query{Nodes: []string{"a"}}); len(got) != 1 || strings.Count(got[0], "\n") != 5 {
		t.Errorf("an open event of four records expected: %q", got)
	}
	r.put(t, plain(1, line("a", 1, 1, "PROCTITLE", "last")))
	r.settle(t)
	got := texts(t, r.h, &query.Query{Nodes: []string{"a"}})
	if len(got) != 1 || strings.Count(got[0], "\n") != 6 {
		t.Errorf("one event of five records expected: %q", got)
	}
	if got := texts(t, r.h, &query.Query{Nodes: []string{"b"}}); len(got) != 4 {
		t.Errorf("%d events of b, want 4", len(got))
	}
	for _, h := range r.h.Hosts() {
		if want := map[string]uint64{"a": 5, "b": 4}[h.Name]; h.Records != want {
			t.Errorf("host %s: %d records, want %d", h.Name, h.Records, want)
		}
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	list, _ := batches(t, 9, 5, 3000, 10)
	r := mustRig(t, dir, small)
	r.put(t, list[:len(list)/2]...)
	r.settle(t)
	r.put(t, list[len(list)/2:]...)
	// As after a kill: nothing is closed, the folder is read beside it.
	h := openCopy(t, r, dir)
	same(t, "read only", rawOf(list), rawFound(t, h))
	before := treeOf(t, dir+".copy")
	if d := cmp.Diff(before, treeOf(t, dir+".copy")); d != "" {
		t.Errorf("reading changed the folder:\n%s", d)
	}
}

func TestHostsLimit(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	r := mustRig(t, t.TempDir(), func(_ *journal.Options, o *Options) {
		o.MaxHosts, o.Logger = 4, hclog.New(&hclog.LoggerOptions{Output: &log})
	})
	r.put(t, plain(9, line(strings.Repeat("long", 100), 8, 1, "USER_LOGIN", "x")))
	r.settle(t)
	if text := log.String(); !strings.Contains(text, "name is too long") || strings.Contains(text, "max_hosts") {
		t.Errorf("a name that is too long is logged as\n%s", text)
	}
	for i := range 6 {
		r.put(t, plain(1, line(fmt.Sprintf("h%d", i), i, 1, "USER_LOGIN", "x")))
	}
	r.put(t, plain(9, "type=USER_LOGIN msg=audit(1795334400.000:1): no node"))
	check := func(why string) {
		t.Helper()
		if got := texts(t, r.h, &query.Query{}); len(got) != 8 {
			t.Errorf("%s: %d events, want 8", why, len(got))
		}
		for _, node := range []string{"h0", "h5", strings.Repeat("long", 100)} {
			if got := texts(t, r.h, &query.Query{Nodes: []string{node}}); len(got) != 1 || !strings.HasPrefix(got[0], node+" ") {
				t.Errorf("%s: node %.10s: %q", why, node, got)
			}
		}
	}
	r.settle(t)
	check("stored")
	if text := log.String(); strings.Count(text, "raise max_hosts") != 1 {
		t.Errorf("more hosts than max_hosts are logged as\n%s", text)
	}
	if n := len(r.h.Hosts()); n != 6 {
		t.Errorf("%d hosts, want 4, the one for all others and the sender that names none", n)
	}
	if n := r.h.Stats().Mixed; n != 3 {
		t.Errorf("%d records are counted as stored together, want 3", n)
	}
}

// What is open of one host, and of all together, is bounded; what has to go early
// is counted and stored.
func TestOpenEventsLimit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ host, total, events int }{
		"bytes of a host": {20000, 1 << 20, 0}, "bytes of all": {1 << 20, 20000, 0}, "events of a host": {0, 0, 30},
	} {
		t.Run(name, func(t *testing.T) {
			r := mustRig(t, t.TempDir(), func(_ *journal.Options, o *Options) {
				o.MaxOpenBytesHost, o.MaxOpenBytes, o.MaxOpenEventsHost = c.host, c.total, c.events
			})
			for i := range 100 {
				r.put(t, plain(1, line("web1", 0, i, "SYSCALL", "arch=c000003e syscall=59 success=yes items=2")))
			}
			r.settle(t)
			got := len(texts(t, r.h, &query.Query{Batches: true}))
			if n := evicted(r.h); int(n) != got || n < 50 || n >= 100 {
				t.Errorf("%d events counted as ended early, %d of 100 are complete", n, got)
			}
		})
	}
}

func TestHostNames(t *testing.T) {
	t.Parallel()
	r := mustRig(t, t.TempDir(), nil)
	noNode := "type=USER_LOGIN msg=audit(1795334400.000:1): pid=1"
	named := plain(1, noNode)
	named.Sender.Node = "named"
	r.put(t, named, plain(2, noNode), plain(3, line("said", 1, 1, "USER_LOGIN", "x"), noNode+" bad", "not a record"))
	r.settle(t)
	for node, want := range map[string]int{"named": 1, "10.0.0.2": 1, "said": 1, "10.0.0.3": 1} {
		if got := texts(t, r.h, &query.Query{Nodes: []string{node}}); len(got) != want {
			t.Errorf("node %s: %d events, want %d: %q", node, len(got), want, got)
		}
	}
	if got := texts(t, r.h, &query.Query{Nodes: []string{"10.0.0.3"}, Unparsable: true}); len(got) != 2 {
		t.Errorf("with what is no record: %q", got)
	}
	for _, h := range r.h.Hosts() {
		if h.Name == "10.0.0.3" && (h.Unparsable != 1 || h.Records != 2 || len(h.Addrs) != 1 || !h.First.Equal(storetest.Start)) {
			t.Errorf("%+v", h)
		}
	}
}

func TestDayChange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := mustRig(t, dir, nil)
	for i := range 3 {
		b := plain(1, line("a", i, i+1, "USER_LOGIN", "x"))
		b.Received = storetest.Start.AddDate(0, 0, i)
		r.put(t, b)
	}
	r.settle(t)
	st, err := r.st.Stats(context.Background())
	if err != nil || len(st.Parts) != 3 {
		t.Fatalf("%+v, %v; want three days", st, err)
	}
	if st.Parts[0].Events != 1 || !st.Parts[0].Sealed || st.Parts[2].Sealed {
		t.Errorf("%+v", st.Parts)
	}
}

// failing is a place that does not take anything while broken.
type failing struct {
	store.Place
	broken atomic.Bool
}

var errBroken = errors.New("broken")

func (f *failing) Append(ctx context.Context, b *store.Batch) error {
	if f.broken.Load() {
		return errBroken
	}
	return f.Place.Append(ctx, b)
}

func TestStoreFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := &failing{}
	f.broken.Store(true)
	change := func(_ *journal.Options, o *Options) {
		f.Place = o.Place
		o.Place, o.TableBytes, o.RetryEvery = f, 20<<10, 5*time.Millisecond
	}
	r := mustRig(t, dir, change)
	list, _ := batches(t, 2, 3, 400, 10)
	r.put(t, list[:5]...)
	for until := time.Now().Add(time.Minute); r.h.Stats().StoreError == nil && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
		_ = r.h.Flush(shortly(t))
	}
	if err := r.h.Stats().StoreError; !errors.Is(err, errBroken) {
		t.Fatalf("Stats do not name the store's error: %v", err)
	}
	f.broken.Store(false)
	r.put(t, list[5:]...)
	r.settle(t)
	if err := r.h.Stats().StoreError; err != nil {
		t.Errorf("the store works again: %v", err)
	}
	// Broken at the end: Close says so and the next start has it all.
	f.broken.Store(true)
	last := plain(77, line("z", 1, 1, "USER_LOGIN", "x"))
	r.put(t, last)
	if err := r.h.Close(); !errors.Is(err, errBroken) {
		t.Errorf("Close: %v, want the store's error", err)
	}
	if err := r.close(); !errors.Is(err, errBroken) {
		t.Errorf("%v", err)
	}
	f.broken.Store(false)
	r = mustRig(t, dir, func(_ *journal.Options, o *Options) { o.EventTimeout = time.Millisecond })
	want := rawOf(append(list, last))
	waitFor(t, "after the restart", want, r.h)
}

// A start that waits for a store which takes nothing is told to stop, and the next one has it all.
func TestStoppedStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := &failing{}
	f.broken.Store(true)
	r := mustRig(t, dir, func(_ *journal.Options, o *Options) { f.Place = o.Place; o.Place = f })
	list, _ := batches(t, 2, 3, 400, 10)
	r.put(t, list...)
	if err := r.close(); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var once sync.Once
	r, err := openRig(dir, func(_ *journal.Options, o *Options) {
		f.Place = o.Place
		o.Place, o.TableBytes, o.RetryEvery, o.Stop = f, 20<<10, 5*time.Millisecond, stop
		o.OnStore = func(error) { once.Do(func() { close(stop) }) }
	})
	if !errors.Is(err, ErrClosed) {
		t.Fatalf("%v %v", r, err)
	}
	r = mustRig(t, dir, func(_ *journal.Options, o *Options) { o.EventTimeout = time.Millisecond })
	waitFor(t, "after the restart", rawOf(list), r.h)
}

// An address that is new with each record has the others looked at once a second, not for each.
func TestNewcomersThatFill(t *testing.T) {
	const second = 24 * 60 * 60 // names a day: one is forgotten after a second
	n := newcomers{most: second, by: map[netip.Addr]*allowance{}}
	at, addr := time.Unix(1000, 0), func(i byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, i}) }
	for _, c := range []struct {
		addr  byte
		after time.Duration
		ok    bool
	}{{1, 0, true}, {2, 500 * time.Millisecond, false}, {2, 1200 * time.Millisecond, false}, {2, 1500 * time.Millisecond, true}, {3, 0, false}, {1, 4 * time.Second, true}} {
		if ok, _ := n.admit(addr(c.addr), at.Add(c.after), 1); ok != c.ok {
			t.Errorf("address %d after %v: %v", c.addr, c.after, ok)
		}
	}
}

// Whoever asks a head that is closed hears so, however many ask.
func TestFlushAfterClose(t *testing.T) {
	r := mustRig(t, t.TempDir(), nil)
	if err := r.h.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 4 * cap(r.h.flushAsked) {
		if err := r.h.Flush(ctx); !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
	}
}

func shortly(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestMain(m *testing.M) {
	if childMain() {
		return
	}
	need.Parallel(6) // they wait for the disk
	goleak.VerifyTestMain(m)
}

func evicted(h *Head) uint64 {
	s := h.Stats()
	return s.Evicted()
}

// openCopy reads a copy of the files as a kill would leave them now, beside the rig that has them open.
func openCopy(t *testing.T, r *rig, dir string) *Head {
	t.Helper()
	if err := r.j.Sync(); err != nil {
		t.Fatal(err)
	}
	copyTree(t, dir, dir+".copy")
	st, err := bolt.Open(bolt.Options{Dir: dir + ".copy", ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	h, err := OpenReadOnly(Options{Place: st, Events: st}, journal.Options{Dir: filepath.Join(dir+".copy", "journal")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}
