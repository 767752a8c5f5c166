package head

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/internal/need"
)

// storedRows is what the store's rows have of a host, without what is kept with what is followed of it.
func storedRows(t *testing.T, r *rig, host string) (records uint64) {
	t.Helper()
	_, err := r.st.Ledger(t.Context(), []string{host}, 0, 1<<60, func(_ string, row *ledger.Row) {
		for _, c := range row.Counts {
			records += c.Records
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// TestRowsOfRunningHours has the rows of hours that run stay with what is followed of their hosts, through tables that
// are stored and another start, and go to the store where their partition or their host ends.
func TestRowsOfRunningHours(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Date(2026, 11, 21, 23, 10, 0, 0, time.UTC)
	from := now.Add(-5 * time.Minute)
	options := func(_ *journal.Options, o *Options) {
		o.TableBytes, o.Now = 8<<10, func() time.Time { return now }
	}
	serial := 0
	send := func(r *rig, n int, hosts ...string) {
		t.Helper()
		for _, host := range hosts {
			b := &journal.Batch{Sender: journal.Sender{Verified: host}, Received: now}
			for i := range n {
				serial++
				b.Records = append(b.Records, journal.Record{Raw: fmt.Appendf(nil, "type=USER_LOGIN msg=audit(%d.000:%d): pid=1 %0100d", now.Unix()-int64(n-1-i), serial, 0)})
			}
			r.put(t, b)
		}
	}
	answered := func(r *rig, host string) uint64 {
		t.Helper()
		list, err := r.h.Completeness(t.Context(), CoverageQuery{Want: func(name string) bool { return name == host }, From: from.UnixMilli(), To: now.UnixMilli() + 1})
		if err != nil || len(list) != 1 {
			t.Fatalf("%d answers about %s, %v", len(list), host, err)
		}
		return list[0].Records
	}
	want := func(what string, got, want uint64) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %d records, want %d", what, got, want)
		}
	}
	r := mustRig(t, dir, options)
	send(r, 100, "web1", "web2", "gone") // several tables
	if err := r.close(); err != nil {    // which stores the rest
		t.Fatal(err)
	}
	r = mustRig(t, dir, options)
	for _, host := range []string{"web1", "web2", "gone"} {
		want(host+" in rows", storedRows(t, r, host), 0)
		want(host, answered(r, host), 100)
	}
	send(r, 7, "gone")
	if _, err := r.h.ChangeHosts(t.Context(), &store.Change{Forget: []string{"gone"}}); err != nil {
		t.Fatal(err)
	}
	want("a host that was forgotten", storedRows(t, r, "gone"), 107)
	want("a host that was forgotten, asked for", answered(r, "gone"), 107)

	send(r, 5, "web1")
	now = now.Add(time.Hour) // another day: its first record ends the partition of the one before
	send(r, 9, "web1")
	r.settle(t)
	if err := r.st.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("web1 in rows", storedRows(t, r, "web1"), 114)
	want("web2 in rows, of which nothing came on that day", storedRows(t, r, "web2"), 100)
	want("web1", answered(r, "web1"), 114)
	parts, err := r.st.Stats(t.Context())
	if err != nil || len(parts.Parts) != 3 {
		t.Errorf("%d partitions, %v", len(parts.Parts), err)
	}
}

// storing is a place that stores some tables just before it is asked what is known of hosts.
type storing struct {
	store.Place
	before func()
}

func (s *storing) Ledger(ctx context.Context, hosts []string, from, to int64, fn func(string, *ledger.Row)) (uint64, error) {
	if f := s.before; f != nil {
		f()
	}
	return s.Place.Ledger(ctx, hosts, from, to, fn)
}

// TestAskedWhileStored has tables be stored between the head's look at what it has and its look at the store: the row of
// the running hour, which stays in memory then, is in the answer, and once.
func TestAskedWhileStored(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 23, 10, 0, 0, time.UTC)
	place := &storing{}
	r := mustRig(t, t.TempDir(), func(_ *journal.Options, o *Options) {
		place.Place = o.Place
		o.Place, o.TableBytes, o.Now = place, 8<<10, func() time.Time { return now }
	})
	sent := uint64(0)
	send := func() {
		b := &journal.Batch{Sender: journal.Sender{Verified: "web1"}, Received: now}
		for range 50 {
			sent++
			b.Records = append(b.Records, journal.Record{Raw: fmt.Appendf(nil, "type=USER_LOGIN msg=audit(%d.000:%d): pid=1 %0300d", now.Unix()-1, sent, 0)})
		}
		r.put(t, b)
	}
	send()
	need.Wait(t, "the head has the host", func() bool { return len(r.h.Hosts()) == 1 && r.h.Hosts()[0].Records == sent })
	asked := 0
	place.before = func() {
		if asked++; asked > 2 {
			return
		}
		r.h.mu.RLock()
		active := r.h.active.id
		r.h.mu.RUnlock()
		for stored := uint64(0); stored < active; {
			send()
			need.Wait(t, "what was sent is in memory or stored", func() bool {
				r.h.mu.RLock()
				defer r.h.mu.RUnlock()
				stored = r.h.stats.StoredID
				return r.h.j.Stats().Records >= sent && len(r.h.waiting) == 0
			})
		}
	}
	list, err := r.h.Completeness(t.Context(), CoverageQuery{})
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if got := list[0].Records; got < 50 || got > sent {
		t.Errorf("%d records, of %d that were sent, 50 of them before it was asked", got, sent)
	}
}
