package head

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Of an event whose records were carried, and that is completed after a restart, it is
// known who sent it and when each record was received, as of any other: of one name
// from two addresses, of a sender that gives no name, and of the far future.
func TestCarriedOrigins(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	change := func(j *journal.Options, o *Options) {
		j.SegmentBytes = 12 << 10
		o.TableBytes, o.EventTimeout, o.MaxOpenAge = 60<<10, time.Hour, time.Hour
	}
	type open struct {
		conn        uint64
		head, last  string // what comes before the carrying, and after the restart
		host, whose string
	}
	nameless := func(typ string) string { return "type=" + typ + " msg=audit(1795334400.000:7): x" }
	events := []open{
		{1, line("web1", 0, 7, "SYSCALL", "of=1"), line("web1", 0, 7, "PROCTITLE", "of=1"), "web1", "7 from 10.0.0.1 +1000 +5000 far=false"},
		{3, line("web1", 0, 7, "SYSCALL", "of=3"), line("web1", 0, 7, "PROCTITLE", "of=3"), "web1", "7 from 10.0.0.3 +3000 +5000 far=false"},
		{1, far("web1", 9), strings.Replace(far("web1", 9), "SYSCALL", "PROCTITLE", 1), "web1", "9 from 10.0.0.1 +1000 +5000 far=true"},
		{4, nameless("SYSCALL"), nameless("PROCTITLE"), "10.0.0.4", "7 from 10.0.0.4 +4000 +5000 far=false"},
	}
	at := func(sec int, b *journal.Batch) *journal.Batch {
		b.Received = b.Received.Add(time.Duration(sec) * time.Second)
		return b
	}
	r := mustRig(t, dir, change)
	for _, e := range events {
		r.put(t, at(int(e.conn), plain(e.conn, e.head)))
	}
	for serial := 0; r.j.Stats().Carried < uint64(len(events)) || r.j.Stats().FirstLSN <= uint64(len(events)); serial += 100 {
		if serial == 100_000 {
			t.Fatalf("nothing is carried: %+v", r.j.Stats())
		}
		var recs []string
		for i := range 100 {
			recs = append(recs, line("good", 0, serial+i, "USER_LOGIN", strings.Repeat("x", 200)))
		}
		r.put(t, plain(2, recs...))
		r.settle(t)
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	r = mustRig(t, dir, change)
	if n := r.h.Stats().OpenEvents; n != 0 && n != len(events) { // counted by the tick
		t.Errorf("%d events are open", n)
	}
	for _, e := range events {
		r.put(t, at(5, plain(e.conn, e.last)))
	}
	r.settle(t)
	found := func(q *query.Query) (got []string) {
		t.Helper()
		err := r.h.Scan(context.Background(), q, func(ev *event.Event) error {
			text := fmt.Sprintf("%d from %v", ev.Serial, ev.From.Addr)
			for i := range ev.Records {
				text += fmt.Sprintf(" +%d", ev.Records[i].Received-storetest.Start.UnixMilli())
			}
			got = append(got, fmt.Sprintf("%s far=%v", text, event.IsFarFuture(ev.Ms, storetest.Start.UnixMilli())))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		return got
	}
	for _, conn := range []uint64{1, 3, 4} {
		var want []string
		for _, e := range events {
			if e.conn == conn {
				want = append(want, e.whose)
			}
		}
		if got := found(&query.Query{From: []netip.Prefix{netip.PrefixFrom(peer(int(conn)).Addr(), 32)}}); !slices.Equal(got, want) {
			t.Errorf("from %v: %q, want %q", peer(int(conn)).Addr(), got, want)
		}
	}
	for _, host := range []string{"web1", "10.0.0.4"} {
		var want []string
		for _, e := range events {
			if e.host == host {
				want = append(want, e.whose)
			}
		}
		slices.Sort(want)
		if got := found(&query.Query{Nodes: []string{host}, Origin: true}); !slices.Equal(got, want) {
			t.Errorf("of %s: %q, want %q", host, got, want)
		}
	}
	also := &store.Change{Also: map[netip.Addr]string{peer(4).Addr(): "web9"}}
	if _, err := r.h.ChangeHosts(t.Context(), also); err != nil {
		t.Fatal(err)
	}
	if got := found(&query.Query{Nodes: []string{"web9"}, Origin: true}); len(got) != 1 || got[0] != events[3].whose {
		t.Errorf("reattributed: %q", got)
	}
	if x := hostNamed(t, r.h, "web1"); x.LastEventMs != time.Unix(1795334400, 0).UnixMilli() || x.Records != 6 {
		t.Errorf("web1 is known as %+v", x)
	}
	if n := r.h.Stats().FarFuture; n != 1 {
		t.Errorf("%d events of the far future are counted", n)
	}
}

// A name that very many senders use, with records of the far future, too, is bounded
// over all its streams, and nothing is kept of them when their events are over.
func TestManyStreamsAreBounded(t *testing.T) {
	t.Parallel()
	const most, senders = 200, 1000
	now := storetest.Start
	r := mustRig(t, t.TempDir(), func(_ *journal.Options, o *Options) {
		o.MaxOpenEvents, o.EventTimeout, o.MaxOpenAge = most, time.Hour, time.Hour
		o.Now = func() time.Time { return now }
	})
	for i := range senders {
		r.put(t, plain(uint64(i), line("web1", 0, 7, "SYSCALL", "x")), plain(uint64(i), far("web1", 9)))
	}
	r.settle(t)
	r.h.tick(now)
	r.h.mu.Lock()
	x := r.h.hosts["web1"]
	opened, streams, more := r.h.opened, len(r.h.openStreams), len(x.more)
	r.h.mu.Unlock()
	if opened > most || streams > most || more > most {
		t.Errorf("%d events of %d streams are open, %d are kept, %d is the limit", opened, streams, more, most)
	}
	st := r.h.Stats()
	if n := st.Early[EarlyEvents]; n < 2*senders-most || n > 2*senders {
		t.Errorf("ended early: %v", st.Early)
	}
	r.h.tick(now.Add(2 * time.Hour))
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	if r.h.opened != 0 || r.h.openBytes != 0 || len(r.h.openStreams) != 0 || x.more != nil || r.h.openPeak != 0 {
		t.Errorf("%d events, %d bytes, %d streams, more %v are left", r.h.opened, r.h.openBytes, len(r.h.openStreams), x.more)
	}
}
