package upkeep

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/layout"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt/manifest"
	"github.com/auditfleet/auditfleet/collector/internal/store/group"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// longOver has each day compacted but the one that is written, whatever the clock says.
var longOver = store.Compaction{After: -100 * 365 * 24 * time.Hour, Oldest: 400}

// compact compacts all that is due, and returns how often it did.
func (s *sealedStore) compact(dir string, st *bolt.Store) (n int) {
	return s.compactAs(dir, st, longOver)
}

func (s *sealedStore) compactAs(dir string, st *bolt.Store, how store.Compaction) (n int) {
	s.t.Helper()
	st.VouchWith(s.log(dir, st).Vouch)
	for ; ; n++ {
		done, err := st.Compact(context.Background(), how)
		must(s.t, err)
		if done == nil {
			return n
		}
	}
}

// days stores a batch of each of some days on each of some days, so that each has events of others.
func (s *sealedStore) days(st *bolt.Store, days int) {
	s.t.Helper()
	for day := range days {
		for range 2 {
			s.next++
			tab := store.NewTable()
			for other := range days {
				g := storetest.NewGenerator(s.next*100+uint64(other), storetest.Templates(s.t), 3, storetest.Start.AddDate(0, 0, other))
				storetest.Fill(tab, g, 5)
			}
			must(s.t, st.Append(context.Background(), &store.Batch{ID: s.next, Day: partOf(day).Day, Events: tab, LSN: s.next * 10, Hosts: s.counted(st, tab)}))
		}
	}
}

// counted is the counts of hosts with those of a table.
func (s *sealedStore) counted(st *bolt.Store, tab *store.Table) (hosts []store.Host) {
	s.t.Helper()
	state, err := st.State(s.t.Context())
	must(s.t, err)
	for _, h := range tab.Hosts() {
		host := store.Host{Name: h.Name}
		if i := slices.IndexFunc(state.Hosts, func(x store.Host) bool { return x.Name == h.Name }); i >= 0 {
			host = state.Hosts[i]
		}
		for i := range h.Events {
			host.Records += uint64(h.Events[i].Records)
		}
		hosts = append(hosts, host)
	}
	return hosts
}

// compacted is a store of some days that was signed, compacted and signed again.
func compacted(t *testing.T, roots bool) (s *sealedStore, before, after []byte) {
	t.Helper()
	s = newSealedStore(t)
	s.flat = !roots
	before = s.open(s.dir, func(st *bolt.Store) {
		st.ProveEvents(roots)
		s.days(st, 4)
	})
	after = s.open(s.dir, func(st *bolt.Store) {
		if n := s.compact(s.dir, st); n < 3 {
			t.Errorf("%d compactions", n)
		}
	})
	return s, before, after
}

// clean checks that neither way of verifying finds anything wrong.
func (s *sealedStore) clean(dir string, cps ...[]byte) {
	s.t.Helper()
	rep, err := Verify(s.t.Context(), VerifyOptions{Dir: dir})
	must(s.t, err)
	if len(rep.Damage) > 0 {
		s.t.Errorf("verify: %q", rep.Damage)
	}
	for _, cp := range cps {
		if rep := s.check(dir, cp); len(rep.Changed) > 0 || rep.Groups != int(s.next) {
			s.t.Errorf("%d of %d batches: %q", rep.Groups, s.next, rep.Changed)
		}
	}
}

