package roster

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/store"
)

// Whether a collector writes is told by what is read of it and this process's own time, whatever either clock says: one whose clock was a year ahead, or is a year behind, is silent once nothing
// new of it was read for half a minute, and then it is gone if somebody says so. One that writes runs, and of one that this process has not looked at for so long it says that.
func TestSilentByOwnTime(t *testing.T) {
	const year = 365 * 24 * 3_600_000
	for _, at := range []int64{now, now + year, 1} {
		synctest.Test(t, func(t *testing.T) {
			l := &list{members: []store.Member{{Store: "a", Name: "east", At: now}, {Store: "b", Name: "west", At: at}}}
			r := opened(l)
			state := func() (states string, absent int) {
				t.Helper()
				a, err := r.ask(t.Context())
				list, err2 := r.Collectors(t.Context())
				if err != nil || err2 != nil || len(list) != 2 {
					t.Fatal(err, err2, list)
				}
				return list[1].GetState(), len(a.absent)
			}
			if is, absent := state(); is != "unheard" || absent != 0 {
				t.Errorf("at first it is %s, absent %d", is, absent)
			}
			if _, _, err := r.Forget(t.Context(), "west"); !errors.Is(err, api.ErrNoCollector) || !strings.Contains(err.Error(), "half a minute") {
				t.Errorf("it is forgotten before anybody has looked: %v", err)
			}
			for range 12 {
				time.Sleep(5 * time.Second)
				l.members[1].At++
				if is, _ := state(); is != "running" {
					t.Errorf("it writes, and is %s", is)
				}
			}
			if _, _, err := r.Forget(t.Context(), "west"); !errors.Is(err, api.ErrNoCollector) {
				t.Errorf("it runs, and is forgotten: %v", err)
			}
			time.Sleep(silentAfter + time.Second)
			if is, absent := state(); is != "silent" || absent != 1 {
				t.Errorf("it is dead, and %s, absent %d", is, absent)
			}
			if c, _, err := r.Forget(t.Context(), "west"); err != nil || c.GetState() != "lost" {
				t.Errorf("forgotten: %+v, %v", c, err)
			}
			if _, absent := state(); absent != 1 {
				t.Error("nobody answers for its account")
			}
		})
	}
}

// When records came that are not stored, and with a collector that is lost are lost, is told by how long they had waited, and not by a clock that was ahead as that was written.
func TestAgeByOwnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &list{}
		standing := head.Standing{Host: "web1", Received: 10, Stored: 10}
		r := opened(l)
		r.cfg.Standings = func() ([]head.Standing, uint64) { return []head.Standing{standing}, 7 }
		enter := func(clock int64) int64 {
			t.Helper()
			time.Sleep(5 * time.Second)
			r.cfg.Now = func() time.Time { return time.UnixMilli(clock) }
			if err := r.Enter(t.Context(), false); err != nil || len(l.entered) != 1 {
				t.Fatalf("%v, %+v", err, l.entered)
			}
			return l.entered[0].Age
		}
		const year = 365 * 24 * 3_600_000
		var ages []int64
		for i, clock := range []int64{now, now + year, now, now, now - year} {
			if standing.Received = uint64(10 + i); i == 3 {
				standing.Stored = 13
			}
			ages = append(ages, enter(clock))
		}
		if d := cmp.Diff([]int64{0, 5000, 10_000, 0, 5000}, ages); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	})
}

// What others remember of senders is read from the last on that was read, by the servers' clock, and some time before that, whatever this machine's clock says.
func TestAdoptByServersTime(t *testing.T) {
	l := &list{upTo: 5_000_000}
	r := opened(l)
	r.cfg.Adopt = func(string, []store.KV) error { return nil }
	var got []int64
	for _, clock := range []int64{now, now + 365*24*3_600_000, 1} {
		r.cfg.Now = func() time.Time { return time.UnixMilli(clock) }
		if err := r.Adopt(t.Context()); err != nil {
			t.Fatal(err)
		}
		got = append(got, l.since)
		l.upTo++
	}
	if d := cmp.Diff([]int64{0, 4_880_000, 4_880_001}, got); d != "" {
		t.Errorf("read since (-want +got):\n%s", d)
	}
}
