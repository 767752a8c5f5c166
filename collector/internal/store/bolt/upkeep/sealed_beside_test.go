package upkeep

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/hold"
	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// addLedger stores a batch of ten events on a day, with what is known of two hosts in its first hour.
func (s *sealedStore) addLedger(st *bolt.Store, day int) {
	s.t.Helper()
	s.next++
	tab := store.NewTable()
	storetest.Fill(tab, s.gen, 10)
	b := &store.Batch{ID: s.next, Day: partOf(day).Day, Events: tab, LSN: s.next * 10}
	for _, host := range []string{"web1", "web2"} {
		r := &ledger.Row{Start: int64(partOf(day).Day) * ledger.Day, Length: ledger.Hour, Counts: []ledger.Count{{Slot: 3, Records: 7, Events: 2}}}
		r.Entries = []ledger.Entry{{Cause: ledger.Kernel, From: r.Start + 5, To: r.Start + 9, N: 4}}
		b.Ledger = append(b.Ledger, store.HostLedger{Host: host, Tracker: ledger.NewHost().Encode(), Rows: []*ledger.Row{r}})
	}
	must(s.t, st.Append(context.Background(), b))
}

// TestAccountsAreSealed: what a day that is over knows of hosts' completeness can't be written again unseen.
func TestAccountsAreSealed(t *testing.T) {
	t.Parallel()
	s := newSealedStore(t)
	cp := s.open(s.dir, func(st *bolt.Store) {
		for day := range 3 {
			s.addLedger(st, day)
			s.addLedger(st, day)
		}
		must(t, st.Rotate(context.Background()))
		s.addLedger(st, 2)
	})
	good := func(dir, what string) {
		t.Helper()
		rep := s.check(dir, cp)
		if len(rep.Changed) > 0 || !strings.Contains(strings.Join(rep.Notes, "\n"), "of 1 partitions what they have") {
			t.Errorf("%s: %+v", what, rep)
		}
	}
	good(s.dir, "as it was stored")
	for name, attack := range map[string]func(b *bbolt.Bucket, key []byte) error{
		"a row removed": func(b *bbolt.Bucket, key []byte) error { return b.Delete(key) },
		"a loss taken out": func(b *bbolt.Bucket, key []byte) error {
			_, length, start, _ := layout.ParseRowKey(key)
			r, err := layout.DecodeRow(key, b.Get(key), length, start)
			must(t, err)
			r.Entries = nil
			return b.Put(key, layout.EncodeRow(key, r))
		},
		"a row put in": func(b *bbolt.Bucket, _ []byte) error {
			key := layout.RowKey("web9", ledger.Day, 0)
			return b.Put(key, layout.EncodeRow(key, &ledger.Row{Length: ledger.Day}))
		},
		"a row's checksum": func(b *bbolt.Bucket, key []byte) error { return b.Put(key, append(bytes.Clone(b.Get(key)), 0)) },
	} {
		dir := s.copyOf()
		edit(t, dir, 1, func(tx *bbolt.Tx) error {
			b := tx.Bucket(layout.BucketLedger)
			key, _ := b.Cursor().Seek([]byte("r"))
			return attack(b, bytes.Clone(key))
		})
		if got := fmt.Sprint(s.check(dir, cp).Changed); !strings.Contains(got, "partition "+partOf(1).String()+": what it has of its hosts' completeness") {
			t.Errorf("%s: it says %s", name, got)
		}
	}
	// The day before is dropped, which has its successor know what is still known of it; the clock goes back, and
	// the day is over once more.
	cp = s.open(s.dir, func(st *bolt.Store) { must(t, st.Drop(context.Background(), partOf(0), "max_days = 2")) })
	good(s.dir, "after a day was dropped")
	if rep := s.check(s.dir, cp); !strings.Contains(strings.Join(rep.Notes, "\n"), "max_days = 2") {
		t.Errorf("it is not said why a day was dropped: %+v", rep)
	}
	cp = s.open(s.dir, func(st *bolt.Store) {
		s.addLedger(st, 1)
		s.addLedger(st, 3)
	})
	good(s.dir, "after the clock went back")
}