// A day that is merged while it runs is what checkpoints of each stage have, and a backup of it, too: parts of single batches, parts that were made of
// parts, and the day once it is over.
func TestMergedIsSealed(t *testing.T) {
	t.Parallel()
	s := newSealedStore(t)
	runs := store.Compaction{After: -longOver.After, Oldest: 400, Groups: 1}
	var cps [][]byte
	for range 2 {
		cps = append(cps, s.open(s.dir, func(st *bolt.Store) {
			st.ProveEvents(true)
			for range 9 {
				s.next++
				tab := store.NewTable()
				for i := range 2 {
					storetest.Fill(tab, storetest.NewGenerator(s.next*10+uint64(i), storetest.Templates(t), 3, storetest.Start.AddDate(0, 0, -i)), 5)
				}
				must(t, st.Append(context.Background(), &store.Batch{ID: s.next, Day: partOf(0).Day, Events: tab, LSN: s.next * 10, Hosts: s.counted(st, tab)}))
				if s.compactAs(s.dir, st, runs) == 0 {
					t.Error("nothing was merged")
				}
			}
		}))
		s.clean(s.dir, cps...)
	}
	to := filepath.Join(t.TempDir(), "backup")
	mustBackup(t, s.dir, to)
	cps = append(cps, s.open(s.dir, func(st *bolt.Store) {
		if n := len(madeParts(t, s.dir)); n > 12 {
			t.Errorf("%d parts that were merged", n)
		}
		must(t, st.Append(context.Background(), &store.Batch{ID: s.next + 1, Day: partOf(3).Day, LSN: s.next*10 + 10}))
		if n := s.compact(s.dir, st); n != 1 {
			t.Errorf("%d compactions of a day that is over", n)
		}
	}))
	s.clean(s.dir, cps...)
	if n := len(madeParts(t, s.dir)); n != 2 {
		t.Errorf("%d parts of two days", n)
	}
	s.clean(restore(t, to), cps[:2]...)
}

// A store that was compacted is what checkpoints of before and after have, also once what was made is made into fewer.
func TestCompactedIsSealed(t *testing.T) {
	t.Parallel()
	for _, roots := range []bool{true, false}[:need.Size(2, 1)] {
		s, before, after := compacted(t, roots)
		s.clean(s.dir, before, after)
		rep := s.check(s.dir, before)
		proved := 0
		for _, n := range rep.Notes {
			if strings.Contains(n, "were written again by compaction; of 3 of them all text is proved") {
				proved++
			}
		}
		if proved != map[bool]int{true: 1}[roots] {
			t.Errorf("roots %v: %q", roots, rep.Notes)
		}
		// More days, each of which has events of those before: their parts become many, and one again.
		last := s.open(s.dir, func(st *bolt.Store) {
			st.ProveEvents(roots)
			for range 3 {
				s.days(st, 6)
				must(t, st.Rotate(t.Context()))
				s.compact(s.dir, st)
			}
		})
		merged := 0
		_, _, err := seal.Scan(s.dir, func(x *seal.Scanned) error {
			l, err := seal.ParseLeaf(x.Text)
			if err == nil && l.Kind == seal.Rewritten && len(l.Sources) > 4 {
				merged++
			}
			return err
		})
		if err != nil || merged == 0 {
			t.Errorf("%d days whose parts became fewer, %v", merged, err)
		}
		s.clean(s.dir, before, after, last)
		// Days that are dropped then, part by part.
		dropped := s.open(s.dir, func(st *bolt.Store) {
			stats, err := st.Stats(t.Context())
			must(t, err)
			for _, p := range stats.Parts[:3] {
				must(t, st.Drop(t.Context(), p.Part, "max_days = 1"))
			}
		})
		for _, cp := range [][]byte{before, after, last, dropped} {
			if rep := s.check(s.dir, cp); len(rep.Changed) > 0 {
				t.Errorf("dropped: %q", rep.Changed)
			}
		}
		if rep, err := Verify(t.Context(), VerifyOptions{Dir: s.dir}); err != nil || len(rep.Damage) > 0 {
			t.Errorf("dropped: %q, %v", rep.Damage, err)
		}
	}
}

