package intake

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/space"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/metrics/metricstest"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeJournal takes every batch and answers none.
type fakeJournal struct {
	batches []*journal.Batch
	fails   error
}

func (j *fakeJournal) Submit(_ context.Context, b *journal.Batch, _ func(error)) error {
	j.batches = append(j.batches, b)
	return j.fails
}
func (j *fakeJournal) Commit(bool) {}
func (j *fakeJournal) Busy() bool  { return false }

// fakeDisk writes down what it hears.
type fakeDisk struct {
	refuses error
	low     bool

	mu    sync.Mutex
	heard []string // guarded by mu
}

func (d *fakeDisk) Admit(int64) error { return d.refuses }
func (d *fakeDisk) IsLow() bool       { return d.low }
func (d *fakeDisk) Outcome(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.heard = append(d.heard, fmt.Sprint(err))
}

func (d *fakeDisk) outcomes() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.heard...)
}

type fixture struct {
	*Intake
	j    fakeJournal
	disk fakeDisk
	reg  *metrics.Registry
	log  need.Buffer
}

func open(t *testing.T, cfg Config) *fixture {
	f := &fixture{reg: metrics.New()}
	cfg.Journal, cfg.Space, cfg.Metrics = &f.j, &f.disk, metrics.NewIntake(f.reg)
	cfg.Log = hclog.New(&hclog.LoggerOptions{Output: &f.log})
	f.Intake = Open(cfg)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// value is a metric's, of a series `name{label}`.
func (f *fixture) value(t *testing.T, series string) float64 {
	name, label, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
	return metricstest.Value(t, f.reg, name, label)
}

func batch(from journal.Sender, texts ...string) *Batch {
	b := &Batch{Batch: journal.Batch{Sender: from, Received: time.Unix(1, 0)}}
	for _, text := range texts {
		b.Records = append(b.Records, journal.Record{Raw: []byte(text)})
	}
	return b
}

// Who a batch is from: its address in words where nothing is known, the name in the
// hosts file before one that the sender claims, and what it has proved as it is.
func TestSender(t *testing.T) {
	names, err := parseNames("hosts", "192.0.2.1 web1\n")
	if err != nil {
		t.Fatal(err)
	}
	f := open(t, Config{Names: names})
	known, unknown := netip.MustParseAddrPort("[::ffff:192.0.2.1]:60"), netip.MustParseAddrPort("[fe80::2%eth0]:60")
	for _, c := range []struct{ sender, want journal.Sender }{
		{journal.Sender{Addr: unknown}, journal.Sender{Addr: unknown, Node: "fe80::2"}},
		{journal.Sender{Addr: unknown, Node: "claimed"}, journal.Sender{Addr: unknown, Node: "claimed"}},
		{journal.Sender{Addr: known}, journal.Sender{Addr: known, Node: "web1"}},
		{journal.Sender{Addr: known, Node: "claimed", Transport: event.TransportTCP}, journal.Sender{Addr: known, Node: "web1", Transport: event.TransportTCP}},
		{journal.Sender{Addr: known, Node: "claimed", Verified: "db1"}, journal.Sender{Addr: known, Node: "claimed", Verified: "db1"}},
	} {
		src := f.Connect(c.sender)
		if err := f.Submit(context.Background(), batch(src.Sender, "x"), nil); err != nil {
			t.Fatal(err)
		}
		if got := f.j.batches[len(f.j.batches)-1].Sender; got != c.want {
			t.Errorf("%+v is submitted as %+v, want %+v", c.sender, got, c.want)
		}
	}
	f.SetNames(nil)
	if err := f.Submit(context.Background(), batch(f.Connect(journal.Sender{Addr: known}).Sender, "x"), nil); err != nil {
		t.Fatal(err)
	}
	if got := f.j.batches[len(f.j.batches)-1].Sender.Node; got != "192.0.2.1" {
		t.Errorf("without a hosts file it is called %q", got)
	}
	if a, b := f.Connect(journal.Sender{}), f.Connect(journal.Sender{}); a.Conn == b.Conn || a.Conn == 0 {
		t.Errorf("connections %d and %d", a.Conn, b.Conn)
	}
}

// What is not admitted does not reach the journal; its own refusal is passed on.
func TestNotAdmitted(t *testing.T) {
	f := open(t, Config{})
	f.disk.refuses = space.ErrSuspended
	if err := f.Submit(context.Background(), batch(journal.Sender{}, "x"), nil); !errors.Is(err, space.ErrSuspended) || len(f.j.batches) > 0 {
		t.Errorf("%v, the journal has %d batches", err, len(f.j.batches))
	}
	f.disk.refuses, f.j.fails = nil, journal.ErrBusy
	if err := f.Submit(context.Background(), batch(journal.Sender{}, "x"), nil); !errors.Is(err, journal.ErrBusy) {
		t.Errorf("a journal that is busy: %v", err)
	}
}

// Each verdict, and what is counted: all records as they were sent, though the journal
// has taken resends out of the batch meanwhile.
func TestSettle(t *testing.T) {
	f := open(t, Config{})
	settle := func(want Verdict, err error, texts ...string) {
		t.Helper()
		b := batch(journal.Sender{}, texts...)
		if len(texts) > 0 {
			_ = f.Submit(context.Background(), b, nil)
			b.Records = b.Records[:0]
		}
		if got := f.Settle(b, err, time.Unix(1, 5e8)); got != want {
			t.Errorf("%v: verdict %d, want %d", err, got, want)
		}
	}
	settle(Stored, nil, "one", "two")
	settle(Full, fmt.Errorf("gate: %w", space.ErrFull), "x")
	settle(Full, fmt.Errorf("append: %w", syscall.ENOSPC), "x", "y")
	settle(Full, errors.Join(errors.New("x"), syscall.EDQUOT), "x")
	settle(Full, seglog.ErrNoSpace, "x")
	settle(Suspended, space.ErrSuspended, "x")
	settle(Failed, errors.New("sync failed"), "x", "y", "z")
	f.disk.low = true
	settle(StoredLow, nil, "three")
	settle(Stored, nil) // heartbeats only: nothing is stored
	for name, want := range map[string]float64{
		"auditfleet_collector_records_total": 3, "auditfleet_collector_bytes_total": 11,
		`auditfleet_collector_rejected_records_total{reply="diskfull"}`: 5, `auditfleet_collector_rejected_records_total{reply="suspended"}`: 1,
		`auditfleet_collector_rejected_records_total{reply="diskerror"}`: 3, "auditfleet_collector_ack_seconds_count": 2, "auditfleet_collector_ack_seconds_sum": 1,
	} {
		if got := f.value(t, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

// Why records are not stored is told, and that they are again, once; the end of the
// collector is no fault of its disk.
func TestOutcomes(t *testing.T) {
	f := open(t, Config{})
	settle := func(err error) { f.Settle(&Batch{records: 1}, err, time.Unix(1, 0)) }
	heard := func(want ...string) {
		t.Helper()
		need.Wait(t, strings.Join(want, ", "), func() bool { return cmp.Equal(want, f.disk.outcomes()) })
	}
	settle(nil)
	settle(errors.New("first"))
	heard("first")
	settle(errors.New("second"))
	heard("first", "second")
	settle(nil)
	settle(nil)
	heard("first", "second", "<nil>")
	settle(errors.New("third")) // so soon that the log says neither
	heard("first", "second", "<nil>", "third")
	settle(nil)
	heard("first", "second", "<nil>", "third", "<nil>")
	settle(fmt.Errorf("submit: %w", context.Canceled))
	settle(journal.ErrClosed)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	heard("first", "second", "<nil>", "third", "<nil>")
	log := f.log.String()
	if strings.Count(log, "records are not stored") != 1 || !strings.Contains(log, "look at the disk") || strings.Count(log, "stored again") != 1 {
		t.Errorf("the log:\n%s", log)
	}
}

// However outcomes come together, the last that is told is the last that was.
func TestLastOutcomeIsTold(t *testing.T) {
	for range 100 {
		f := open(t, Config{})
		for i := range 10 {
			f.Settle(&Batch{records: 1}, errors.New("broken"), time.Unix(1, 0))
			if i%2 == 0 {
				f.Settle(&Batch{records: 1}, nil, time.Unix(1, 0))
			}
		}
		_ = f.Close()
		if list := f.disk.outcomes(); list[len(list)-1] != "broken" {
			t.Fatalf("told: %q", list)
		}
	}
}

func TestBudget(t *testing.T) {
	f := open(t, Config{MaxInFlight: 1}) // it is MaxPiece at least
	if !f.TryAcquire(MaxPiece) || f.TryAcquire(1) {
		t.Fatal("the budget is not MaxPiece")
	}
	f.Enter(100)
	f.Release(MaxPiece - 100)
	if f.TryAcquire(MaxPiece) {
		t.Error("a batch's bytes were given back with the rest")
	}
	if v := f.value(t, "auditfleet_collector_inflight_bytes"); v != 100 {
		t.Errorf("%v bytes are in flight", v)
	}
	acquired := make(chan error, 1)
	go func() { acquired <- f.Acquire(context.Background(), MaxPiece) }()
	need.Wait(t, "it waits", func() bool { return f.value(t, "auditfleet_collector_inflight_waits_total") == 1 })
	f.Leave(100)
	if err := <-acquired; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.Acquire(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("a wait that was given up: %v", err)
	}
	if v := f.value(t, "auditfleet_collector_inflight_bytes"); v != 0 {
		t.Errorf("%v bytes are in flight at the end", v)
	}
}

// A batch costs no allocation here: the session has made all it needs.
func TestNoAllocations(t *testing.T) {
	f := open(t, Config{})
	b := batch(f.Connect(journal.Sender{Addr: netip.MustParseAddrPort("192.0.2.1:60")}).Sender, "text")
	f.j.batches = make([]*journal.Batch, 0, 1000)
	now := time.Unix(2, 0)
	if n := testing.AllocsPerRun(100, func() {
		f.j.batches = f.j.batches[:0]
		_ = f.Submit(context.Background(), b, nil)
		f.Settle(b, nil, now)
	}); n != 0 {
		t.Errorf("%v allocations a batch", n)
	}
}