// TestAccountAfterAKill: a process that dies as a day is over leaves its account to the next start.
func TestAccountAfterAKill(t *testing.T) {
	t.Parallel()
	s := newSealedStore(t)
	s.open(s.dir, func(st *bolt.Store) { s.addLedger(st, 0) })
	before := s.copyOf()
	s.open(s.dir, func(st *bolt.Store) { s.addLedger(st, 1) })
	must(t, os.RemoveAll(filepath.Join(s.dir, "seal"))) // the log is as it was before the second day's first batch
	must(t, os.CopyFS(filepath.Join(s.dir, "seal"), os.DirFS(filepath.Join(before, "seal"))))
	for range 2 {
		cp := s.open(s.dir, nil)
		rep := s.check(s.dir, cp)
		if len(rep.Changed) > 0 || rep.Leaves != 4 || !strings.Contains(strings.Join(rep.Notes, "\n"), "of 1 partitions what they have") {
			t.Errorf("%+v", rep)
		}
	}
}

// TestHoldsAreSealed: a hold that is taken out by hand is noticed by who has a checkpoint, whatever else is made to fit.
func TestHoldsAreSealed(t *testing.T) {
	t.Parallel()
	s := newSealedStore(t)
	change := func(dir string, c hold.Change) []byte {
		return s.open(dir, func(st *bolt.Store) {
			set := hold.Open(fsys.OS, dir, st)
			must(t, set.Broken())
			_, err := set.Change(c, time.Unix(1763805600, 0))
			must(t, err)
		})
	}
	s.open(s.dir, s.fill)
	change(s.dir, hold.Change{Add: []string{"web1"}, Reason: "case 1", By: "uid=0"})
	cp := change(s.dir, hold.Change{Add: []string{"web2"}})
	if rep := s.check(s.dir, cp); len(rep.Changed) > 0 || !strings.Contains(strings.Join(rep.Notes, "\n"), "(change 1, 1 holds): add web1 by uid=0: case 1") {
		t.Errorf("%+v", rep)
	}
	target := t.TempDir()
	mustBackup(t, s.dir, target)
	if rep := s.check(filepath.Join(target, "store"), cp); len(rep.Changed) > 0 {
		t.Errorf("of a backup: %+v", rep)
	}
	// byHand has the list as it is in a store that has no word of it in its log.
	byHand := func(dir string, c hold.Change) {
		must(t, os.Remove(filepath.Join(dir, hold.Name)))
		_, err := hold.Open(fsys.OS, dir, &nobody{}).Change(c, time.Unix(1763805600, 0))
		must(t, err)
	}
	for name, attack := range map[string]struct {
		do   func(dir string)
		want string
	}{
		"gone":        {func(dir string) { must(t, os.Remove(filepath.Join(dir, hold.Name))) }, "is gone: it had 2 holds"},
		"another one": {func(dir string) { byHand(dir, hold.Change{Add: []string{"web1"}}) }, "the list of holds is not that of its last change"},
		"another one, and a collector that is made to believe it": {func(dir string) {
			byHand(dir, hold.Change{Add: []string{"web1"}})
			forgetHolds(t, dir)
			change(dir, hold.Change{Add: []string{"web3"}})
		}, "the list of holds was changed by hand between its change 2"},
	} {
		dir := s.copyOf()
		attack.do(dir)
		if got := fmt.Sprint(s.check(dir, cp).Changed); !strings.Contains(got, attack.want) {
			t.Errorf("%s: it says %s, without %q", name, got, attack.want)
		}
	}
}

// forgetHolds has the manifest know nothing of the list.
func forgetHolds(t *testing.T, dir string) {
	t.Helper()
	c, err := manifest.Load(fsys.OS, dir)
	must(t, err)
	c.SetHeld(store.Held{})
	must(t, manifest.Save(fsys.OS, dir, c))
}

// nobody keeps nothing.
type nobody struct{}

func (nobody) Holds() store.Held                       { return store.Held{} }
func (nobody) KeepHolds(store.Held, int, string) error { return nil }