// A compaction that was cut short leaves a leaf of what did not happen, or both what was made and what it was made of: neither is a change.
func TestCompactionCutShort(t *testing.T) {
	t.Parallel()
	s := newSealedStore(t)
	cp := s.open(s.dir, func(st *bolt.Store) { s.days(st, 3) })
	before := s.copyOf()
	after := s.open(s.dir, func(st *bolt.Store) { s.compact(s.dir, st) })
	cut := func() string { // all of before, and the log of after
		dir := filepath.Join(t.TempDir(), "cut")
		must(t, os.CopyFS(dir, os.DirFS(before)))
		must(t, os.RemoveAll(filepath.Join(dir, seal.Dir)))
		must(t, os.CopyFS(filepath.Join(dir, seal.Dir), os.DirFS(filepath.Join(s.dir, seal.Dir))))
		must(t, layout.WriteMarker(dir, layout.CompactedVersion))
		return dir
	}
	copyParts := func(to, from string) {
		list, err := os.ReadDir(filepath.Join(from, layout.Partitions))
		must(t, err)
		for _, e := range list {
			path := filepath.Join(to, layout.Partitions, e.Name())
			if _, err := os.Stat(path); err == nil {
				continue
			}
			b, err := os.ReadFile(filepath.Join(from, layout.Partitions, e.Name()))
			must(t, err)
			must(t, os.WriteFile(path, b, 0o600))
		}
	}
	t.Run("only its leaves are there", func(t *testing.T) {
		dir := cut()
		s.t = t
		s.clean(dir, cp, after)
		s.open(dir, func(st *bolt.Store) { s.compact(dir, st) }) // and it is done again
		s.clean(dir, cp, after)
	})
	t.Run("what was made has its name", func(t *testing.T) {
		dir := cut()
		copyParts(dir, s.dir)
		s.t = t
		s.clean(dir, cp, after)
		s.open(dir, nil)
		s.clean(dir, cp, after)
	})
	t.Run("what it was made of is still there", func(t *testing.T) {
		s.t = t // its folder goes with this test
		dir := s.copyOf()
		copyParts(dir, before)
		s.clean(dir, cp, after)
		s.open(dir, nil)
		s.clean(dir, cp, after)
	})
}

// madeParts are the partitions that compaction has made, by name.
func madeParts(t *testing.T, dir string) (parts []store.Part) {
	t.Helper()
	c, err := manifest.Load(fsys.OS, dir)
	must(t, err)
	for _, p := range c.Parts {
		if p.Compacted {
			part, err := store.ParsePart(p.Name)
			must(t, err)
			parts = append(parts, part)
		}
	}
	slices.SortFunc(parts, store.Part.Compare)
	return parts
}

// rebuildMade writes the first group of a partition that compaction has made again, with the events that change leaves of it and as it leaves them, and
// returns what a leaf has to say of the partition then.
func rebuildMade(t *testing.T, dir string, part store.Part, change func(i int, batch *uint64, ev *event.Event) bool) (made seal.Made) {
	t.Helper()
	c, err := group.NewCodec(1)
	must(t, err)
	defer c.Close()
	db, err := bbolt.Open(layout.PartitionPath(dir, part), 0o600, nil)
	must(t, err)
	made.Part = part.String()
	hosts := map[string]seal.HostCount{}
	must(t, db.Update(func(tx *bbolt.Tx) error {
		key := layout.GroupKey(1)
		bkt := tx.Bucket(layout.BucketGroups).Bucket(key)
		g, err := c.Open(slices.Clone(bkt.Get(layout.KeyGroup)))
		must(t, err)
		cur, err := g.Cursor(0, math.MinInt64, math.MaxInt64)
		must(t, err)
		b := c.NewBuilder()
		for i := 0; ; i++ {
			host, batch, ev, err := cur.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			must(t, err)
			if ev = store.CloneEvent(ev); change(i, &batch, ev) {
				must(t, b.Add(host, batch, ev))
			}
		}
		blob, sum, err := b.Finish()
		must(t, err)
		x, err := c.Open(blob)
		must(t, err)
		tree, err := x.PieceTree()
		must(t, err)
		must(t, x.Counts(func(name string, events, records uint64) {
			addHosts(hosts, []seal.HostCount{{Name: name, Events: events, Records: records}})
		}))
		for _, name := range slices.Sorted(func(yield func(string) bool) {
			for n := range hosts {
				if !yield(n) {
					return
				}
			}
		}) {
			made.Hosts = append(made.Hosts, hosts[name])
		}
		made.Groups = []seal.MadeGroup{{First: sum.FirstBatch, Last: sum.LastBatch, Size: sum.Bytes, Pieces: uint64(tree.Len()), Hash: tree.Root(),
			MinMs: sum.MinMs, MaxMs: sum.MaxMs, Events: sum.Events, Records: sum.Records}}
		return errors.Join(bkt.Put(layout.KeyGroup, blob), tx.Bucket(layout.BucketCatalog).Put(key, sum.Encode()))
	}))
	must(t, db.Close())
	return made
}

