package selfaudit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/listen"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/metrics/metricstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeJournal stores at once, unless it is told otherwise.
type fakeJournal struct {
	fails error         // of Submit
	hangs chan struct{} // Submit waits for it when it is not nil
	never bool          // done is not called

	mu      sync.Mutex
	stored  []string // guarded by mu
	senders []journal.Sender
}

func (j *fakeJournal) Submit(ctx context.Context, b *journal.Batch, done func(error)) error {
	if j.hangs != nil {
		select {
		case <-j.hangs:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if j.fails != nil || j.never {
		return j.fails
	}
	j.mu.Lock()
	j.senders = append(j.senders, b.Sender)
	for _, r := range b.Records {
		j.stored = append(j.stored, string(r.Raw))
	}
	j.mu.Unlock()
	done(nil)
	return nil
}

var header = regexp.MustCompile(`^node=c type=(\S+) msg=audit\(1700000000\.007:(\d+)\): `)

// texts are the stored records, their header cut to the type.
func (j *fakeJournal) texts() (out []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.stored {
		out = append(out, header.ReplaceAllString(s, "$1 "))
	}
	return out
}

type fixture struct {
	*Records
	j        fakeJournal
	reg      *metrics.Registry
	log      need.Buffer
	refusing atomic.Bool
}

func open(f *fixture, now func() time.Time) *fixture {
	f.reg = metrics.New()
	f.Records = Open(Config{
		Journal: &f.j, Node: "c", Now: now, Log: hclog.New(&hclog.LoggerOptions{Output: &f.log}),
		Metrics: metrics.NewOwnRecords(f.reg), Refusing: f.refusing.Load,
	})
	return f
}

func still() time.Time { return time.Unix(1700000000, 7e6) }

func TestWords(t *testing.T) {
	f := open(&fixture{}, still)
	peer := netip.MustParseAddrPort("192.0.2.1:61")
	f.Start("1.2")
	f.Reconfigured(false)
	f.Reconfigured(true)
	f.Rotated(false)
	f.Rotated(true)
	f.Resumed()
	f.Failed("disk-full")
	f.Connection(listen.Report{Peer: peer})
	f.Connection(listen.Report{Peer: peer, Op: "dup"})
	f.Connection(listen.Report{Peer: peer, Close: true})
	web1, web2 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	f.Notice(head.Notice{Kind: head.NewAddress, Name: "web1", Addr: web1})
	f.Notice(head.Notice{Kind: head.ByTurns, Name: "we b\x01", Addr: web1, Was: web2, Omitted: 3})
	f.Notice(head.Notice{Kind: head.TooManyNames, Name: "x", Addr: web1})
	f.refusing.Store(true)
	f.Connection(listen.Report{Peer: peer})
	f.Notice(head.Notice{Kind: head.NewAddress, Name: "web1", Addr: web1})
	f.Failed("suspend-logging")
	f.Close()
	f.Add("DAEMON_ERR", "too late")
	got := f.j.texts()
	want := []string{
		"DAEMON_CONFIG op=reconfigure state=changed auid=-1 pid=-1 subj=? res=success",
		"DAEMON_CONFIG op=reconfigure state=no-change auid=-1 pid=-1 subj=? res=failed",
		"DAEMON_ROTATE op=rotate-logs auid=-1 pid=-1 subj=? res=success",
		"DAEMON_ROTATE op=rotate-logs auid=-1 pid=-1 subj=? res=failed",
		"DAEMON_RESUME op=resume-logging auid=-1 pid=-1 subj=? res=success",
		"DAEMON_ERR op=disk-full auid=-1 pid=-1 subj=? res=failed",
		"DAEMON_ACCEPT addr=192.0.2.1 port=61 res=success",
		"DAEMON_ACCEPT op=dup addr=192.0.2.1 port=61 res=no",
		"DAEMON_CLOSE addr=192.0.2.1 port=61 res=success",
		`DAEMON_ERR op=new-address host="web1" addr=192.0.2.1 old-addr=? omitted=0 informative=yes res=success`,
		"DAEMON_ERR op=two-addresses host=7765206201 addr=192.0.2.1 old-addr=192.0.2.2 omitted=3 informative=yes res=success",
		`DAEMON_ERR op=too-many-names host="x" addr=192.0.2.1 omitted=0 informative=yes res=success`,
		"DAEMON_ERR op=suspend-logging auid=-1 pid=-1 subj=? res=failed",
	}
	if len(got) != len(want)+2 || !strings.HasPrefix(got[0], "DAEMON_START op=start ver=1.2 ") || !strings.HasPrefix(got[len(got)-1], "DAEMON_END op=terminate ") {
		t.Fatalf("stored\n%s", strings.Join(got, "\n"))
	}
	if diff := cmp.Diff(want, got[1:len(got)-1]); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	if want := (journal.Sender{Node: "c", Transport: event.TransportOwn}); f.j.senders[0] != want {
		t.Errorf("sent by %+v", f.j.senders[0])
	}
	if n := metricstest.Value(t, f.reg, "auditfleet_collector_own_records_dropped_total", ""); n != 1 {
		t.Errorf("%v are counted as dropped, want 1", n)
	}
}

// Whoever knocks in a loop has so many refusals stored a second; the log says how many
// more there were.
func TestRefusalsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := open(&fixture{}, time.Now)
		knock := func(n int) {
			for range n {
				f.Connection(listen.Report{Peer: netip.MustParseAddrPort("192.0.2.1:61"), Op: "dup"})
			}
		}
		knock(refusalsPerSecond + 7)
		f.Connection(listen.Report{Peer: netip.MustParseAddrPort("192.0.2.2:61")}) // not one of them
		time.Sleep(time.Second)
		knock(1)
		f.Close()
		if n := len(f.j.stored); n != refusalsPerSecond+2 {
			t.Errorf("%d records, want %d", n, refusalsPerSecond+2)
		}
		if log := f.log.String(); !strings.Contains(log, "omitted=7") {
			t.Errorf("the log:\n%s", log)
		}
	})
}