// makerOf is the newest leaf that made a partition.
func makerOf(t *testing.T, dir string, part store.Part) *seal.Leaf {
	t.Helper()
	tree := logOf(t, dir)
	_, _, l, err := tree.MadeBy(part.String())
	must(t, errors.Join(err, tree.Close()))
	return l
}

// other changes an event's text: another record of the same length.
func other(ev *event.Event) {
	raw := slices.Clone(ev.Records[0].Raw)
	raw[len(raw)-1] ^= 1
	ev.Records[0].Raw = raw
}

// TestRewrittenAttacks: what somebody with all rights, and at last with the key, can do to what was compacted.
func TestRewrittenAttacks(t *testing.T) {
	t.Parallel()
	all := func(int, *uint64, *event.Event) bool { return true }
	first := func(i int, _ *uint64, ev *event.Event) bool {
		if i == 0 {
			other(ev)
		}
		return true
	}
	but := func(n int) func(int, *uint64, *event.Event) bool {
		return func(i int, _ *uint64, _ *event.Event) bool { return i != n }
	}
	swap := func(t *testing.T, l *seal.Leaf, made seal.Made) {
		t.Helper()
		i := slices.IndexFunc(l.Made, func(m seal.Made) bool { return m.Part == made.Part })
		l.Made[i] = made
		l.Events, l.Records = 0, 0
		for k := range l.Made {
			e, n := l.Made[k].Counts()
			l.Events, l.Records = l.Events+e, l.Records+n
		}
		l.Voucher = seal.Voucher{}
	}
	for name, tt := range map[string]struct {
		roots     bool
		attack    func(t *testing.T, s *sealedStore, part store.Part)
		laundered bool // the collector signs what it finds, before anybody looks
		want      string
		plain     string // what verify says without a checkpoint; "": nothing
	}{
		"an event was changed": {attack: func(t *testing.T, s *sealedStore, part store.Part) {
			rebuildMade(t, s.dir, part, first)
		}, want: "it was written again after compaction made it", plain: "is not what compaction made"},
		"an event was changed, and a leaf forged": {attack: func(t *testing.T, s *sealedStore, part store.Part) {
			l := makerOf(t, s.dir, part)
			swap(t, l, rebuildMade(t, s.dir, part, first))
			appendLeaf(t, s.dir, l)
		}, laundered: true, want: "the key does not vouch for it"},
		"a leaf forged by another key": {attack: func(t *testing.T, s *sealedStore, part store.Part) {
			l := makerOf(t, s.dir, part)
			swap(t, l, rebuildMade(t, s.dir, part, first))
			must(t, l.Vouch(newSealedStore(t).signer))
			appendLeaf(t, s.dir, l)
		}, laundered: true, want: "the key does not vouch for it"},
		"the leaf is forged, and roots are there": {roots: true, attack: func(t *testing.T, s *sealedStore, part store.Part) {
			l := makerOf(t, s.dir, part)
			swap(t, l, rebuildMade(t, s.dir, part, first))
			must(t, l.Vouch(s.signer))
			appendLeaf(t, s.dir, l)
		}, laundered: true, want: "its events are not those that were stored"},
		"an event is left out, with the key": {attack: func(t *testing.T, s *sealedStore, part store.Part) {
			l := makerOf(t, s.dir, part)
			swap(t, l, rebuildMade(t, s.dir, part, but(3)))
			must(t, l.Vouch(s.signer))
			appendLeaf(t, s.dir, l)
		}, laundered: true, want: "of its events are there", plain: "were written"},
		"an event is left out, and the source's count": {attack: func(t *testing.T, s *sealedStore, part store.Part) {
			l := makerOf(t, s.dir, part)
			swap(t, l, rebuildMade(t, s.dir, part, but(3)))
			l.Sources[0].Events, l.Sources[0].Records = l.Events, l.Records
			must(t, l.Vouch(s.signer))
			appendLeaf(t, s.dir, l)
		}, laundered: true, want: "were stored", plain: "were stored"},
		"an event goes to another batch": {attack: func(t *testing.T, s *sealedStore, part store.Part) {
			l := makerOf(t, s.dir, part)
			moved := uint64(0)
			swap(t, l, rebuildMade(t, s.dir, part, func(_ int, batch *uint64, _ *event.Event) bool {
				if *batch == l.First && moved == 0 {
					*batch, moved = l.First+1, 1
				}
				return true
			}))
			must(t, l.Vouch(s.signer))
			appendLeaf(t, s.dir, l)
		}, laundered: true, want: "of its events are there", plain: "events are there"},
		"a leaf that claims another partition's batches": {attack: func(t *testing.T, s *sealedStore, part store.Part) {
			l := makerOf(t, s.dir, part)
			swap(t, l, rebuildMade(t, s.dir, part, all))
			l.Sources[0].Part = partOf(3).String()
			must(t, l.Vouch(s.signer))
			appendLeaf(t, s.dir, l)
		}, laundered: true, want: "were stored"},
		"what was made is cut away": {attack: func(t *testing.T, s *sealedStore, part store.Part) {
			must(t, os.Remove(layout.PartitionPath(s.dir, part)))
		}, want: "cut away", plain: "missing"},
		"what was made is cut away, and a leaf says that it was dropped": {attack: func(t *testing.T, s *sealedStore, part store.Part) {
			must(t, os.Remove(layout.PartitionPath(s.dir, part)))
			appendLeaf(t, s.dir, &seal.Leaf{Kind: seal.Dropped, Part: part.String(), First: 1, Last: 2, Groups: 1})
		}, want: "no checkpoint has signed that it was dropped", plain: "missing"},
		"its catalogue hides the group": {attack: func(t *testing.T, s *sealedStore, part store.Part) {
			db, err := bbolt.Open(layout.PartitionPath(s.dir, part), 0o600, nil)
			must(t, err)
			must(t, db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(layout.BucketCatalog).Delete(layout.GroupKey(1)) }))
			must(t, db.Close())
		}, want: "searches do not find them", plain: "not in the catalogue"},
		"the account of completeness is changed": {attack: func(t *testing.T, s *sealedStore, part store.Part) {
			l := makerOf(t, s.dir, part)
			of, err := store.ParsePart(l.Made[0].Part)
			must(t, err)
			db, err := bbolt.Open(layout.PartitionPath(s.dir, of), 0o600, nil)
			must(t, err)
			must(t, db.Update(func(tx *bbolt.Tx) error {
				bkt, err := tx.CreateBucketIfNotExists(layout.BucketLedger)
				must(t, err)
				key := layout.RowKey("web1", 24*3600*1000, 0)
				return bkt.Put(key, layout.AddSum(key, []byte{1, 2, 3}))
			}))
			must(t, db.Close())
		}, want: "what it has of its hosts' completeness"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, before, after := compacted(t, tt.roots)
			parts := madeParts(t, s.dir)
			tt.attack(t, s, parts[0])
			if tt.laundered {
				s.open(s.dir, nil)
			}
			for i, cp := range [][]byte{before, after} {
				if rep := s.check(s.dir, cp); !slices.ContainsFunc(rep.Changed, func(c string) bool { return strings.Contains(c, tt.want) }) {
					t.Errorf("checkpoint %d: %q\n%q", i, rep.Changed, rep.Notes)
				}
			}
			rep, err := Verify(t.Context(), VerifyOptions{Dir: s.dir})
			must(t, err)
			if tt.plain != "" && !slices.ContainsFunc(rep.Damage, func(c string) bool { return strings.Contains(c, tt.plain) }) {
				t.Errorf("verify: %q\n%q", rep.Damage, rep.Notes)
			}
		})
	}
}

// A partition with compaction's mark of which the log has no word was put there.
func TestMadeInserted(t *testing.T) {
	t.Parallel()
	s := newSealedStore(t)
	cp := s.open(s.dir, func(st *bolt.Store) { s.days(st, 3) })
	before := s.copyOf()
	s.open(s.dir, func(st *bolt.Store) { s.compact(s.dir, st) })
	must(t, os.RemoveAll(filepath.Join(s.dir, seal.Dir))) // the log as it was before
	must(t, os.CopyFS(filepath.Join(s.dir, seal.Dir), os.DirFS(filepath.Join(before, seal.Dir))))
	if rep := s.check(s.dir, cp); !slices.ContainsFunc(rep.Changed, func(c string) bool { return strings.Contains(c, "inserted: the log has no word of its being made") }) {
		t.Errorf("%q", rep.Changed)
	}
	rep, err := Verify(t.Context(), VerifyOptions{Dir: s.dir})
	must(t, err)
	if !slices.ContainsFunc(rep.Damage, func(c string) bool { return strings.Contains(c, "the log has no word of it") }) {
		t.Errorf("%q", rep.Damage)
	}
}

// A backup of a store that was compacted is that store, and one that is made while a compaction has come to no end is what counts.
func TestBackupCompacted(t *testing.T) {
	t.Parallel()
	s, before, after := compacted(t, true)
	target := filepath.Join(t.TempDir(), "backup")
	mustBackup(t, s.dir, target)
	back := restore(t, target)
	s.clean(back, before, after)
	want, err := contents(t, s.dir)
	must(t, err)
	if got, err := contents(t, back); err != nil || !slices.Equal(got, want) {
		t.Errorf("%d lines, %v, want %d", len(got), err, len(want))
	}
	if rep := mustBackup(t, s.dir, target); rep.Kept == 0 {
		t.Errorf("again: %+v", rep)
	}
	// A file that was rewritten is there still, and one that was made and does not count.
	part := madeParts(t, s.dir)[0]
	l := makerOf(t, s.dir, part)
	b, err := os.ReadFile(layout.PartitionPath(s.dir, part))
	must(t, err)
	src, err := store.ParsePart(l.Sources[0].Part)
	must(t, err)
	must(t, os.WriteFile(layout.PartitionPath(s.dir, src), b, 0o600)) // not quite what it was
	rep, err := Backup(t.Context(), BackupOptions{Dir: s.dir, Target: target})
	must(t, err)
	if len(rep.Damage) == 0 || !strings.Contains(rep.Damage[0], "the next start sets it aside") {
		t.Errorf("%q", rep.Damage)
	}
	back = restore(t, target)
	s.clean(back, before, after)
}