// A journal that takes nothing holds up nobody: what its queue has no room for is
// dropped, counted and said once a second, and the end waits for a while only.
func TestJournalThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := open(&fixture{j: fakeJournal{hangs: make(chan struct{})}}, time.Now)
		f.Add("DAEMON_ERR", "first")
		synctest.Wait() // it is at the journal
		for i := range queueLength + 5 {
			f.Add("DAEMON_ERR", "n=%d", i)
		}
		if n := metricstest.Value(t, f.reg, "auditfleet_collector_own_records_dropped_total", ""); n != 5 {
			t.Errorf("%v are counted as dropped, want 5", n)
		}
		if n := strings.Count(f.log.String(), "are dropped"); n != 1 {
			t.Errorf("said %d times", n)
		}
		began := time.Now()
		f.Close()
		if waited := time.Since(began); waited != closeTime {
			t.Errorf("closed after %v, want %v", waited, closeTime)
		}
		if !strings.Contains(f.log.String(), fmt.Sprintf("were not stored: records=%d", queueLength)) {
			t.Errorf("the log does not say how many were not stored")
		}
	})
}

// A journal that took a batch and is never started, and one that refuses.
func TestJournalThatStoresNothing(t *testing.T) {
	for name, j := range map[string]*fakeJournal{"is never started": {never: true}, "refuses": {fails: errors.New("broken")}} {
		synctest.Test(t, func(t *testing.T) {
			f := &fixture{}
			f.j.never, f.j.fails = j.never, j.fails
			open(f, time.Now)
			f.Add("DAEMON_ERR", "x")
			f.Close()
			f.Close()
			if !strings.Contains(f.log.String(), "were not stored: records=1") {
				t.Errorf("a journal that %s: the log:\n%s", name, f.log.String())
			}
		})
	}
}