// What is readable of a partition that compaction made and that is damaged is put back, and salvage brings back the rest as far as it can be read.
func TestMadeDamaged(t *testing.T) {
	t.Parallel()
	s, _, _ := compacted(t, false)
	want, err := contents(t, s.dir)
	must(t, err)
	part := madeParts(t, s.dir)[1]
	path := layout.PartitionPath(s.dir, part)
	aside := path + layout.AsideMark + "1"
	must(t, os.Rename(path, aside))
	rep := mustSalvage(t, s.dir, aside)
	if rep.Events == 0 || rep.Lost != 0 || len(rep.Damage) > 0 {
		t.Errorf("%+v", rep)
	}
	if got, err := contents(t, s.dir); err != nil || !slices.Equal(got, want) {
		t.Errorf("%d lines, %v, want %d", len(got), err, len(want))
	}
	v, err := Verify(t.Context(), VerifyOptions{Dir: s.dir})
	must(t, err)
	if len(v.Damage) > 0 {
		t.Errorf("salvaged: %q", v.Damage)
	}

	s, before, _ := compacted(t, false)
	part = madeParts(t, s.dir)[1]
	db, err := bbolt.Open(layout.PartitionPath(s.dir, part), 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bbolt.Tx) error { // its catalogue cannot be read: a start repairs it
		return tx.Bucket(layout.BucketCatalog).Put(layout.GroupKey(1), []byte{1, 2, 3})
	}))
	must(t, db.Close())
	s.open(s.dir, nil)
	if aside, err := filepath.Glob(layout.PartitionPath(s.dir, part) + layout.AsideMark + "*"); err != nil || len(aside) != 1 {
		t.Errorf("set aside: %q, %v", aside, err)
	}
	if got, err := contents(t, s.dir); err != nil || !slices.Equal(got, want) {
		t.Errorf("repaired: %d lines, %v, want %d", len(got), err, len(want))
	}
	if rep := s.check(s.dir, before); len(rep.Changed) > 0 {
		t.Errorf("repaired: %q", rep.Changed)
	}
}

// Verifying and copying a store finds nothing wrong while a collector compacts it.
func TestVerifyBesideCompaction(t *testing.T) {
	t.Parallel()
	s := newSealedStore(t)
	st, err := bolt.Open(bolt.Options{Dir: s.dir, LockTimeout: -1})
	must(t, err)
	log := s.log(s.dir, st)
	st.VouchWith(log.Vouch)
	s.days(st, 4)
	cp, _, err := log.Checkpoint(t.Context())
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 4 {
			for {
				c, err := st.Compact(context.Background(), longOver)
				if err != nil {
					t.Errorf("compact: %v", err)
				}
				if c == nil || err != nil {
					break
				}
			}
			s.days(st, 5)
			if err := st.Rotate(context.Background()); err != nil {
				t.Errorf("rotate: %v", err)
			}
		}
	}()
	target := filepath.Join(t.TempDir(), "backup")
	for n := 0; ; n++ {
		rep, err := Verify(t.Context(), VerifyOptions{Dir: s.dir})
		if err != nil || len(rep.Damage) > 0 {
			t.Errorf("verify: %q, %v", rep.Damage, err)
		}
		sealed, err := Sealed(t.Context(), SealedOptions{Dir: s.dir, Checkpoint: cp, Keys: s.keys})
		if err != nil || len(sealed.Changed) > 0 {
			t.Errorf("against a checkpoint: %+v, %v", sealed, err)
		}
		if b, err := Backup(t.Context(), BackupOptions{Dir: s.dir, Target: target}); err != nil || len(b.Damage) > 0 {
			t.Errorf("backup: %+v, %v", b, err)
		} else if rep, err := Verify(t.Context(), VerifyOptions{Dir: filepath.Join(target, backupStore)}); err != nil || len(rep.Damage) > 0 {
			t.Errorf("the copy: %q, %v", rep.Damage, err)
		} else if sealed, err := Sealed(t.Context(), SealedOptions{Dir: filepath.Join(target, backupStore), Checkpoint: cp, Keys: s.keys}); err != nil || len(sealed.Changed) > 0 {
			t.Errorf("the copy, against a checkpoint: %q, %v", sealed.Changed, err)
		}
		if t.Failed() {
			break
		}
		select {
		case <-done:
			if n > 0 {
				must(t, st.Close())
				return
			}
		default:
		}
	}
	<-done
	must(t, st.Close())
}

// A log that is begun anew has what compaction made as it is found; verifying says so.
func TestMadeFoundVerifies(t *testing.T) {
	t.Parallel()
	s, before, _ := compacted(t, false)
	must(t, os.RemoveAll(filepath.Join(s.dir, seal.Dir)))
	s.open(s.dir, nil)
	rep, err := Verify(t.Context(), VerifyOptions{Dir: s.dir})
	must(t, err)
	if len(rep.Damage) > 0 {
		t.Errorf("%q", rep.Damage)
	}
	if rep := s.check(s.dir, before); !slices.ContainsFunc(rep.Changed, func(c string) bool {
		return strings.Contains(c, "are not those that were signed") || strings.Contains(c, "the log has")
	}) {
		t.Errorf("%q", rep.Changed)
	}
}

// What an import brought is sealed and compacted as the rest, between whose batches its own are.
func TestImportCompacted(t *testing.T) {
	t.Parallel()
	s := newSealedStore(t)
	s.flat = true
	before := s.open(s.dir, func(st *bolt.Store) {
		s.days(st, 3)
		for i := range 3 {
			s.next++
			tab := store.NewTable()
			g := storetest.NewGenerator(s.next*100, storetest.Templates(t), 3, storetest.Start.AddDate(-1, 0, i))
			storetest.Fill(tab, g, 8)
			must(t, st.Append(t.Context(), &store.Batch{ID: s.next, Day: partOf(2).Day, Events: tab, LSN: (s.next - uint64(i) - 1) * 10, Import: &store.Import{Name: "old"}, Hosts: s.counted(st, tab)}))
		}
		s.days(st, 4)
	})
	how := longOver
	how.ImportAfter = how.After
	after := s.open(s.dir, func(st *bolt.Store) {
		st.VouchWith(s.log(s.dir, st).Vouch)
		for {
			done, err := st.Compact(t.Context(), how)
			must(t, err)
			if done == nil {
				break
			}
		}
	})
	if parts := madeParts(t, s.dir); len(parts) == 0 || parts[0].Day.Time().Year() != storetest.Start.Year()-1 {
		t.Errorf("%v", parts)
	}
	s.clean(s.dir, before, after)
	target := filepath.Join(t.TempDir(), "backup")
	mustBackup(t, s.dir, target)
	s.clean(restore(t, target), before, after)
}

// A day of which a part was lost to damage, which was dealt with, is compacted: plain verifying calls nothing damaged for ever, and a checkpoint shows what is gone.
func TestDamagedThenCompacted(t *testing.T) {
	t.Parallel()
	s := newSealedStore(t)
	s.flat = true
	before := s.open(s.dir, func(st *bolt.Store) { s.days(st, 4) })
	edit(t, s.dir, 0, func(tx *bbolt.Tx) error {
		key := layout.GroupKey(2)
		return errors.Join(tx.Bucket(layout.BucketGroups).DeleteBucket(key), tx.Bucket(layout.BucketCatalog).Put(key, []byte{1}))
	})
	s.open(s.dir, nil) // repairs it
	aside, err := filepath.Glob(layout.PartitionPath(s.dir, partOf(0)) + layout.AsideMark + "*")
	must(t, err)
	if len(aside) != 1 {
		t.Fatalf("set aside: %q", aside)
	}
	must(t, os.Remove(aside[0]))
	s.open(s.dir, func(st *bolt.Store) { s.compact(s.dir, st) })
	rep, err := Verify(t.Context(), VerifyOptions{Dir: s.dir})
	must(t, err)
	damage := slices.DeleteFunc(rep.Damage, func(d string) bool { return strings.Contains(d, "records are counted") }) // of hosts, as before
	if len(damage) > 0 {
		t.Errorf("%q", damage)
	}
	if rep := s.check(s.dir, before); !slices.ContainsFunc(rep.Changed, func(c string) bool { return strings.Contains(c, "batch 2: it was written again") }) {
		t.Errorf("%q", rep.Changed)
	}
}

// A day that is divided by classes of retention is what was stored, and so is what is left of it once a class was dropped.
func TestClassesAreSealed(t *testing.T) {
	t.Parallel()
	s := newSealedStore(t)
	before := s.open(s.dir, func(st *bolt.Store) {
		st.ProveEvents(true)
		s.days(st, 3)
	})
	how := longOver
	how.Classes = store.Classes{{Hosts: "web1*"}}
	after := s.open(s.dir, func(st *bolt.Store) {
		st.VouchWith(s.log(s.dir, st).Vouch)
		for {
			done, err := st.Compact(t.Context(), how)
			must(t, err)
			if done == nil {
				return
			}
		}
	})
	s.clean(s.dir, before, after)
	parts := madeParts(t, s.dir)
	if len(parts) < 4 {
		t.Errorf("%v", parts)
	}
	dropped := s.open(s.dir, func(st *bolt.Store) { must(t, st.Drop(t.Context(), parts[0], "retain web1*: 1d")) })
	for _, cp := range [][]byte{before, after, dropped} {
		if rep := s.check(s.dir, cp); len(rep.Changed) > 0 {
			t.Errorf("%q", rep.Changed)
		}
	}
	if rep, err := Verify(t.Context(), VerifyOptions{Dir: s.dir}); err != nil || len(rep.Damage) > 0 {
		t.Errorf("%q, %v", rep.Damage, err)
	}
}
